"""A replay says what the recording does not hold, with both sides in hex."""

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from exporter.config.schema import SettingsChoice
from exporter.demo.battery import Faults
from exporter.errors import FailureReason
from exporter.protocol.settings_exchange import LEAVE
from exporter.recording.session import Event, RecordingError
from exporter.replay.kernel import ReplayedKernel
from exporter.replay.problems import Problems
from exporter.replay.script import read_attempts
from exporter.replay.times import Times
from tests.support.sessions import record_bluez, record_direct, replay_text, run
from tests.support.settings import SETTINGS
from tests.support.virtual import answering


def without(text: str, part: str) -> str:
    """Return a recording without the first line that holds `part`."""
    lines = text.splitlines()
    del lines[next(number for number, line in enumerate(lines) if part in line)]
    return "\n".join(lines)


def number_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


class TestDirect:
    def test_request_that_was_not_recorded_is_named_with_both_sides(self) -> None:
        (text,) = record_direct()
        number = number_of(text, "dda5aa00ff5677")

        with pytest.raises(RecordingError) as refused:
            replay_text(text.replace("dda5aa00ff5677", "dda5ab00ff5577"))

        assert str(refused.value) == (
            f"x.jsonl:{number}: the exporter asks for 520700dda5aa00ff5677, the recording "
            "has 520700dda5ab00ff5577"
        )

    def test_request_after_the_last_recorded_one_is_named(self) -> None:
        (text,) = record_direct()

        with pytest.raises(RecordingError) as refused:
            replay_text(without(text, "dda50500fffb77"))

        assert str(refused.value) == (
            "x.jsonl: the exporter asks for 520700dda50500fffb77, the recording has no more"
        )

    @pytest.mark.parametrize("record", [record_direct, record_bluez])
    def test_failed_poll_that_began_with_leave_is_replayed(
        self, record: Callable[..., Sequence[str]]
    ) -> None:
        (text,) = record(settings=SETTINGS, answers=answering({}), choice=SettingsChoice.DAILY)
        assert LEAVE.hex() in text

        replayed = replay_text(text)

        assert replayed.differences == ()
        assert replayed.snapshot.failure is FailureReason.DEVICE

    def test_recording_with_a_password_shows_its_step(self) -> None:
        (text,) = record_direct()
        header, rest = text.split("\n", 1)
        other = rest.replace('"tx":"520700dda50400fffc77"', '"tx":"520700","password":{"step":21}')

        with pytest.raises(RecordingError, match=r"has 520700 \(password, step 0x15\)"):
            replay_text(f"{header}\n{other}")

    def test_further_attempt_to_connect_is_named(self) -> None:
        (text,) = record_direct(air={"errors": [OSError(38, "")]})
        lines = text.splitlines()
        text = "\n".join([*lines[:3], lines[-1]])

        with pytest.raises(RecordingError) as refused:
            replay_text(text)

        assert str(refused.value) == (
            "x.jsonl: the exporter connects again, the recording has no more attempts"
        )

    def test_other_address_type_is_named(self) -> None:
        (text,) = record_direct()
        number = number_of(text, '"ev":"open"')

        with pytest.raises(RecordingError) as refused:
            replay_text(text.replace('"kind":1', '"kind":2'))

        assert str(refused.value) == (
            f"x.jsonl:{number}: the exporter connects to an address of type 1, the recording has 2"
        )

    def test_adapter_that_is_stuck_has_the_same_error(self) -> None:
        (text,) = record_direct(faults=Faults(gone=True))
        end = '{"t":30,"ev":"stuck","reason":"no_events"}'

        replayed = replay_text("\n".join([*text.splitlines()[:-1], end]))

        assert (replayed.result["error"], replayed.result["cause"]) == ("AdapterError", "wedge")

    def test_adapter_that_has_low_energy_off_has_the_same_error(self) -> None:
        (text,) = record_direct(faults=Faults(gone=True))
        end = '{"t":30,"ev":"settings","bits":1}'

        replayed = replay_text("\n".join([*text.splitlines()[:-1], end]))

        assert replayed.result["error"] == "AdapterError"

    def test_battery_that_ends_the_connection_is_replayed(self) -> None:
        (text,) = record_direct()
        end = '{"t":0.3,"ev":"closed","by":"battery","errno":104}'
        lines = [line for line in text.splitlines() if json.loads(line).get("t", 0) < 0.3]

        replayed = replay_text("\n".join([*lines, end]))

        assert replayed.snapshot.polls == 1


class TestBluez:
    def test_write_that_was_not_recorded_is_named_with_both_sides(self) -> None:
        (text,) = record_bluez()

        with pytest.raises(RecordingError, match=r":\d+: the exporter asks for write dda5aa00f"):
            replay_text(text.replace("dda5aa00ff5677", "dda5ab00ff5577"))

    def test_subscription_that_was_not_recorded_is_named(self) -> None:
        (text,) = record_bluez()

        with pytest.raises(
            RecordingError, match=r"asks for subscribe to 6e400003-.*has write dda5"
        ):
            replay_text(without(text, '"ev":"subscribe"'))

    def test_further_attempt_to_connect_is_named(self) -> None:
        (text,) = record_bluez()
        lines = text.splitlines()
        failed = '{"t":1.0,"ev":"failed","doing":"connect","error":"BleakError","text":"x"}'

        with pytest.raises(RecordingError, match="connects again, the recording has no more"):
            replay_text("\n".join([*lines[:3], failed]))

    @pytest.mark.parametrize(
        ("failure", "error"),
        [
            ({"error": "TimeoutError"}, "ConnectError"),
            ({"error": "BleakDBusError", "dbus": "org.bluez.Error.Failed"}, "ConnectError"),
            ({"error": "BleakDBusError", "dbus": "org.bluez.Error.NotReady"}, "AdapterError"),
            (
                {"error": "BleakBluetoothNotAvailableError", "reason": "POWERED_OFF"},
                "AdapterError",
            ),
            ({"error": "FileNotFoundError"}, "AdapterError"),
        ],
    )
    def test_failure_has_the_same_class(self, failure: dict[str, str], error: str) -> None:
        (text,) = record_bluez()
        lines = text.splitlines()[:3]
        facts = {"ev": "failed", "doing": "connect", "text": "x", **failure}
        for number in range(20):
            lines += [
                json.dumps({"t": 2.0 + number, **facts}),
                json.dumps({"t": 2.5 + number, "ev": "open"}),
            ]

        assert replay_text("\n".join(lines)).result["error"] == error

    @pytest.mark.parametrize("what", ["subscribe", "write"])
    def test_refused_request_loses_the_link(self, what: str) -> None:
        (text,) = record_bluez()
        number = number_of(text, f'"ev":"{what}"')
        lines = text.splitlines()[:number]
        lines.append(
            '{"t":2.0,"ev":"refused","doing":"x","error":"BleakDBusError",'
            '"dbus":"org.freedesktop.DBus.Error.UnknownObject","text":"x"}'
        )

        assert replay_text("\n".join(lines)).result["error"] == "LinkLostError"


@pytest.mark.parametrize("record", [record_direct, record_bluez])
def test_replay_does_the_same_in_the_same_order(record: Callable[..., list[str]]) -> None:
    (text,) = record()

    replayed = replay_text(text)

    def steps(lines: Sequence[str]) -> list[object]:
        events = [json.loads(line) for line in lines[1:]]
        return [event.get("tx") or event.get("ev") or list(event)[1] for event in events]

    assert steps(replayed.lines) == steps(text.splitlines())


def test_more_notifications_than_a_connection_holds_are_named_with_their_line() -> None:
    async def flood() -> str | None:
        attempts = read_attempts(
            [
                Event("x:2", 0.0, {"ev": "open"}),
                Event("x:3", 0.0, {"ev": "connected"}),
                *[Event("x:4", 0.0, {"rx": "1b0e00" + "00" * 20})] * 3000,
            ]
        )
        problems = Problems("x")
        replayed = ReplayedKernel(attempts, Times(), problems, stuck=False, there=True)
        with await replayed.kernel.open_channel("A4:C1:38:00:00:01", 1, ""):
            await asyncio.sleep(1.0)  # and nobody reads
        return problems.first

    assert run(flood()) == "x:4: more arrives at once than a connection holds"
