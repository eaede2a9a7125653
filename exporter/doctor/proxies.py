"""Checks the ESPHome proxies of the configuration, without taking them from an exporter."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from exporter.ble.proxies import Proxies
from exporter.config.schema import BatteryConfig, ProxyConfig
from exporter.doctor.check import Check, State
from exporter.doctor.configuration import Configured
from exporter.errors import AdapterError, ConfigError

NEEDED: Final = frozenset({"configuration", "exporter"})  # also without Bluetooth
SLOW_S: Final = 3.0  # an ESP32 with good Wi-Fi takes less than a second


async def check_proxies(configured: Configured) -> list[Check]:
    """Check every proxy of the configuration, all at the same time."""
    configs = () if configured.config is None else configured.config.proxies
    return list(await asyncio.gather(*map(_check, configs)))


def note_proxied(batteries: Iterable[BatteryConfig]) -> list[Check]:
    """Return a note about each battery that only proxies reach: no adapter is tried for it."""
    return [
        Check(
            id="battery",
            state=State.NOTE,
            subject=battery.name,
            text=f"is read through {_name(battery)}: bms-exporter read tries it",
        )
        for battery in batteries
    ]


def choose_proxied(
    batteries: Iterable[BatteryConfig], configured: Configured, *, has_adapter: bool
) -> list[BatteryConfig]:
    """Return the batteries that only proxies reach: they are linked, or there is no adapter."""
    has_proxy = configured.config is not None and bool(configured.config.proxies)
    return [
        battery
        for battery in batteries
        if _is_linked(battery)
        or (has_proxy and not has_adapter and battery.link is None and battery.adapter is None)
    ]


def excuse(checks: Iterable[Check]) -> list[Check]:
    """Return the checks of a machine whose own Bluetooth no battery uses, as notes."""
    return [
        replace(check, state=State.NOTE, advice=None)
        if check.state in {State.FAIL, State.WARN} and check.id not in NEEDED
        else check
        for check in checks
    ]


def _is_linked(battery: BatteryConfig) -> bool:
    return battery.link is not None and battery.transport is None


def _name(battery: BatteryConfig) -> str:
    return f"the proxy {battery.link}" if _is_linked(battery) else "the proxies"


async def _check(config: ProxyConfig) -> Check:
    encrypted = config.key is not None
    try:
        found = await Proxies().check(config)
    except (AdapterError, ConfigError) as error:
        facts = {"encrypted": encrypted}
        return Check(id="proxy", state=State.FAIL, text=str(error), facts=facts)
    is_slow = found.open_s > SLOW_S
    return Check(
        id="proxy",
        state=State.WARN if is_slow or not encrypted else State.OK,
        text=f"{config.name}: ESPHome {found.version}, answers in {found.open_s:.1f} s"
        f"{'' if encrypted else ', not encrypted'}",
        facts={"version": found.version, "open_s": found.open_s, "encrypted": encrypted},
        advice=_advise(is_slow=is_slow, encrypted=encrypted),
    )


def _advise(*, is_slow: bool, encrypted: bool) -> str | None:
    if is_slow:
        return "its Wi-Fi is slow: move it nearer to the access point"
    return None if encrypted else "anybody in its network can use the batteries: add a key"
