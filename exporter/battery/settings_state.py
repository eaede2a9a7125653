"""The settings of one battery as last read, and how reading them went."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from exporter.errors import DecodeError
from exporter.protocol.settings import FUNCTIONS, Role, Setting
from exporter.protocol.settings_exchange import CAPACITY_REGISTER, Expected, SettingsFailure
from exporter.protocol.settings_values import (
    LARGE_UNITS,
    Decoded,
    Value,
    decode_setting,
    merge_values,
    says_100_ma_unit,
)


@dataclass(frozen=True, kw_only=True)  # slots would allow no cached properties
class SettingsState:
    """What metrics, API and command line show of the settings of one battery.

    Every scrape needs the same values for weeks, so they are computed once.
    """

    rows: tuple[Decoded, ...] = ()  # empty: they were not read yet
    read_at_s: float | None = None  # by the clock
    reads: int = 0  # finished ones, failed ones included
    failures: Mapping[SettingsFailure, int] = field(default_factory=dict)
    is_left: bool | None = None  # the mode was left; None: not known yet

    @cached_property
    def values(self) -> dict[str, Value]:
        """The values by their names in JSON, as `decode` shows them."""
        return merge_values(self.rows)

    def number(self, key: str) -> float | None:
        """Return a number by its name in JSON; None: it was not read, or is not set."""
        value = self.values.get(key)
        return value if isinstance(value, int | float) else None

    def by_protection(self, role: Role, unit: str) -> dict[str, float] | None:
        """Return the numbers with this role and unit by their protection; None: not read yet."""
        return self._limits[role, unit] if self.rows else None

    @cached_property
    def _limits(self) -> dict[tuple[Role | None, str], dict[str, float]]:
        limits: dict[tuple[Role | None, str], dict[str, float]] = defaultdict(dict)
        for row in self.rows:
            setting, value = row.setting, row.values.get(row.setting.key)
            if setting.protection is not None and isinstance(value, int | float):
                limits[setting.role, setting.place.unit][setting.protection] = value
        return limits


def decode_settings(payloads: Mapping[int, bytes], expected: Expected) -> tuple[Decoded, ...]:
    """Decode the settings of one battery, in the order of their registers.

    Register 0x2D says in which unit currents and capacities are; without it they are left out.

    Raises:
        DecodeError: The unit contradicts the capacity.
    """
    functions = payloads.get(FUNCTIONS)
    is_large = functions is not None and says_100_ma_unit(functions)
    rows = [
        row
        for register, payload in sorted(payloads.items())
        for row in decode_setting(register, payload, has_100_ma_unit=is_large)
        if functions is not None or not _has_two_units(row.setting)
    ]
    for row in rows:
        if row.setting.register == CAPACITY_REGISTER:
            capacity_ah = row.values[row.setting.key]
            if capacity_ah != expected.nominal_ah:
                raise DecodeError(
                    f"{row.setting.name}: expected {expected.nominal_ah:g} Ah, got {row.words}"
                )
    return tuple(rows)


def _has_two_units(setting: Setting) -> bool:
    return setting.place in LARGE_UNITS
