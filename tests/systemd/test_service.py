"""The service on a machine of its own, as README.md installs it: run by `make test-systemd`."""

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
CONFIG: Final = Path("/etc/bms-exporter/config.yaml")
UNIT: Final = Path("/usr/lib/systemd/system/bms-exporter.service")
DROP_IN: Final = Path("/run/systemd/system/bms-exporter.service.d/test.conf")
ONE: Final = 'batteries:\n  - {name: camper, address: "A4:C1:38:00:00:02"}\n'
TWO: Final = ONE + '  - {name: garage, address: "A4:C1:38:00:00:03"}\n'
SOCKET: Final = "bms-exporter.socket"
NET_ADMIN: Final = 1 << 12


def three_commands() -> list[str]:
    """Return what README.md says under "As a service"."""
    chapter = (PROJECT / "README.md").read_text(encoding="utf-8").split("## As a service")[1]
    return chapter.split("```sh\n")[1].split("```")[0].splitlines()


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Follow README.md as a user who may use sudo.

    tests/bluez/vm/build has run the first command, in the same Debian at the speed of real
    processors: here it takes minutes.
    """
    (CLONE / "build").mkdir(parents=True)
    shutil.copy("/run/job/bms-exporter.deb", CLONE / "build")
    (CLONE / "config.yaml").write_text(ONE)
    make, *others = three_commands()
    assert (make, len(others)) == ("make deb", 2)
    for command in others:
        subprocess.run(["sudo", "-u", "camper", "bash", "-c", command], cwd=CLONE, check=True)
    assert said("is-active") == "active", history()


@pytest.fixture(autouse=True)
def healed() -> Iterator[None]:
    yield
    CONFIG.write_text(ONE)
    DROP_IN.unlink(missing_ok=True)


def systemctl(action: str, *options: str) -> subprocess.CompletedProcess[str]:
    unit = [] if action == "daemon-reload" else ["bms-exporter"]
    return subprocess.run(
        ["systemctl", action, *options, *unit], capture_output=True, text=True, check=False
    )


def said(action: str, *options: str) -> str:
    return systemctl(action, *options).stdout.strip()


def restarted(drop_in: str = "", config: str = ONE) -> None:
    """Start it anew with a changed unit or configuration."""
    CONFIG.write_text(config)
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text(f"[Service]\n{drop_in}\n")
    systemctl("daemon-reload")
    systemctl("reset-failed")  # nor do the starts of earlier tests count
    result = systemctl("restart")
    assert result.returncode == 0, journal()


def pid() -> int:
    return int(said("show", "--property=MainPID", "--value"))


def journal() -> str:
    """Return what this start, or the last, has logged."""
    invocation = said("show", "--property=InvocationID", "--value")
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
    """Return what systemd and all starts have logged."""
    command = ["journalctl", "--no-pager", "--output=cat", "--unit=bms-exporter"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def up() -> dict[str, float]:
    text = httpx.get("http://localhost:12200/metrics", timeout=120).text
    return {
        sample.labels["battery"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "bms_up"
    }


def until(done: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + 150
    while not done():
        assert time.monotonic() < end_s, f"{what}\n{history()[-3000:]}"
        time.sleep(0.5)


class TestReading:
    def test_over_the_direct_link_with_all_that_management_gives(self) -> None:
        restarted()

        assert up() == {"camper": 1.0}
        assert re.search(r"msg=bluetooth link=direct management=release,parameters", journal())

    def test_over_bluetoothd(self) -> None:
        restarted(config="link: bluez\n" + ONE)

        assert up() == {"camper": 1.0}
        assert "link=bluez" in journal()

    def test_without_the_capability(self) -> None:
        restarted("AmbientCapabilities=\nCapabilityBoundingSet=")

        assert up() == {"camper": 1.0}
        assert "link=direct management=none" in journal()

    def test_as_nobody_with_one_capability(self) -> None:
        restarted()

        status = Path(f"/proc/{pid()}/status").read_text()
        told = dict(line.split(":\t", 1) for line in status.splitlines())
        assert int(told["Uid"].split()[0]) == pwd.getpwnam("bms-exporter").pw_uid != 0
        assert {int(told[f"Cap{which}"], 16) for which in ("Eff", "Prm", "Bnd")} == {NET_ADMIN}
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")


class TestLife:
    def test_it_is_started_when_it_answers(self) -> None:
        restarted()

        assert httpx.get("http://localhost:12200/-/healthy", timeout=60).is_success

    def test_one_that_hangs_is_replaced(self) -> None:
        restarted("WatchdogSec=10s")
        before = pid()

        os.kill(before, signal.SIGSTOP)

        until(lambda: pid() not in (0, before) and said("is-active") == "active", "not replaced")
        assert "Watchdog timeout" in history()
        assert up() == {"camper": 1.0}

    def test_one_that_is_killed_is_replaced(self) -> None:
        restarted()
        before = pid()

        os.kill(before, signal.SIGKILL)

        until(lambda: pid() not in (0, before) and said("is-active") == "active", "not replaced")
        assert up() == {"camper": 1.0}

    def test_one_that_cannot_start_says_why_and_is_not_tried_for_ever(self) -> None:
        CONFIG.write_text("batteries: []\n")

        assert systemctl("restart").returncode != 0

        until(lambda: said("is-failed") == "failed", "tried for ever")
        assert int(said("show", "--property=NRestarts", "--value")) < 6
        assert ":1: batteries: expected at least one battery" in history()


class TestReload:
    def test_a_changed_configuration_is_taken(self) -> None:
        restarted()
        before = pid()
        CONFIG.write_text(TWO)

        assert systemctl("reload").returncode == 0

        until(lambda: "configuration reloaded" in journal(), "not reloaded")
        assert up() == {"camper": 1.0, "garage": 1.0}
        assert pid() == before

    def test_a_mistake_is_told_to_who_asked_and_changes_nothing(self) -> None:
        restarted()
        before = pid()
        CONFIG.write_text(TWO + "  - {name: garage}\n")

        assert systemctl("reload").returncode != 0

        assert "batteries[2].address" in history()
        assert (said("is-active"), pid(), up()) == ("active", before, {"camper": 1.0})


@pytest.fixture
def socket_of_systemd() -> Iterator[None]:
    systemctl("stop")
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text("[Service]\nEnvironment=ARGS=--web.systemd-socket\n")
    systemctl("daemon-reload")
    subprocess.run(["systemctl", "enable", "--now", SOCKET], check=True)
    yield
    subprocess.run(["systemctl", "disable", "--now", SOCKET], check=True)


@pytest.mark.usefixtures("socket_of_systemd")
def test_a_restart_behind_the_socket_of_systemd_refuses_nobody() -> None:
    assert said("is-active") == "inactive"
    assert up() == {"camper": 1.0}  # this has started it
    before, answers, done = pid(), list[int](), threading.Event()

    def ask_again_and_again() -> None:
        while not done.is_set():
            answer = httpx.get("http://localhost:12200/-/healthy", timeout=120)
            answers.append(answer.status_code)

    asking = threading.Thread(target=ask_again_and_again)
    asking.start()
    systemctl("restart")
    done.set()
    asking.join()

    assert pid() not in (0, before)
    assert set(answers) == {200}


class TestSecrets:
    def test_a_password_that_others_cannot_read(self) -> None:
        password = CONFIG.parent / "camper.pin"
        password.write_text("123456\n")
        password.chmod(0o640)
        shutil.chown(password, "root", "bms-exporter")
        restarted(config=ONE.replace("}", ", password_file: camper.pin}"))

        assert up() == {"camper": 0.0}  # this battery knows of no passwords
        assert "no answer to the password exchange" in journal()
        assert systemctl("reload").returncode == 0

    def test_a_key_that_root_alone_can_read(self) -> None:
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
        restarted(f"LoadCredential=camper.key:{key}\nEnvironment=ARGS=--web.config.file={web}")

        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        answer = httpx.get("https://localhost:12200/-/healthy", verify=trust, timeout=60)
        assert answer.is_success


class TestUnit:
    def test_what_remains_exposed_is_explained(self) -> None:
        """SECURITY.md names every point of systemd's list, and there is nothing else to name."""
        analyze = ["systemd-analyze", "security", "--offline=true", "--threshold=20"]
        result = subprocess.run(
            [*analyze, "--json=short", str(UNIT)], capture_output=True, text=True, check=False
        )
        explained = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")

        assert result.returncode == 0, result.stdout
        points = {point["name"] for point in json.loads(result.stdout) if point["exposure"]}
        assert {point for point in points if f"`{point}`" not in explained} == set()

    def test_systemd_understands_every_line(self) -> None:
        units = [str(UNIT), str(UNIT.with_suffix(".socket"))]
        result = subprocess.run(
            ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
        )

        assert (result.returncode, result.stderr) == (0, "")


def test_the_package_leaves_nothing_running() -> None:
    subprocess.run(["apt-get", "remove", "-y", "-qq", "bms-exporter"], check=True)

    assert said("is-active") == "inactive"
    assert not Path("/usr/bin/bms-exporter").exists()
    assert CONFIG.exists()
