"""`doctor` with the fake bluetoothd: it names the cause of each fault as the one thing to do."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batteries import address
from bus import need_dbus
from fake_world import FakeWorld
from world import info, run, set_faults, wait_disconnected


@pytest.fixture(scope="module")
def shared_world() -> Iterator[FakeWorld]:
    if os.environ.get("BMS_WORLD") != "fake":
        pytest.skip("make test-dbus runs these tests")
    need_dbus()
    with FakeWorld() as fake:
        yield fake


@pytest.fixture
def world(shared_world: FakeWorld) -> Iterator[FakeWorld]:
    yield shared_world
    shared_world.heal()
    for battery in range(2):
        set_faults(shared_world, battery)
        wait_disconnected(shared_world, battery, timeout_s=20.0)


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    output: str
    errors: str
    facts: dict[str, Any]

    @property
    def to_do(self) -> str:
        """The last line."""
        return self.output.splitlines()[-1]

    def check(self, name: str) -> dict[str, Any]:
        (check,) = (one for one in self.facts["checks"] if one["id"] == name)
        found: dict[str, Any] = check
        return found


def doctor(world: FakeWorld, *arguments: str, config: str = "") -> Done:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "config.yaml"
        if config:
            path.write_text(config, encoding="utf-8")
        facts = folder / "facts.json"
        done = run(
            world, "doctor", "--exporter", "http://127.0.0.1:9", "--config.file", str(path),
            "--json", str(facts), *arguments,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr, json.loads(facts.read_text()))


CONFIG = (
    f"link: bluez\nbatteries: [{{name: camper, address: '{address(0)}'}}]\npoll: {{timeout: 6s}}\n"
)


def test_healthy_battery_is_heard_and_read(world: FakeWorld) -> None:
    done = doctor(world, config=CONFIG)

    assert done.status == 0, done.output + done.errors
    assert "verdict    ok   all batteries answer" in done.output
    heard = done.check("battery.heard")["facts"]
    assert heard["address_type"] == "public"
    assert heard["name"] == "JBD-0"
    attempt = done.check("battery.bluez")["facts"]
    assert attempt["profile"] == "nus"
    assert attempt["mtu"] >= 23
    assert dict(attempt["steps"])["connected"] <= dict(attempt["steps"])["table"]
    assert done.check("battery.heard_again")["state"] == "ok"
    assert done.check("bluetoothd")["facts"]["powered"] == {"hci0": True}
    assert info(world, 0)["illegal"] == []


def test_batteries_are_found_without_a_configuration(world: FakeWorld) -> None:
    done = doctor(world)

    # scan does not list number 3, which advertises ff06
    assert len(done.facts["batteries"]) == 7
    assert {one["attempts"][0]["reason"] for one in done.facts["batteries"]} == {None}


def test_stopped_bluetoothd_is_a_failure(world: FakeWorld) -> None:
    world.bluetoothd("stop")

    done = doctor(world, config=CONFIG)

    assert done.status == 1
    assert done.check("bluetoothd")["state"] == "FAIL"
    assert done.check("bluetoothd")["facts"]["problem"] == "not_running"
    assert done.check("adapters")["state"] == "?"  # this machine's kernel has no Bluetooth sockets
    assert done.to_do.startswith("One thing to do: bluetoothd: not running")
    assert "not tried" in done.output


def test_adapter_that_is_off_is_the_one_thing_to_do(world: FakeWorld) -> None:
    world.adapter("off")

    done = doctor(world, config=CONFIG)

    assert done.status == 1
    assert done.to_do == (
        "One thing to do: adapters: hci0 is switched off; "
        "run bluetoothctl power on, or rfkill unblock bluetooth"
    )


def test_missing_adapter_is_the_one_thing_to_do(world: FakeWorld) -> None:
    world.adapter("unplug")

    done = doctor(world, config=CONFIG)

    assert done.to_do.startswith("One thing to do: adapters: no Bluetooth adapter; plug one in")


@pytest.mark.parametrize(
    ("faults", "cause", "advice"),
    [
        ({"gone": True}, "absent", "close the phone app"),
        ({"silent": True}, "quiet", "wake it"),
        ({"refuses": True}, "radio", "bring the adapter closer"),
    ],
)
def test_fault_of_the_battery_is_the_one_thing_to_do(
    faults: dict[str, bool], cause: str, advice: str, world: FakeWorld
) -> None:
    set_faults(world, 0, **faults)

    done = doctor(world, config=CONFIG)

    assert done.status == 1
    assert done.check("battery.bluez")["facts"]["cause"] == cause
    assert done.to_do.startswith("One thing to do: camper: not read: ")
    assert advice in done.to_do


def test_one_missing_battery_does_not_hide_the_other(world: FakeWorld) -> None:
    set_faults(world, 1, gone=True)
    config = CONFIG.replace("}]", f"}}, {{name: trailer, address: '{address(1)}'}}]")

    done = doctor(world, config=config)

    assert done.status == 1
    assert "verdict    FAIL not read: trailer" in done.output
