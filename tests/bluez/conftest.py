"""The fixtures of the scenarios: an environment, a link, and an exporter."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from camper import Camper

from batteries import PROFILE_NAMES
from bus import need_dbus
from fake_world import FakeWorld
from world import World, set_faults, wait_disconnected


@pytest.fixture(scope="session")
def any_world() -> Iterator[World]:
    """Return the environment that BMS_WORLD names; without it, skip."""
    match os.environ.get("BMS_WORLD"):
        case "vm":
            from vm_world import VmWorld  # noqa: PLC0415 - works only in the virtual machine

            yield VmWorld()
        case "fake":
            need_dbus()
            with FakeWorld() as fake:
                yield fake
        case None:
            pytest.skip("make test-bluez and make test-dbus run the scenarios")
        case other:
            pytest.fail(f"BMS_WORLD: {other!r} is neither 'vm' nor 'fake'")


@pytest.fixture
def world(any_world: World) -> Iterator[World]:
    """Return a healthy environment; restore it afterwards."""
    heal(any_world)
    yield any_world
    heal(any_world)


def heal(world: World) -> None:
    for battery in range(len(PROFILE_NAMES)):
        set_faults(world, battery)
    world.heal()
    for battery in range(len(PROFILE_NAMES)):
        wait_disconnected(world, battery, timeout_s=20.0)


@pytest.fixture(params=["direct", "bluez"])
def link(request: pytest.FixtureRequest, world: World) -> str:
    wanted: str = request.param
    if wanted not in world.links:
        pytest.skip(f"this environment has no {wanted} link")
    return wanted


@pytest.fixture
def camper(world: World, link: str, tmp_path: Path) -> Iterator[Camper]:
    one = Camper(world, link, tmp_path)
    with one.exporter:
        yield one
