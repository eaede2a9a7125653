# docker build -t bms-exporter . && docker run --rm -p 12200:12200 bms-exporter demo
# How to run it with real batteries: docs/container.md. make test-image builds and runs it.
# Packages are pinned by hash (requirements.lock). The base image is not: its digest belongs here, but no registry of
# images was at hand. `docker buildx imagetools inspect python:3.13-slim-trixie` tells it; append @sha256:...
# linux/amd64 and linux/arm64 install wheels alone. linux/arm/v7 has none of dbus-fast, PyYAML and Tornado: pip builds them in
# pure Python, without a compiler, with build tools that are not pinned.
FROM python:3.13-slim-trixie AS build
WORKDIR /src
# The venv stays without pip: that of the base image installs into it.
ENV PIP_PYTHON=/opt/bms-exporter PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# --build-arg EXTRAS=esphome adds the library for proxies.
ARG EXTRAS=
COPY requirements.lock requirements-esphome.lock ./
RUN python -m venv --without-pip /opt/bms-exporter && \
    pip install --require-hashes -r requirements.lock ${EXTRAS:+-r requirements-${EXTRAS}.lock}
COPY pyproject.toml README.md LICENSE config.example.yaml ./
COPY exporter exporter
RUN pip install --no-deps --no-build-isolation . && pip uninstall --yes flit_core

FROM python:3.13-slim-trixie
COPY --from=build /opt/bms-exporter /opt/bms-exporter
# HEALTH: where --web.listen-address can be reached, if that is changed.
ENV PATH=/opt/bms-exporter/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HEALTH=127.0.0.1:12200
USER 65534:65534
EXPOSE 12200
# Any reaction is health, with TLS and users too: only a program that runs answers, or hangs up on, a plain request.
HEALTHCHECK --interval=60s --timeout=5s --start-period=10s CMD ["python", "-ISc", "import os, socket, contextlib; s = socket.create_connection(os.environ['HEALTH'].rsplit(':', 1), 4); s.sendall(b'GET /-/healthy HTTP/1.0\\r\\n\\r\\n')\nwith contextlib.suppress(ConnectionError): s.recv(1)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["bms-exporter"]
CMD ["--config.file", "/etc/bms-exporter/config.yaml"]
