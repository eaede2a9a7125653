"""Settings as sentences for people, with a remark on what LiFePO4 does not take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.protocol.settings import Function, Role
from exporter.protocol.settings_values import Decoded, Value, merge_values
from exporter.reading import Protection

P: Final = Protection
STOPS: Final = {
    P.CELL_OVERVOLTAGE: "Charging stops above {} a cell",
    P.CELL_UNDERVOLTAGE: "Discharging stops below {} a cell",
    P.PACK_OVERVOLTAGE: "Charging stops above {}",
    P.PACK_UNDERVOLTAGE: "Discharging stops below {}",
    P.CHARGE_OVERTEMPERATURE: "Charging stops above {}",
    P.CHARGE_UNDERTEMPERATURE: "Charging stops below {}",
    P.DISCHARGE_OVERTEMPERATURE: "Discharging stops above {}",
    P.DISCHARGE_UNDERTEMPERATURE: "Discharging stops below {}",
    P.CHARGE_OVERCURRENT: "Charging stops above {}",
    P.DISCHARGE_OVERCURRENT: "Discharging stops above {}",
}
GROUPS: Final = {
    "Voltage": [
        P.CELL_OVERVOLTAGE, P.CELL_UNDERVOLTAGE, P.PACK_OVERVOLTAGE, P.PACK_UNDERVOLTAGE,
    ],
    "Temperature": [
        P.CHARGE_OVERTEMPERATURE, P.CHARGE_UNDERTEMPERATURE,
        P.DISCHARGE_OVERTEMPERATURE, P.DISCHARGE_UNDERTEMPERATURE,
    ],
    "Current": [P.CHARGE_OVERCURRENT, P.DISCHARGE_OVERCURRENT],
}  # fmt: skip
SENTENCES: Final = {0x10, 0x11, 0x12, 0x13, 0x2A, 0x2B}
"""The registers beside the limits that have a sentence of their own."""

# What cells of LiFePO4 take, with some tolerance: no usual setting of a BMS for them is beyond.
# A sensor beside the MOSFETs is hotter than the cells, so discharging may go on to 75 degrees.
MOST: Final = {
    P.CELL_OVERVOLTAGE: 3.75,
    P.PACK_OVERVOLTAGE: 3.75,  # per cell
    P.CHARGE_OVERTEMPERATURE: 65.0,
    P.DISCHARGE_OVERTEMPERATURE: 75.0,
}
LEAST: Final = {
    P.CELL_UNDERVOLTAGE: 2.0,
    P.PACK_UNDERVOLTAGE: 2.0,  # per cell
    P.CHARGE_UNDERTEMPERATURE: 0.0,
    P.DISCHARGE_UNDERTEMPERATURE: -30.0,
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """What one setting, or some that belong together, make the BMS do."""

    text: str
    remark: str | None = None  # why it stands out


class Settings:
    """The decoded settings of one battery; those that were not read have no sentence."""

    def __init__(self, rows: Sequence[Decoded]) -> None:
        """Take the settings in the order of their registers."""
        self.rows = rows
        self.values: dict[str, Value] = merge_values(rows)

    def group(self, *, everything: bool) -> dict[str, list[Sentence]]:
        """Return the sentences by their titles; `everything`: the rarely needed settings, too."""
        groups = {title: [*self._limits(limits)] for title, limits in GROUPS.items()}
        groups["Capacity"] = [*self._capacity()]
        groups["Balancing"] = [*self._balancing()]
        if everything:
            groups["Other settings"] = [*self._others()]
        return {title: sentences for title, sentences in groups.items() if sentences}

    def remarks(self) -> dict[str, str]:
        """Return why limits stand out, by the limit's name in JSON."""
        found = {}
        for row in self.rows:
            if row.setting.role is Role.THRESHOLD and row.setting.protection:
                remark = self._remark(row.setting.protection)
                if remark is not None:
                    found[row.setting.key] = remark
        return found

    def _row(self, protection: Protection, role: Role) -> Decoded | None:
        wanted = (protection, role)
        rows = [row for row in self.rows if (row.setting.protection, row.setting.role) == wanted]
        return rows[0] if rows else None

    def _limits(self, protections: list[Protection]) -> Iterator[Sentence]:
        for protection in protections:
            threshold = self._row(protection, Role.THRESHOLD)
            if threshold is None:
                continue
            text = STOPS[protection].format(_quantity(threshold))
            if release := self._row(protection, Role.RELEASE):
                text += f", starts again at {_quantity(release)}"
            if after := self._row(protection, Role.RELEASE_DELAY):
                text += f", starts again after {after.words}"
            if delay := self._row(protection, Role.DELAY):
                text += f" (delay {delay.words})"
            yield Sentence(text, self._remark(protection))

    def _remark(self, protection: Protection) -> str | None:
        """Return why the limit of a protection stands out, if it does."""
        row = self._row(protection, Role.THRESHOLD)
        value = None if row is None else self._number(row.setting.key)
        cells = self._number("cells")
        if value is None:
            return None
        if protection in {P.PACK_OVERVOLTAGE, P.PACK_UNDERVOLTAGE}:
            if not cells:
                return None
            value /= cells
        unit = " V a cell" if "voltage" in protection else " °C"
        if protection is P.CHARGE_UNDERTEMPERATURE:
            return "LiFePO4 must not be charged below 0 °C." if value < 0 else None
        if value > MOST.get(protection, value):
            return f"LiFePO4 takes {MOST[protection]:g}{unit} at most."
        if value < LEAST.get(protection, value):
            return f"LiFePO4 takes {LEAST[protection]:g}{unit} at least."
        return None

    def _number(self, key: str) -> float | None:
        value = self.values.get(key)
        return value if isinstance(value, int | float) else None

    def _capacity(self) -> Iterator[Sentence]:
        design_ah, cycle_ah = self._number("design_capacity_ah"), self._number("cycle_capacity_ah")
        if design_ah is not None:
            text = f"The battery is designed for {design_ah:g} Ah"
            yield Sentence(text if cycle_ah is None else f"{text}; {cycle_ah:g} Ah are one cycle")
        full_v, empty_v = self._number("cell_full_v"), self._number("cell_empty_v")
        if full_v is not None and empty_v is not None:
            yield Sentence(f"A cell is full at {_volts(full_v)}, empty at {_volts(empty_v)}")

    def _balancing(self) -> Iterator[Sentence]:
        functions = self.values.get("functions")
        known = functions if isinstance(functions, frozenset) else frozenset()
        if functions is not None and Function.BALANCING not in known:
            yield Sentence("Cells are not balanced", "Without balancing the cells drift apart.")
            return
        start_v, window_v = self._number("balance_start_v"), self._number("balance_window_v")
        if start_v is not None and window_v is not None:
            when = " while the battery is charged" * (Function.CHARGE_BALANCING in known)
            yield Sentence(
                f"Cells above {_volts(start_v)} are balanced{when}, if they are more than "
                f"{window_v * 1000:g} mV apart"
            )

    def _others(self) -> Iterator[Sentence]:
        for row in self.rows:
            setting = row.setting
            if setting.protection not in STOPS and setting.register not in SENTENCES:
                yield Sentence(f"{setting.name[0].upper()}{setting.name[1:]}: {row.words}")


def _quantity(row: Decoded) -> str:
    """Return a limit with its unit; currents are positive in both directions."""
    value, unit = row.values[row.setting.key], row.setting.place.unit
    if not isinstance(value, int | float):
        return "a limit that is not set"
    return _volts(value) if unit == "V" else f"{abs(value) if unit == 'A' else value:g} {unit}"


def _volts(value: float) -> str:
    """Return volts with two decimals, or with three where the third is not 0."""
    text = f"{value:.3f}"
    return f"{text.removesuffix('0')} V"
