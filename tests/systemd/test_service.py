"""The service in a virtual machine, installed as README.md says; run by `make test-systemd`."""

import json
import os
import pwd
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.support.paths import PROJECT

CLONE: Final = Path("/home/camper/bms-exporter")
PACKAGES: Final = Path("/run/job")  # tests/bluez/vm/build has made them
CONFIG: Final = Path("/etc/bms-exporter/config.yaml")
UNIT: Final = Path("/usr/lib/systemd/system/bms-exporter.service")
DROP_IN: Final = Path("/run/systemd/system/bms-exporter.service.d/test.conf")
ONE: Final = 'batteries:\n  - {name: camper, address: "A4:C1:38:00:00:02"}\n'
TWO: Final = ONE + '  - {name: garage, address: "A4:C1:38:00:00:03"}\n'
# As dpkg does it: the last argument is the version configured before, and there is none.
FIRST_CONFIGURATION: Final = (
    "env DPKG_MAINTSCRIPT_PACKAGE=bms-exporter "
    "/var/lib/dpkg/info/bms-exporter.postinst configure ''"
)
SOCKET: Final = "bms-exporter.socket"
NET_ADMIN: Final = 1 << 12


def commands(document: str, heading: str) -> list[str]:
    """Return the commands of the first block under a heading."""
    chapter = (PROJECT / document).read_text(encoding="utf-8").split(f"\n{heading}\n")[1]
    return chapter.split("```sh\n")[1].split("```")[0].splitlines()


def run_as_camper(command: str, *, answer: str = "") -> str:
    """Run a command as a user who may use sudo; return its output."""
    done = subprocess.run(
        ["sudo", "-u", "camper", "bash", "-c", f"({command}) 2>&1"],
        cwd=CLONE,
        input=answer,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Install the service as README.md says.

    tests/bluez/vm/build has run the first command in the same Debian, outside the emulator: here
    it would take minutes.
    """
    (CLONE / "build").mkdir(parents=True)
    shutil.copy(PACKAGES / "bms-exporter.deb", CLONE / "build")
    (CLONE / "config.yaml").write_text(ONE)
    make, *others = commands("README.md", "## As a service")
    assert (make, len(others)) == ("make deb", 2)
    for command in others:
        run_as_camper(command)
    assert is_active(), history()
    assert CONFIG.read_text() == ONE


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    if CONFIG.parent.exists():
        CONFIG.write_text(ONE)
    DROP_IN.unlink(missing_ok=True)


def systemctl(action: str, *options: str) -> subprocess.CompletedProcess[str]:
    unit = [] if action == "daemon-reload" else ["bms-exporter"]
    return subprocess.run(
        ["systemctl", action, *options, *unit], capture_output=True, text=True, check=False
    )


def systemctl_output(action: str, *options: str) -> str:
    return systemctl(action, *options).stdout.strip()


def restart(drop_in: str = "", config: str = ONE) -> None:
    """Restart the service with a changed unit or configuration."""
    CONFIG.write_text(config)
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text(f"[Service]\n{drop_in}\n")
    systemctl("daemon-reload")
    systemctl("reset-failed")  # the starts of earlier tests do not count towards the limit
    result = systemctl("restart")
    assert result.returncode == 0, journal()


def is_active() -> bool:
    return systemctl_output("is-active") == "active"


def pid() -> int:
    return int(systemctl_output("show", "--property=MainPID", "--value"))


def journal() -> str:
    """Return the log of the current start, or of the last one."""
    invocation = systemctl_output("show", "--property=InvocationID", "--value")
    everything = [
        "journalctl",
        "--no-pager",
        "--output=cat",
        f"_SYSTEMD_INVOCATION_ID={invocation}",
    ]
    ours = subprocess.run(everything, capture_output=True, text=True, check=True).stdout
    assert ours, "nothing in the journal"
    return ours


def history() -> str:
    """Return the log of systemd about the service, and of all its starts."""
    command = ["journalctl", "--no-pager", "--output=cat", "--unit=bms-exporter"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def scrape_up() -> dict[str, float]:
    """Return bms_up by battery."""
    text = httpx.get("http://localhost:12200/metrics", timeout=120).text
    return {
        sample.labels["battery"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "bms_up"
    }


def wait_until(done: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + 300
    while not done():
        assert time.monotonic() < end_s, f"{what}\n{history()[-3000:]}"
        time.sleep(0.5)


class TestReading:
    def test_service_reads_over_the_direct_link_with_management(self) -> None:
        restart()

        assert scrape_up() == {"camper": 1.0}
        assert re.search(r"sockets\" link=direct management=release,parameters", journal())

    def test_service_reads_through_bluetoothd(self) -> None:
        restart(config="link: bluez\n" + ONE)

        assert scrape_up() == {"camper": 1.0}
        assert "link=bluez" in journal()

    def test_service_without_the_capability_reads_over_the_direct_link(self) -> None:
        restart("AmbientCapabilities=\nCapabilityBoundingSet=")

        assert scrape_up() == {"camper": 1.0}
        assert "link=direct management=none" in journal()

    def test_service_runs_as_its_own_user_with_one_capability(self) -> None:
        restart()

        status = Path(f"/proc/{pid()}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert int(fields["Uid"].split()[0]) == pwd.getpwnam("bms-exporter").pw_uid != 0
        assert {int(fields[f"Cap{which}"], 16) for which in ("Eff", "Prm", "Bnd")} == {NET_ADMIN}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


class TestStart:
    def test_service_answers_as_soon_as_systemd_has_started_it(self) -> None:
        restart()

        assert httpx.get("http://localhost:12200/-/healthy", timeout=60).is_success

    def test_hanging_service_is_restarted(self) -> None:
        restart("WatchdogSec=10s")
        before = pid()

        os.kill(before, signal.SIGSTOP)

        wait_until(lambda: pid() not in (0, before) and is_active(), "not restarted")
        assert "Watchdog timeout" in history()
        assert scrape_up() == {"camper": 1.0}

    def test_killed_service_is_restarted(self) -> None:
        restart()
        before = pid()

        os.kill(before, signal.SIGKILL)

        wait_until(lambda: pid() not in (0, before) and is_active(), "not restarted")
        assert scrape_up() == {"camper": 1.0}

    def test_service_with_an_invalid_configuration_logs_it_and_is_given_up(self) -> None:
        CONFIG.write_text("batteries: []\n")

        assert systemctl("restart").returncode != 0

        wait_until(lambda: systemctl_output("is-failed") == "failed", "not given up")
        assert int(systemctl_output("show", "--property=NRestarts", "--value")) < 6
        assert ":1: batteries: expected at least one battery" in history()


class TestReload:
    def test_reload_applies_a_changed_configuration(self) -> None:
        restart()
        before = pid()
        CONFIG.write_text(TWO)

        assert systemctl("reload").returncode == 0

        wait_until(lambda: "configuration reloaded" in journal(), "not reloaded")
        assert scrape_up() == {"camper": 1.0, "garage": 1.0}
        assert pid() == before

    def test_reload_of_an_invalid_configuration_fails_and_changes_nothing(self) -> None:
        restart()
        before = pid()
        CONFIG.write_text(TWO + "  - {name: garage}\n")

        assert systemctl("reload").returncode != 0

        assert "batteries[2].address" in history()
        assert (systemctl_output("is-active"), pid()) == ("active", before)
        assert scrape_up() == {"camper": 1.0}


@pytest.fixture
def systemd_socket() -> Iterator[None]:
    systemctl("stop")
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text("[Service]\nEnvironment=ARGS=--web.systemd-socket\n")
    systemctl("daemon-reload")
    subprocess.run(["systemctl", "enable", "--now", SOCKET], check=True)
    yield
    subprocess.run(["systemctl", "disable", "--now", SOCKET], check=True)


@pytest.mark.usefixtures("systemd_socket")
def test_restart_behind_the_systemd_socket_refuses_no_connection() -> None:
    assert systemctl_output("is-active") == "inactive"
    assert scrape_up() == {"camper": 1.0}  # the request has started it
    before, answers, done = pid(), list[int](), threading.Event()

    def keep_requesting() -> None:
        while not done.is_set():
            answer = httpx.get("http://localhost:12200/-/healthy", timeout=120)
            answers.append(answer.status_code)

    requesting = threading.Thread(target=keep_requesting)
    requesting.start()
    systemctl("restart")
    done.set()
    requesting.join()

    assert pid() not in (0, before)
    assert set(answers) == {200}


class TestSecrets:
    def test_service_reads_a_password_file_that_other_users_cannot_read(self) -> None:
        password = CONFIG.parent / "camper.pin"
        password.write_text("123456\n")
        password.chmod(0o640)
        shutil.chown(password, "root", "bms-exporter")
        restart(config=ONE.replace("}", ", password_file: camper.pin}"))

        assert scrape_up() == {"camper": 0.0}  # this battery has no password exchange
        assert "no answer to the password exchange" in journal()
        assert systemctl("reload").returncode == 0

    def test_service_serves_tls_with_a_key_that_only_root_can_read(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        (CONFIG.parent / "camper.crt").write_bytes(certificate.cert_chain_pems[0].bytes())
        key = CONFIG.parent / "camper.key"
        key.touch(mode=0o600)
        key.write_bytes(certificate.private_key_pem.bytes())
        web = CONFIG.parent / "web.yml"
        web.write_text(
            "tls_server_config:\n  cert_file: camper.crt\n"
            "  key_file: /run/credentials/bms-exporter.service/camper.key\n"
        )
        restart(f"LoadCredential=camper.key:{key}\nEnvironment=ARGS=--web.config.file={web}")

        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        answer = httpx.get("https://localhost:12200/-/healthy", verify=trust, timeout=60)
        assert answer.is_success


class TestUnit:
    def test_security_md_explains_every_exposure_that_systemd_reports(self) -> None:
        analyze = ["systemd-analyze", "security", "--offline=true", "--threshold=20"]
        result = subprocess.run(
            [*analyze, "--json=short", str(UNIT)], capture_output=True, text=True, check=False
        )
        explained = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")

        assert result.returncode == 0, result.stdout
        points = {point["name"] for point in json.loads(result.stdout) if point["exposure"]}
        assert {point for point in points if f"`{point}`" not in explained} == set()

    def test_systemd_accepts_every_line_of_the_units(self) -> None:
        units = [str(UNIT), str(UNIT.with_suffix(".socket"))]
        result = subprocess.run(
            ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
        )

        assert (result.returncode, result.stderr) == (0, "")


class TestPackage:
    """In this order: upgraded, without a configuration, removed, purged."""

    def test_upgrade_installs_the_changed_program_and_keeps_the_configuration(self) -> None:
        restart(config=TWO)
        before = pid()
        shutil.copy(PACKAGES / "changed.deb", CLONE / "build/bms-exporter.deb")

        run_as_camper(commands("docs/service.md", "## Upgrade")[-1])

        program = Path("/usr/lib/bms-exporter/exporter/__init__.py").read_text()
        assert program.endswith("# changed\n")
        assert CONFIG.read_text() == TWO
        assert pid() not in (0, before)
        assert scrape_up() == {"camper": 1.0, "garage": 1.0}

    def test_service_without_a_battery_is_skipped_until_one_is_configured(self) -> None:
        systemctl("stop")
        CONFIG.unlink()

        # As at a first installation; another one would take a minute.
        output = run_as_camper(f"sudo {FIRST_CONFIGURATION}")

        assert "sudo bms-exporter scan" in output
        assert {line[:1] for line in CONFIG.read_text().splitlines()} == {"#", ""}
        assert systemctl_output("is-enabled") == "enabled"
        assert systemctl("start").returncode == 0  # as at the next boot
        assert systemctl_output("is-failed") == "inactive"
        assert history().count("No battery is configured yet") == 2

        CONFIG.write_text(CONFIG.read_text() + ONE)
        assert systemctl("restart").returncode == 0

        assert scrape_up() == {"camper": 1.0}

    def test_removed_package_leaves_the_configuration_and_nothing_running(self) -> None:
        run_as_camper(commands("docs/service.md", "## Remove")[0], answer="y\n")

        assert systemctl_output("is-active") == "inactive"
        assert not Path("/usr/bin/bms-exporter").exists()
        assert CONFIG.exists()

    def test_purged_package_leaves_only_its_user(self) -> None:
        drop_in = Path("/etc/systemd/system/bms-exporter.service.d/override.conf")
        drop_in.parent.mkdir()
        drop_in.write_text("[Service]\nEnvironment=ARGS=\n")

        run_as_camper(commands("docs/service.md", "## Remove")[1], answer="y\n")

        find = ["find", "/etc", "/usr", "/var", "-xdev", "-name", "*bms-exporter*"]
        left = subprocess.run(find, capture_output=True, text=True, check=True)
        assert left.stdout == ""
        assert pwd.getpwnam("bms-exporter")
