"""The configured ESPHome Bluetooth proxies; loads their library when there is one."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from exporter.ble.transport import ScanningTransport
from exporter.clock import Clock, boot_s
from exporter.config.schema import ProxyConfig
from exporter.errors import ConfigError

if TYPE_CHECKING:  # most machines have no proxy
    from exporter.ble.proxy.api import ProxyApi

LIBRARY: Final = "aioesphomeapi"
HOW_TO_INSTALL: Final = (
    f"proxies need the Python package {LIBRARY}: run make install EXTRAS=esphome, or "
    "pip install 'bms-exporter[esphome]' (docs/proxies.md has the Debian package and the image)"
)


@dataclass(frozen=True, slots=True)
class ProxyState:
    """What metrics show of one proxy."""

    up: bool | None  # None: it was not used yet
    free: int | None = None  # connections; None: unknown now
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyFacts:
    """What `doctor` shows of one proxy that can be used."""

    version: str  # of ESPHome
    open_s: float  # time to connect to its API


class Proxies:
    """The API connections to all proxies, which reloads of the configuration keep."""

    def __init__(self, clock: Clock = boot_s) -> None:
        """Start without proxies; `clock` gives `LinkStats.seen_at_s`."""
        self._clock = clock
        self._apis: dict[ProxyConfig, ProxyApi] = {}

    def make_transports(self, configs: Iterable[ProxyConfig]) -> Mapping[str, ScanningTransport]:
        """Return a transport for each proxy, by name; close the others when nothing uses them.

        Raises:
            ConfigError: The library is not installed.
        """
        wanted = list(configs)
        if wanted:
            load_library()
        gone = self._apis.keys() - wanted
        retired = {(config.host, config.port): self._apis.pop(config) for config in gone}
        for api in retired.values():
            api.retire()
        if not wanted:
            return {}
        # Now, not in the middle of a scrape; most machines have no proxy.
        from exporter.ble.proxy.api import ProxyApi  # noqa: PLC0415
        from exporter.ble.proxy.transport import ProxyTransport  # noqa: PLC0415

        for config in wanted:
            if config not in self._apis:
                self._apis[config] = ProxyApi(config, retired.get((config.host, config.port)))
        return {
            config.name: ProxyTransport(self._apis[config], clock=self._clock) for config in wanted
        }

    async def check(self, config: ProxyConfig) -> ProxyFacts:
        """Return the facts about a proxy, without taking it from the program that uses it.

        Raises:
            AdapterError: It cannot be used; the message says why.
            ConfigError: The library is not installed.
        """
        load_library()
        from exporter.ble.proxy.session import Session  # noqa: PLC0415 - see above

        began_s = asyncio.get_running_loop().time()
        session = Session(config, lambda *_: None, lambda _: None)
        await session.connect()
        try:
            took_s = asyncio.get_running_loop().time() - began_s
            return ProxyFacts(version=session.version, open_s=took_s)
        finally:
            session.client.force_disconnect()

    def states(self) -> Mapping[str, ProxyState]:
        """Return what is known of each proxy, by name."""
        return {config.name: api.state for config, api in self._apis.items()}

    def close(self) -> None:
        """Close every API connection."""
        for api in self._apis.values():
            api.close()


def load_library() -> None:
    """Import the library. Raises ConfigError if it is not installed."""
    try:
        import_module(LIBRARY)
    except ModuleNotFoundError as error:
        raise ConfigError([HOW_TO_INSTALL]) from error
