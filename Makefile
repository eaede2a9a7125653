# `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ARGS ?=
SUITE ?= bookworm
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
PARALLEL := -q -n 4 --dist worksteal
QUICK := -m "not slow"
export TIMEFORMAT = make $@: %0R s (CPU time: %0U s + %0S s of the system)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="--speed 60" make demo passes options on; PYTHON=python3.12 uses another Python'

.PHONY: demo
demo: .venv/.exporter ## serve /metrics of four virtual batteries on port 12200 (no Bluetooth, no root)
	@exec $(BIN)/bms-exporter demo $(ARGS)

.PHONY: install
install: .venv/.exporter $(EXTRAS:%=.venv/.%) ## install into .venv: .venv/bin/bms-exporter; EXTRAS=esphome adds proxies

.PHONY: deb
deb: .venv/bin/python ## make build/bms-exporter.deb, with the service in it
	@EXTRAS='$(EXTRAS)' scripts/deb

.PHONY: test
test: check ## lint, check types, run every test on one Python; ARGS="tests/web -k stream" runs some
	@time { \
		$(BIN)/python -m coverage erase; \
		$(BIN)/python -m pytest $(PARALLEL) $(or $(ARGS),$(QUICK) --measure-coverage); \
		[ -n '$(ARGS)' ] || { $(BIN)/python -m coverage combine --quiet; $(BIN)/python -m coverage report; }; }

.PHONY: quick
quick: .venv/.tools ## run some tests, without linting and coverage: make quick ARGS=tests/protocol/test_auth.py
	@time $(BIN)/python -m pytest -q $(ARGS)

.PHONY: test-slow
test-slow: .venv/.tools ## run the tests that `make test` leaves out: more hostile clients
	@time $(BIN)/python -m pytest $(PARALLEL) -m slow $(ARGS)

.PHONY: test-others
test-others: ## run the tests on every other Python found
	@scripts/other-pythons | while read -r python; do $(MAKE) --no-print-directory test-with WITH=$$python; done

.PHONY: test-all
test-all: test test-slow test-others ## the same on every Python found, and what takes long on one

.PHONY: test-with
test-with: ## run the tests with one other Python: make test-with WITH=python3.13
	@venv=.venv-$$($(WITH) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	[ $$venv/.tools -nt requirements-dev.lock ] || { \
		$(WITH) -m venv $$venv; \
		$$venv/bin/python $(PIP) --require-hashes -r requirements-dev.lock; \
		$$venv/bin/python $(PIP) --no-deps --no-build-isolation -e .; \
		touch $$venv/.tools; }; \
	time EXAMPLES=20 $$venv/bin/python -m pytest $(PARALLEL) $(or $(ARGS),$(QUICK))

.PHONY: check
check: .venv/.tools ## lint, check types and spelling only
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff . ; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/codespell && $(BIN)/codespell --check-hidden .github

.PHONY: docs
docs: .venv/.tools ## write metrics.md, configuration.md, licences.md, dashboards, shell completion and the man page
	@$(BIN)/python scripts/configuration_doc.py >docs/configuration.md
	@$(BIN)/python scripts/metrics_doc.py >docs/metrics.md
	@$(BIN)/python scripts/licences.py >docs/licences.md
	@$(BIN)/python scripts/dashboards.py grafana/dashboards
	@$(BIN)/python scripts/cli_docs.py deploy

.PHONY: pictures
pictures: .venv/.tools ## draw the dashboards into docs/pictures (root on Debian; npm and Chromium are installed)
	@time scripts/pictures/make $(ARGS)

.PHONY: bench-hold
bench-hold: ## what a reading costs its battery, beside others (root on Debian)
	@BMS_BLUEZ_EXTRA=aiobmsble tests/bluez/vm/run --suite trixie --timeout 3000 "python bench/hold.py $(ARGS)"

.PHONY: bench
bench: bench-hold bench-scrapes bench-coalescing bench-small ## every benchmark

.PHONY: bench-scrapes
bench-scrapes: .venv/.bench ## latency and scrapes a second, beside others (Debian's wrk, prometheus-node-exporter)
	@time $(BIN)/python bench/scrapes.py $(ARGS)

.PHONY: bench-small
bench-small: .venv/.tools ## what it costs a small machine: memory, start, processor time, wake-ups
	@$(BIN)/python bench/small.py $(ARGS)

.PHONY: bench-coalescing
bench-coalescing: .venv/.tools ## 10,000 scrapes at once, 64 batteries on one to four adapters
	@$(BIN)/python bench/coalescing.py $(ARGS)

.PHONY: fuzz
fuzz: .venv/.fuzz ## look for input that breaks a promise: ARGS="--seconds 60 --target frame"
	@time fuzz/run $(ARGS)

.PHONY: lock
lock: .venv-release/.tools ## renew all lock files
	scripts/lock .venv-release/bin/pip-compile

.PHONY: dist
dist: .venv-release/.tools ## build dist/ from the last commit: sdist, wheel, SBOM; check them
	@time scripts/release/make .venv-release

.PHONY: test-dist
test-dist: .venv/.tools .venv-release/.tools ## build the last commit twice, compare, install, run; what the lock has for each platform
	@time REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q $(ARGS) tests/release

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bms-exporter needs Python 3.11 or newer")'
	@$(PYTHON) -m venv .venv || { echo 'No venv: apt install python3-venv'; rm -rf .venv; exit 1; }

.venv/.exporter: .venv/bin/python requirements.lock pyproject.toml
	@echo 'Installing into .venv ...'
	@$(BIN)/python $(PIP) --require-hashes -r requirements.lock
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.esphome: .venv/.exporter requirements-esphome.lock
	@[ "$$(uname -m)" != armv7l ] || { echo 'Proxies are not offered on armv7l: their library needs a compiler there.'; exit 1; }
	@$(BIN)/python $(PIP) --require-hashes -r requirements-esphome.lock
	@touch $@

.venv/.tools: .venv/.exporter requirements-dev.lock
	@$(BIN)/python $(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.fuzz: .venv/.tools fuzz/requirements.lock
	@$(BIN)/python $(PIP) --require-hashes -r fuzz/requirements.lock
	@touch $@

.venv/.page: .venv/.tools tests/page/requirements.lock
	@$(BIN)/python $(PIP) --require-hashes -r tests/page/requirements.lock
	@touch $@

.venv/.api: .venv/.tools tests/api/requirements.lock
	@$(BIN)/python $(PIP) --require-hashes -r tests/api/requirements.lock
	@touch $@

.venv/.bench: .venv/.tools bench/requirements.lock
	@$(BIN)/python $(PIP) --require-hashes -r bench/requirements.lock
	@touch $@

.venv-release/.tools: scripts/release/requirements.lock
	@$(PYTHON) -m venv .venv-release
	@.venv-release/bin/python $(PIP) --require-hashes -r $<
	@touch $@

.PHONY: test-bluez
test-bluez: ## the scenarios against Linux's Bluetooth and a real bluetoothd in a virtual machine (root on Debian)
	@time tests/bluez/vm/run --suite $(SUITE) --timeout 2400 --out build/bluez-$(SUITE) \
		"BMS_WORLD=vm python -m pytest -p no:cacheprovider -v --tb=short --durations=5 $(ARGS) tests/bluez/test_scenarios.py tests/bluez/test_air.py"

.PHONY: test-systemd
test-systemd: ## install the service as README.md says, under systemd in the same virtual machine
	@time tests/bluez/vm/run --systemd --suite $(SUITE) --timeout 1500 --out build/systemd-$(SUITE) \
		"python -m pytest -p no:cacheprovider -q --tb=short --durations=5 $(ARGS) tests/systemd"

.PHONY: test-dbus
test-dbus: .venv/.tools ## faults of bluetoothd, and the scenarios, on a fake one (needs dbus-daemon)
	@time BMS_WORLD=fake REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q -n 6 --dist worksteal $(ARGS) tests/bluez -k 'not direct'

.PHONY: test-page
test-page: .venv/.page ## the page in a real browser (needs Debian's chromium)
	@time REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS) tests/page

.PHONY: test-api
test-api: .venv/.api ## the API against its OpenAPI description, with schemathesis
	@time $(BIN)/python -m pytest -q $(ARGS) tests/api

.PHONY: pictures-page
pictures-page: .venv/.page ## draw the page into docs/pictures (needs Debian's chromium)
	@PYTHONPATH=. $(BIN)/python tests/page/pictures.py $(or $(ARGS),docs/pictures)

.PHONY: test-stack
test-stack: .venv/.tools ## alerts and dashboards with Prometheus, Alertmanager, VictoriaMetrics (Debian's packages)
	@time $(BIN)/python -m pytest -q $(ARGS) tests/stack

.PHONY: test-image
test-image: .venv/.tools ## lint and build the Dockerfile, run the image (root on Debian; buildah is installed)
	@time { tests/image/build && REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q $(ARGS) tests/image; }

.PHONY: soak
soak: .venv/.tools ## 10,000 polls with random faults: nothing grows, all adds up (needs dbus-daemon)
	@time PYTHONPATH=.:tests/bluez $(BIN)/python tests/bluez/soak.py $(ARGS)
