"""What `scan` knows of a device: its advertisement, and its answer to register 0x03."""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from exporter.battery.session import Session
from exporter.ble.routes import Routes
from exporter.ble.transport import Target
from exporter.clock import boot_s
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Config,
    Name,
    ProxyName,
    normal_address,
)
from exporter.errors import AnotherProtocolError, BmsError, Cause, FailureReason
from exporter.link_stats import LinkStats
from exporter.protocol.advertisement import Advertisement, is_certain, why_jbd
from exporter.reading import BasicInfo

# For everything but the disconnect. A device that has just advertised is found in a second or two
# and answers in less than one; a search takes up to 10 s, silence 5 s.
READ_S: Final = 15.0
FAILURES: Final = {
    FailureReason.ADAPTER: "not reached",
    FailureReason.NOT_FOUND: "not reached",
    FailureReason.CONNECT: "not reached",
    FailureReason.LINK_LOST: "connection lost",
    FailureReason.PROFILE: "no JBD profile",
    FailureReason.AUTH: "wants a PIN",
    FailureReason.TIMEOUT: "no answer",
    FailureReason.PROTOCOL: "no usable answer",
    FailureReason.DEVICE: "refuses to be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A device, and what reading it has shown, if it was read."""

    advertisement: Advertisement
    answer: BasicInfo | None = None
    failure: BmsError | None = None

    @property
    def is_candidate(self) -> bool:
        """Whether it may be a JBD battery."""
        return bool(why_jbd(self.advertisement))

    @property
    def is_battery(self) -> bool:
        """Whether it is a JBD battery without doubt."""
        return self.answer is not None or is_certain(self.advertisement)

    @property
    def what(self) -> str:
        """What the device is, in a few words."""
        signs = ", ".join(why_jbd(self.advertisement))
        if self.answer is not None:
            return f"JBD battery: {self.answer.voltage_v:.2f} V, {self.answer.rsoc_ratio:.0%}"
        if is_certain(self.advertisement):
            return f"JBD battery: {signs}"
        if self.failure is not None:
            return _summarise(self.failure)
        return f"perhaps a JBD battery: {signs}" if signs else "no sign of a JBD battery"

    @property
    def why_not(self) -> str:
        """Why it is not taken for a battery."""
        return f"{self.what}: {self.failure}" if self.failure is not None else self.what


def _summarise(failure: BmsError) -> str:
    if isinstance(failure, AnotherProtocolError):
        return "another protocol"
    if failure.cause is Cause.HELD:
        return "connected to another program"
    return FAILURES[failure.reason]


async def read_candidate(
    advertisement: Advertisement,
    config: Config,
    routes: Routes,
    adapter: AdapterName | None,
    proxy: ProxyName | None = None,
) -> Finding:
    """Request register 0x03 as a poll does, and nothing else.

    With `proxy` it is read through that one. A battery to which another program on this machine is
    connected is left to it.
    """
    try:
        answer = await _read_basic(
            _battery(advertisement.address, config, adapter, proxy), config, routes
        )
    except BmsError as error:
        return Finding(advertisement=advertisement, failure=error)
    return Finding(advertisement=advertisement, answer=answer)


def _battery(
    address: str, config: Config, adapter: AdapterName | None, proxy: ProxyName | None
) -> BatteryConfig:
    """Return the battery with this address as it is configured, but without other registers."""
    battery = BatteryConfig(name=Name(address), address=normal_address(address))
    for configured in config.batteries:
        if configured.address == address:
            battery = configured
    return replace(
        battery,
        adapter=adapter or (None if proxy else battery.adapter),
        link=proxy or battery.link,
        cells=False,
        hardware=False,
        counters=False,
    )


async def _read_basic(battery: BatteryConfig, config: Config, routes: Routes) -> BasicInfo | None:
    stats = LinkStats()
    target = Target(
        address=battery.address,
        stats=stats,
        profile=battery.profile,
        adapter=battery.adapter,
        link=battery.link,
        takes_over=False,
    )
    session = Session(battery, stats=stats, clock=boot_s)
    deadline_s = asyncio.get_running_loop().time() + limit_s(config)
    routes.track(target)
    try:
        async with routes.connect(target, deadline_s=deadline_s) as connection:
            return (await session.read(connection, deadline_s=deadline_s)).basic
    finally:
        routes.untrack(target.address)


def limit_s(config: Config) -> float:
    """Return the seconds that reading one candidate takes at most, without the disconnect."""
    return min(config.poll.timeout_s, READ_S)
