"""The data of /api/v1: the current state, events for changes, and the last hours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from exporter import __version__
from exporter.battery.banks import BankSnapshot, make_bank_snapshot
from exporter.battery.forecast import Morning, make_morning, night_current_a
from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.config.presentation import Threshold
from exporter.config.schema import BankConfig, Wiring
from exporter.localtime import LocalTime
from exporter.web import api_json as api
from exporter.web.subscribers import INTERVAL_S, Subscribers

# With a max_age of 0 a page shows readings of its own polls until the next poll.
OWN_MAX_AGE_S: Final = INTERVAL_S + 10.0
NOW_S: Final = 1.0  # maximum age of the time in an event


class State:
    """The data of /api/v1, encoded once for all clients."""

    def __init__(
        self,
        subscribers: Subscribers,
        wall: WallClock,
        metrics_path: str,
        banks: Sequence[BankConfig],
        local_time: LocalTime | None,
    ) -> None:
        self.subscribers = subscribers
        self._banks = banks
        self._mornings = Mornings(subscribers.batteries, local_time)
        self._wall = wall
        self._local_time = local_time
        self._metrics_path = metrics_path
        self._curves = b""
        self._curves_key: object = None
        self._events: dict[str, tuple[object, float, bytes]] = {}  # state, unix time, event

    def batteries(self) -> Sequence[bytes]:
        """Return the parts of the JSON of the current state."""
        return (api.to_json(self._batteries()),)

    def _batteries(self) -> dict[str, Any]:
        return {
            "version": api.VERSION,
            "exporter": __version__,
            "now_unix_s": self._wall.now_unix_s(),
            "poll_interval_s": INTERVAL_S,
            "metrics_path": self._metrics_path,
            "local_time": self._local_time and self._local_time.as_json(),
            "batteries": [self.battery(battery) for battery in self.subscribers.batteries.values()],
            "banks": [self._bank(*self._bank_snapshot(bank)) for bank in self._banks],
        }

    def battery(self, battery: Poller) -> dict[str, Any]:
        """Return the `Battery` object of docs/api.md, without a poll."""
        snapshot = battery.peek(OWN_MAX_AGE_S)
        return api.battery(snapshot, self._mornings.of_battery(snapshot))

    def _bank_snapshot(self, bank: BankConfig) -> tuple[BankSnapshot, Sequence[Snapshot]]:
        known = self.subscribers.batteries
        members = [known[name].peek(OWN_MAX_AGE_S) for name in bank.batteries]
        return make_bank_snapshot(bank, {one.battery: one for one in members}), members

    def _bank(self, bank: BankSnapshot, members: Sequence[Snapshot]) -> dict[str, Any]:
        return api.bank(bank, self._mornings.of_bank(bank, members))

    def history(self) -> Sequence[bytes]:
        """Return the parts of the JSON of the last hours, which are encoded once a change."""
        histories = {name: battery.history for name, battery in self.subscribers.batteries.items()}
        kept = tuple((name, history, history.revision) for name, history in histories.items())
        if kept != self._curves_key:
            self._curves_key = kept
            self._curves = api.curves(histories)
        return api.history(self._curves, now_unix_s=self._wall.now_unix_s())

    def events(self, changed: set[str | None]) -> bytes:
        """Return server-sent events for changed batteries; None among them: for everything."""
        if None in changed:
            return _event("batteries", self._batteries())
        events = [
            self._battery_event(name) for name in self.subscribers.batteries if name in changed
        ]
        return b"".join(events) or _event("alive", {"now_unix_s": self._wall.now_unix_s()})

    def _battery_event(self, name: str) -> bytes:
        battery = self.subscribers.batteries[name]
        banks = [self._bank_snapshot(bank) for bank in self._banks if name in bank.batteries]
        state = battery.peek(OWN_MAX_AGE_S), banks
        now_unix_s = self._wall.now_unix_s()
        sent, sent_unix_s, event = self._events.get(name, (None, 0.0, b""))
        if sent != state or abs(now_unix_s - sent_unix_s) > NOW_S:
            data = {
                "now_unix_s": now_unix_s,
                "battery": self.battery(battery),
                "banks": [self._bank(*bank) for bank in banks],
            }
            event = _event("battery", data)
            self._events[name] = state, now_unix_s, event
        return event


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), api.to_json(data))


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
            snapshot.low.in_ah(snapshot.nominal_ah),
            snapshot.critical.in_ah(snapshot.nominal_ah),
        )

    def of_bank(self, bank: BankSnapshot, members: Sequence[Snapshot]) -> Morning | None:
        """Return the same of a bank, whose thresholds are those of its batteries, added."""
        total = bank.total
        nights_a = [self._night_current_a(name) for name in bank.batteries]
        drawn_a = [night_a for night_a in nights_a if night_a is not None]
        if total is None or total.nominal_ah is None or len(drawn_a) < len(nights_a):
            return None
        return self._make(
            total.remaining_ah,
            sum(drawn_a) if bank.wiring is Wiring.PARALLEL else _mean(drawn_a),
            total.nominal_ah * _threshold_ratio(members, lambda one: one.low),
            total.nominal_ah * _threshold_ratio(members, lambda one: one.critical),
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


def _threshold_ratio(members: Sequence[Snapshot], choose: Callable[[Snapshot], Threshold]) -> float:
    """Return the sum of a threshold of batteries with a nominal capacity, as a ratio of theirs."""
    thresholds_ah = [choose(one).in_ah(one.nominal_ah) or 0.0 for one in members]
    return sum(thresholds_ah) / sum(one.nominal_ah or 0.0 for one in members)


def _mean(values: Sequence[float]) -> float:  # importing the module `statistics` costs 2 MB
    return sum(values) / len(values)
