"""Whether batteries and banks last until the morning, from their currents of the last night."""

from collections.abc import Mapping, Sequence

from exporter.battery.banks import BankSnapshot
from exporter.battery.morning import Morning, make_morning, night_current_a
from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.config.schema import Wiring
from exporter.localtime import LocalTime


class Mornings:
    """Combines what pollers remember with the local time; without one nothing is known."""

    def __init__(self, batteries: Mapping[str, Poller], local_time: LocalTime | None) -> None:
        self._batteries = batteries
        self._local_time = local_time

    def of_battery(self, snapshot: Snapshot) -> Morning | None:
        """Return what is left in the morning; None: not all that it takes is known."""
        reading = snapshot.reading
        if reading is None or reading.basic is None:
            return None
        return self._make(
            reading.basic.remaining_ah,
            self._night_current_a(snapshot.battery),
            snapshot.presentation.low.in_ah(snapshot.nominal_ah),
            snapshot.presentation.critical.in_ah(snapshot.nominal_ah),
        )

    def of_bank(self, bank: BankSnapshot, members: Sequence[Snapshot]) -> Morning | None:
        """Return the same of a bank; its thresholds are the mean of those of its batteries."""
        total = bank.total
        nights_a = [self._night_current_a(name) for name in bank.batteries]
        drawn_a = [night_a for night_a in nights_a if night_a is not None]
        if total is None or total.nominal_ah is None or len(drawn_a) < len(nights_a):
            return None
        low, critical = zip(*map(_threshold_ratios, members), strict=True)
        return self._make(
            total.remaining_ah,
            sum(drawn_a) if bank.wiring is Wiring.PARALLEL else _mean(drawn_a),
            total.nominal_ah * _mean(low),
            total.nominal_ah * _mean(critical),
        )

    def _night_current_a(self, name: str) -> float | None:
        if self._local_time is None:
            return None
        currents = self._batteries[name].history.currents()
        return night_current_a(currents, self._local_time.make_is_night())

    def _make(
        self,
        remaining_ah: float,
        night_a: float | None,
        low_ah: float | None,
        critical_ah: float | None,
    ) -> Morning | None:
        if self._local_time is None or night_a is None or low_ah is None or critical_ah is None:
            return None
        night_s = self._local_time.night_left_s()
        return make_morning(remaining_ah, night_a, night_s, low_ah=low_ah, critical_ah=critical_ah)


def _threshold_ratios(member: Snapshot) -> tuple[float, float]:
    """Return low and critical of a battery with a nominal capacity, as ratios of it."""
    nominal_ah = member.nominal_ah or 1.0
    ratios = (
        (threshold.in_ah(nominal_ah) or 0.0) / nominal_ah
        for threshold in (member.presentation.low, member.presentation.critical)
    )
    low, critical = ratios
    return low, critical


def _mean(values: Sequence[float]) -> float:  # importing the module `statistics` costs 2 MB
    return sum(values) / len(values)
