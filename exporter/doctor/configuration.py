"""Checks the configuration file, and finds the batteries to look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.config import Config, load
from exporter.config.schema import BatteryConfig, Name, normal_address, wrong_address
from exporter.doctor.adapters import AdapterFacts
from exporter.doctor.check import Check, Fact, State
from exporter.errors import ConfigError
from exporter.protocol.advertisement import read_backwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """The configuration file as it is found."""

    config: Config | None = None  # None: there is no file, or it has mistakes
    problems: Sequence[str] = ()
    is_missing: bool = False


def read_configuration(path: Path) -> Configured:
    """Read the configuration; its mistakes are a result."""
    if not path.exists():
        return Configured(is_missing=True)
    try:
        return Configured(config=load(path))
    except ConfigError as error:
        return Configured(problems=error.problems)


def choose_batteries(configured: Configured, wanted: Sequence[str]) -> list[BatteryConfig]:
    """Return the wanted batteries, all configured ones if none is named.

    Raises:
        ConfigError: A name is neither configured nor an address.
    """
    known = () if configured.config is None else configured.config.batteries
    if not wanted:
        return list(known)
    chosen = []
    for one in wanted:
        try:
            address = normal_address(one)
        except ValueError:
            address = None
        matching = [
            battery for battery in known if one == battery.name or battery.address == address
        ]
        if not matching and address is None:
            raise ConfigError(_why_unknown(one, configured))
        chosen += matching or [
            BatteryConfig(name=Name(normal_address(one)), address=normal_address(one))
        ]
    return chosen


def _why_unknown(name: str, configured: Configured) -> list[str]:
    if configured.problems:
        return list(configured.problems)
    if wrong := wrong_address(name):
        return [f"doctor: {wrong}"]
    if configured.is_missing:
        why = "there is no configuration file"
    else:
        known = () if configured.config is None else configured.config.batteries
        why = f"configured: {', '.join(battery.name for battery in known)}"
    return [f"doctor: no battery {name!r}: {why}; give its address, or no name for all in range"]


def check_configuration(configured: Configured, adapters: Sequence[AdapterFacts]) -> Check:
    """Check that the file is valid, and fits this machine."""
    facts: dict[str, Fact] = {
        "missing": configured.is_missing,
        "mistakes": len(configured.problems),
    }
    if configured.is_missing:
        text = "no file; without an address, every battery in range that looks like JBD is tried"
        return Check(id="configuration", state=State.NOTE, text=text, facts=facts)
    if configured.config is None:
        first, *more = configured.problems
        rest = f", and {len(more)} more" if more else ""
        return Check(
            id="configuration",
            state=State.FAIL,
            text=f"{first}{rest}",
            facts=facts,
            advice="correct the file; bms-exporter --config.check shows every mistake",
        )
    batteries = configured.config.batteries
    backwards = [one.name for one in batteries if read_backwards(one.address)]
    known = {name for one in adapters for name in (one.name, one.address)}
    absent = sorted({one.adapter for one in batteries if one.adapter and one.adapter not in known})
    facts |= {
        "batteries": len(batteries),
        "link": str(configured.config.link),
        "backwards": backwards,
        "missing_adapters": len(absent),
    }
    if absent and adapters:
        return Check(
            id="configuration",
            state=State.FAIL,
            text=f"adapter {', '.join(absent)} is not there",
            facts=facts,
            advice=f"set adapter to one of {', '.join(one.name for one in adapters)}, or to its "
            "address, which a USB reset does not change",
        )
    if backwards:
        return Check(
            id="configuration",
            state=State.WARN,
            text=f"the address of {', '.join(backwards)} may be backwards, as phone apps show it",
            facts=facts,
            advice="bms-exporter --config.check shows the other one",
        )
    text = f"valid; batteries: {len(batteries)}; link: {configured.config.link}"
    return Check(id="configuration", state=State.OK, text=text, facts=facts)
