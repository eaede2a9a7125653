"""Compares a battery with its options, where the configuration alone does not show a mistake."""

import logging
from collections.abc import Iterator

from exporter.config.presentation import Presentation
from exporter.reading import BasicInfo

log = logging.getLogger(__name__)


class Notes:
    """Logs options that do not fit the battery, each once."""

    def __init__(self, battery: str) -> None:
        """Start without a note; `battery` is the configured name."""
        self._battery = battery
        self._logged: set[str] = set()

    def check(self, presentation: Presentation, basic: BasicInfo) -> None:
        """Log what is new in this reading."""
        for option, note in _notes(presentation, basic):
            if note not in self._logged:
                self._logged.add(note)
                log.warning(
                    "option does not fit the battery",
                    extra={"battery": self._battery, "option": option, "note": note},
                )


def _notes(presentation: Presentation, basic: BasicInfo) -> Iterator[tuple[str, str]]:
    """Yield the option and what is wrong with it."""
    names, sensors = len(presentation.sensors), len(basic.temperatures_c)
    if names > sensors:
        yield "temperatures", f"names for {names} sensors, but the BMS has {sensors}"
    nominal_ah = basic.nominal_ah
    thresholds = {"low": presentation.low, "critical": presentation.critical}
    for option, threshold in thresholds.items():
        if not threshold.is_ratio and 0 < nominal_ah < threshold.amount:
            yield option, f"{threshold} is more than the nominal capacity, {nominal_ah:g} Ah"
    low_ah, critical_ah = (threshold.in_ah(nominal_ah) for threshold in thresholds.values())
    if low_ah is not None and critical_ah is not None and critical_ah > low_ah:
        both = f"{presentation.critical} is more than low, {presentation.low}"
        reason = f"{both}, with a nominal capacity of {nominal_ah:g} Ah"
        yield "critical", f"{reason}: {presentation.critical} is used for both"
