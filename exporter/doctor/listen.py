"""Listens to the batteries' advertisements through bluetoothd, over one adapter or several."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from exporter.ble.transport import Renew, ScanningTransport
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.redaction import Redaction
from exporter.errors import AdapterError
from exporter.protocol.advertisement import Advertisement, why_jbd

LISTEN_S: Final = 5.0  # JBD modules advertise every second or two
LONGEST_S: Final = 10.0  # as long as the exporter looks for a battery
TURN_S: Final = 2.5  # between two restarts of a scan; see scanner.RENEW_S
WEAK_DBM: Final = -85  # below it connections fail often: esphome-jbd-bms issue 129


@dataclass(slots=True)
class Heard:
    """The advertisements of one device."""

    first_s: float
    last: Advertisement
    rssi_dbm: dict[str | None, list[int]] = field(default_factory=dict)  # by adapter
    services: set[str] = field(default_factory=set)
    name: str = ""

    @property
    def best_adapter(self) -> str | None:
        """The adapter that receives it best."""
        return max(self.rssi_dbm, key=lambda adapter: median(self.rssi_dbm[adapter]))

    @property
    def all_rssi_dbm(self) -> Sequence[int]:
        """The signal strengths over the best adapter."""
        return self.rssi_dbm[self.best_adapter]


@dataclass(slots=True)
class Listening:
    """The result of listening to everything."""

    heard: dict[str, Heard] = field(default_factory=dict)  # by address
    seconds: float = 0.0
    error: AdapterError | None = None  # no adapter could scan

    def hear(self, adapter: str | None, advertisement: Advertisement, at_s: float) -> None:
        """Record one advertisement."""
        one = self.heard.setdefault(advertisement.address, Heard(at_s, advertisement))
        one.last = advertisement
        one.rssi_dbm.setdefault(adapter, []).append(advertisement.rssi_dbm)
        one.services |= advertisement.service_uuids
        one.name = advertisement.name or one.name


async def listen(
    scanners: Mapping[str | None, ScanningTransport],
    wanted: Sequence[str],
    *,
    least_s: float | None = None,
) -> Listening:
    """Scan over every adapter until all wanted batteries are heard, for 5 to 10 s.

    Args:
        scanners: By adapter; None is bluetoothd's default one.
        wanted: Addresses; none: everything is listened to for 10 s.
        least_s: How long to listen at least; None: 5 s.
    """
    least_s = LISTEN_S if least_s is None else least_s
    now_s = asyncio.get_running_loop().time
    began_s = now_s()
    result = Listening()
    renewals: list[Renew] = []

    def note(adapter: str | None) -> Callable[[Advertisement], None]:
        return lambda one: result.hear(adapter, one, now_s() - began_s)

    async with AsyncExitStack() as scans:
        for adapter, scanner in scanners.items():
            try:
                scan = scanner.advertisements(note(adapter))
                renewals.append(await scans.enter_async_context(scan))
            except AdapterError as error:
                result.error = error
        if renewals:
            result.error = None  # the others hear what this one cannot
        next_turn_s = began_s + TURN_S
        while renewals and now_s() - began_s < LONGEST_S:
            has_all = bool(wanted) and set(wanted) <= result.heard.keys()
            if has_all and now_s() - began_s >= least_s:
                break
            await asyncio.sleep(0.1)
            if now_s() >= next_turn_s:
                next_turn_s += TURN_S
                try:
                    for renew in renewals:
                        await renew()
                except AdapterError as error:
                    result.error = error
                    break
    result.seconds = now_s() - began_s
    return result


def facts(heard: Heard, redaction: Redaction) -> dict[str, Fact]:
    """Return what a battery advertises, without its serial number."""
    rssi_dbm = heard.all_rssi_dbm
    return {
        "first_s": round(heard.first_s, 2),
        "reports": len(rssi_dbm),
        "rssi_min_dbm": min(rssi_dbm),
        "rssi_median_dbm": median(rssi_dbm),
        "adapters": [adapter or "default" for adapter in heard.rssi_dbm],
        "address_type": heard.last.address_type,
        "name": redaction.advertised_name(heard.name),
        "services": sorted(heard.services),
        "manufacturers": _companies(heard.last),
        "why_jbd": list(why_jbd(heard.last)),
    }


def _companies(advertisement: Advertisement) -> list[Fact]:
    """Return the companies of the manufacturer data, unless they are two bytes of the address."""
    address = bytes.fromhex(advertisement.address.replace(":", ""))
    return [
        "part of its address"
        if company.to_bytes(2, "little") in address or company.to_bytes(2, "big") in address
        else company
        for company in sorted(advertisement.manufacturer_data)
    ]


def check_heard(
    heard: Heard | None, listening: Listening, battery: str, redaction: Redaction
) -> Check:
    """Say whether a battery advertises, how strongly and as what."""
    if listening.error is not None:
        text = f"cannot listen: {listening.error}"
        return Check(id="battery.heard", subject=battery, state=State.UNKNOWN, text=text)
    if heard is None:
        return Check(
            id="battery.heard",
            subject=battery,
            state=State.WARN,
            text=f"not heard in {listening.seconds:.0f} s; other devices: {len(listening.heard)}",
            facts={"reports": 0, "others": len(listening.heard)},
        )
    found = facts(heard, redaction)
    is_weak = median(heard.all_rssi_dbm) < WEAK_DBM
    parts = [
        f"heard after {heard.first_s:.1f} s, {median(heard.all_rssi_dbm):.0f} dBm",
        f"reports in {listening.seconds:.0f} s: {found['reports']}",
        heard.last.address_type or "",
        f'"{found["name"]}"' if heard.name else "without a name",
        ", ".join(why_jbd(heard.last)),
        "weak: bring the adapter closer" * is_weak,
    ]
    return Check(
        id="battery.heard",
        subject=battery,
        state=State.WARN if is_weak else State.OK,
        text="; ".join(part for part in parts if part),
        facts=found,
    )
