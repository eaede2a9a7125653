"""The metrics of banks; each has the label `bank`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.battery.banks import BankSnapshot, BankTotal, make_bank_snapshot
from exporter.battery.snapshot import Snapshot
from exporter.config.schema import BankConfig


@dataclass(frozen=True, slots=True)
class BankRow:
    """One gauge of a bank; `value` returns the number, or None when there is none."""

    name: str
    help: str
    value: Callable[[BankSnapshot], float | None]


def _total(value: Callable[[BankTotal], float | None]) -> Callable[[BankSnapshot], float | None]:
    return lambda shot: value(shot.total) if shot.total else None


# fmt: off
BANK_ROWS: Final = (
    BankRow("bms_bank_remaining_capacity_amperehours", "Charge left in the bank; series: that of its battery with the least.", _total(lambda total: total.remaining_ah)),
    BankRow("bms_bank_nominal_capacity_amperehours", "Nominal capacity of the bank; series: that of its smallest battery.", _total(lambda total: total.nominal_ah)),
    BankRow("bms_bank_full_capacity_amperehours", "Capacity that its BMS have learned; those that have not count as nominal, and if none has, it is absent. Series: the charge left when its first battery is full.", _total(lambda total: total.full_ah)),
    BankRow("bms_bank_state_of_charge_ratio", "State of charge of the bank, 0 to 1; parallel: the mean by nominal capacity, series: the least.", _total(lambda total: total.rsoc_ratio)),
    BankRow("bms_bank_voltage_volts", "Voltage of the bank; parallel: the mean of its batteries.", _total(lambda total: total.voltage_v)),
    BankRow("bms_bank_current_amperes", "Current of the bank, positive while charging; series: the mean of its batteries.", _total(lambda total: total.current_a)),
    BankRow("bms_bank_state_of_charge_difference_ratio", "Highest minus lowest state of charge of its batteries.", _total(lambda total: total.rsoc_difference_ratio)),
    BankRow("bms_bank_current_difference_amperes", "Highest minus lowest current of its batteries.", _total(lambda total: total.current_difference_a)),
    BankRow("bms_bank_batteries", "Batteries of the bank, as configured.", lambda shot: len(shot.batteries)),
    BankRow("bms_bank_batteries_read", "Those with a reading that may be shown; the bank has totals only if all have.", lambda shot: shot.batteries_read),
)
# fmt: on
MEMBER: Final = "bms_bank_member", "1 for each battery of the bank, for joins."
INFO: Final = "bms_bank", "How the batteries of the bank are wired."


class BankCollector(Collector):
    """The metric families of the banks in one scrape."""

    def __init__(self, banks: Iterable[BankConfig], snapshots: Iterable[Snapshot]) -> None:
        """Combine the snapshots now."""
        by_name = {snapshot.battery: snapshot for snapshot in snapshots}
        self._banks: Sequence[BankSnapshot] = [make_bank_snapshot(one, by_name) for one in banks]

    def collect(self) -> Iterable[Metric]:
        """Yield every family that has samples."""
        families = [*map(self._gauge, BANK_ROWS), self._members(), self._infos()]
        return (family for family in families if family.samples)

    def _gauge(self, row: BankRow) -> Metric:
        family = GaugeMetricFamily(row.name, row.help, labels=("bank",))
        for bank in self._banks:
            if (value := row.value(bank)) is not None:
                family.add_metric((bank.bank,), value)
        return family

    def _members(self) -> Metric:
        family = GaugeMetricFamily(*MEMBER, labels=("bank", "battery"))
        for bank in self._banks:
            for battery in bank.batteries:
                family.add_metric((bank.bank, battery), 1.0)
        return family

    def _infos(self) -> Metric:
        family = InfoMetricFamily(*INFO, labels=("bank",))
        for bank in self._banks:
            family.add_metric((bank.bank,), {"wiring": bank.wiring})
        return family
