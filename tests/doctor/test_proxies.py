"""doctor checks each proxy without taking it from the program that uses it."""

import pytest

from exporter.config.schema import BatteryConfig, Config, Name, ProxyName, normal_address
from exporter.doctor.check import State
from exporter.doctor.configuration import Configured
from exporter.doctor.proxies import check_proxies, note_proxied
from tests.support.fake_proxy import running_proxy
from tests.support.proxied import KEY
from tests.support.virtual import ADDRESS

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time


@pytest.mark.parametrize(("key", "state"), [(KEY, State.OK), (None, State.WARN)])
async def test_usable_proxy_is_shown_with_its_version(key: str | None, state: State) -> None:
    async with running_proxy(key=key) as proxy:
        (check,) = await check_proxies(
            Configured(config=Config(batteries=(), proxies=(proxy.config(),)))
        )

        assert check.state is state
        assert check.text.startswith("garage: ESPHome 2026.7.1, answers in ")
        assert "SubscribeBluetoothLEAdvertisementsRequest" not in proxy.received
        assert proxy.misuses == []


async def test_version_of_a_hostile_proxy_is_escaped_and_cut() -> None:
    hostile = "2026\x1b[31m\n\u202e" + "9" * 10_000
    async with running_proxy(name=hostile, version=hostile) as proxy:
        (check,) = await check_proxies(
            Configured(config=Config(batteries=(), proxies=(proxy.config(),)))
        )

        assert check.text.startswith(r"garage: ESPHome 2026\x1b[31m\n\u202e..., answers in ")
        assert check.facts["version"] == r"2026\x1b[31m\n\u202e..."


async def test_proxy_with_another_key_fails_with_advice() -> None:
    async with running_proxy(key=KEY) as proxy:
        config = proxy.config(key=KEY[:-2] + "0=")

        (check,) = await check_proxies(Configured(config=Config(batteries=(), proxies=(config,))))

        assert check.state is State.FAIL
        assert check.text.startswith("proxy garage: it refuses the key: compare it")


def test_battery_that_only_a_proxy_reaches_is_a_note() -> None:
    battery = BatteryConfig(
        name=Name("camper"), address=normal_address(ADDRESS), link=ProxyName("garage")
    )

    (check,) = note_proxied([battery])

    assert (check.state, check.subject) == (State.NOTE, "camper")
    assert "garage" in check.text


async def test_machine_without_a_configuration_has_no_proxies() -> None:
    assert await check_proxies(Configured()) == []
