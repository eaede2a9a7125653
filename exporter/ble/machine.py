"""Finds out which transports this machine allows, and builds the routes over them."""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.direct import management, sockets
from exporter.ble.direct.kernel import find_twin
from exporter.ble.direct.management import Management
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.proxies import Proxies
from exporter.ble.routes import Routes
from exporter.ble.transport import Backend, ScanningTransport
from exporter.config.schema import Config, TransportChoice
from exporter.errors import AdapterError, ConfigError

log = logging.getLogger(__name__)

WAYS: Final = {  # how batteries are read, by the links in use
    (): "batteries are read over Bluetooth proxies",
    (TransportChoice.BLUEZ,): "batteries are read through bluetoothd",
    (TransportChoice.DIRECT,): "batteries are read over the kernel's Bluetooth sockets",
    (TransportChoice.BLUEZ, TransportChoice.DIRECT): "batteries are read over the kernel's "
    "Bluetooth sockets, some through bluetoothd",
}
NO_ADAPTER: Final = "no Bluetooth adapter is switched on yet: see bluetoothctl list, rfkill list"
NO_SOCKETS: Final = (
    "no Bluetooth here, neither the kernel's nor bluetoothd: bms-exporter doctor finds the cause"
)
SYSTEM_BUS: Final = "/var/run/dbus/system_bus_socket"  # as in dbus-fast


def adapters_up() -> list[str]:
    """Return the names of the adapters that are switched on; empty if that is unknown."""
    try:
        return [adapter.name for adapter in sockets.adapters() if adapter.up]
    except OSError:
        return []


def resolve_adapter(adapter: str) -> str:
    """Return the present name of an adapter that is given by its name or by its address.

    Raises:
        AdapterError: No adapter has this address, or this machine does not tell.
    """
    if ":" not in adapter:
        return adapter
    try:
        present = sockets.adapters()
    except OSError as error:
        raise AdapterError(
            f"no Bluetooth sockets ({error.strerror}): name the adapter {adapter} like hci0"
        ) from error
    for one in sorted(present, key=lambda one: (not one.up, one.order)):
        if one.address == adapter:
            return one.name
    have = ", ".join(f"{one.name} ({one.address})" for one in present) or "none"
    raise AdapterError(f"no Bluetooth adapter {adapter}: is it plugged in? Present: {have}")


async def build_routes(
    config: Config,
    backend: Backend | None = None,
    healths: AdapterHealths | None = None,
    proxies: Proxies | None = None,
) -> Routes:
    """Find out which transports this machine allows, log it once, and return the routes.

    `healths` is what is known of the adapters, from earlier routes; `proxies` has the connections
    to the proxies, and without it there are none.

    Raises:
        ConfigError: The direct link is configured, and this machine has none; or a proxy is, and
            its library is not installed.
    """
    if backend is not None:
        bluez = partial(_make_bluez, backend, None, None)
        return Routes(bluez=bluez, adapters=list, bluez_name="virtual")
    proxied = {} if proxies is None else proxies.make_transports(config.proxies)
    local = adapters_up()
    unproxied = [battery for battery in config.batteries if battery.link not in proxied]
    wanted = {battery.transport or config.link for battery in unproxied}
    why_not_direct = sockets.why_not()
    if why_not_direct and TransportChoice.DIRECT in wanted:
        raise ConfigError([f"link: direct cannot be used here: {why_not_direct}"])
    why_not_managed = why_not_direct or await management.why_not()
    # `Routes` compares several through bluetoothd.
    several = len(local) > 1 or bool(local and proxied)
    chooses = several and any(battery.adapter is None for battery in unproxied)
    if TransportChoice.BLUEZ in _links_in_use(wanted, why_not_direct) or chooses:
        import_module("exporter.ble.bleak")  # now, not in the middle of a scrape
    _log_transports(config, wanted, why_not_direct, why_not_managed, proxied)
    managed = None if why_not_managed else Management(**asdict(config.management))

    healths = healths or AdapterHealths()

    def make_direct(adapter: str | None) -> DirectTransport:
        return DirectTransport(adapter=adapter, management=managed, healths=healths)

    return Routes(
        bluez=partial(_make_bluez, None, managed, healths),
        direct=None if why_not_direct else make_direct,
        prefers_direct=config.link is not TransportChoice.BLUEZ,
        adapters=adapters_up,
        proxies=proxied,
        resolve=resolve_adapter,
        sets_interval=managed is not None and managed.parameters,
    )


def _log_transports(
    config: Config,
    wanted: set[TransportChoice],
    why_not_direct: str | None,
    why_not_managed: str | None,
    proxied: Collection[str],
) -> None:
    links = sorted(_links_in_use(wanted, why_not_direct))
    present = [] if why_not_direct else sockets.adapters()
    if wanted and not proxied and _is_without_bluetooth(present, why_not_direct):
        log.warning(NO_SOCKETS if why_not_direct else NO_ADAPTER)
        return
    asked = [f.name for f in fields(config.management) if getattr(config.management, f.name)]
    is_second_choice = why_not_direct and TransportChoice.AUTO in wanted
    log.info(
        WAYS[tuple(links)],
        extra={
            "link": ",".join(links) or "proxy",
            "management": "none" if why_not_managed else ",".join(asked) or "off",
        }
        | ({"proxies": ",".join(proxied)} if proxied else {})
        | ({"why": why_not_direct} if is_second_choice else {}),
    )
    if why_not_managed and not why_not_direct and asked and wanted:
        log.info(
            "each reading holds its battery 2 s longer than with CAP_NET_ADMIN",
            extra={"why": why_not_managed, "see": "docs/permissions.md"},
        )
    _log_twins(present)


def _is_without_bluetooth(present: Collection[Adapter], why_not_direct: str | None) -> bool:
    """Return whether no battery can be read: without an adapter, or without sockets and D-Bus."""
    if why_not_direct is None:
        return not any(one.up for one in present)
    return "DBUS_SYSTEM_BUS_ADDRESS" not in os.environ and not Path(SYSTEM_BUS).exists()


def _log_twins(present: Sequence[Adapter]) -> None:
    for one in present:
        if one.up and (twin := find_twin(one, present)) is not None:
            log.warning(
                "two adapters have the same address, and the kernel uses one of them: unplug the "
                "other, or give it another address",
                extra={"address": one.address, "used": twin.name, "other": one.name},
            )


def _make_bluez(
    backend: Backend | None,
    managed: Management | None,
    healths: AdapterHealths | None,
    adapter: str | None,
) -> ScanningTransport:
    # This loads bleak and D-Bus, which the direct link does not need.
    from exporter.ble.bleak import BleakTransport  # noqa: PLC0415

    return BleakTransport(adapter=adapter, backend=backend, management=managed, healths=healths)


def _links_in_use(wanted: set[TransportChoice], why_not_direct: str | None) -> set[TransportChoice]:
    auto = TransportChoice.BLUEZ if why_not_direct else TransportChoice.DIRECT
    return {auto if link is TransportChoice.AUTO else link for link in wanted}
