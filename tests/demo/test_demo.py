"""The virtual batteries: faults that do what they say, days that could have happened."""

import asyncio
from pathlib import Path

import pytest

from exporter.demo.battery import Faults, Notification, VirtualBattery, encode_reply
from exporter.demo.day import Day
from exporter.demo.fleet import COLD, FLAKY, HEALTHY, build_camper, build_replayed
from exporter.demo.radio import air_of
from exporter.demo.replay import read_recording
from exporter.errors import ConfigError
from exporter.protocol.frame import Command, FrameAssembler, encode_request
from exporter.protocol.jbd import (
    decode_basic,
    decode_cells,
    decode_event_counters,
    decode_hardware,
)
from exporter.reading import BasicInfo, Protection
from tests.support.recorded import CELLS, MOBILEKTRO
from tests.support.virtual import battery, now_s, poller_on, radio_on

REQUEST = encode_request(Command.BASIC_INFO)


def answer(faults: Faults, *, times: int = 1) -> list[Notification]:
    """Return what the last of `times` requests brings."""
    virtual = battery(faults=faults)
    virtual.connected()
    return [virtual.request(REQUEST) for _ in range(times)][-1]


def whole(notifications: list[Notification]) -> bytes:
    return b"".join(notification.data or b"" for notification in notifications)


class TestFaults:
    def test_without_one_the_frame_comes_in_20_byte_notifications(self) -> None:
        notifications = answer(Faults())

        assert [len(one.data or b"") for one in notifications] == [20, 16]
        assert whole(notifications) == MOBILEKTRO
        assert [one.after_s for one in notifications] == pytest.approx([0.08, 0.081])

    @pytest.mark.parametrize(("size", "count"), [(1, 36), (20, 2), (34, 2), (36, 1), (0, 1)])
    def test_the_size_of_a_notification_is_free(self, size: int, count: int) -> None:
        notifications = answer(Faults(notification=size))

        assert len(notifications) == count
        assert whole(notifications) == MOBILEKTRO

    def test_first_commands_are_lost_after_every_connect(self) -> None:
        virtual = battery(faults=Faults(lose_first=2))

        for _ in range(2):
            virtual.connected()
            answers = [bool(virtual.request(REQUEST)) for _ in range(3)]
            assert answers == [False, False, True]

    @pytest.mark.parametrize("faults", [Faults(silent=True), Faults(gone=True)])
    def test_silence_is_silence(self, faults: Faults) -> None:
        assert answer(faults, times=5) == []

    def test_a_bad_checksum_is_only_that(self) -> None:
        wire = whole(answer(Faults(bad_checksum=True)))

        assert wire[:-3] == MOBILEKTRO[:-3]
        assert FrameAssembler().feed(wire) == []

    def test_a_wrong_register_is_a_good_frame_of_another(self) -> None:
        (frame,) = FrameAssembler().feed(whole(answer(Faults(wrong_register=True))))

        assert frame.register == 0x23

    @pytest.mark.parametrize("size", [20, 0])
    def test_a_truncated_frame_never_ends(self, size: int) -> None:
        wire = whole(answer(Faults(truncated=True, notification=size)))

        assert MOBILEKTRO.startswith(wire)
        assert 0 < len(wire) < len(MOBILEKTRO)

    def test_a_cut_drops_the_link_after_the_first_notification(self) -> None:
        first, drop = answer(Faults(cut=True))

        assert first.data == MOBILEKTRO[:20]
        assert drop.data is None
        assert drop.after_s > first.after_s

    def test_a_stray_byte_comes_unasked(self) -> None:
        virtual = battery(faults=Faults(stray=b"\x00"))

        assert virtual.connected() == [Notification(0.0, b"\x00")]
        assert battery().connected() == []

    @pytest.mark.parametrize(
        ("faults", "advertising"),
        [
            (Faults(), True),
            (Faults(refuses=True), True),
            (Faults(gone=True), False),
            (Faults(held=True), False),
        ],
    )
    def test_a_battery_that_is_gone_or_held_does_not_advertise(
        self, faults: Faults, advertising: bool
    ) -> None:
        assert battery(faults=faults).advertising is advertising

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(bytes.fromhex("dd5ae1020000ff1d77"), id="switching the MOSFETs"),
            pytest.param(bytes.fromhex("dd5a00025678ff3077"), id="entering factory mode"),
            pytest.param(REQUEST[:-1], id="a cut request"),
            pytest.param(REQUEST.replace(b"\xfd", b"\xfe"), id="a wrong checksum"),
            pytest.param(b"", id="nothing"),
            pytest.param(b"\xdd\xa5", id="a beginning"),
        ],
    )
    def test_what_is_not_a_read_request_is_noted_and_not_answered(self, data: bytes) -> None:
        virtual = battery()

        assert virtual.request(data) == []
        assert virtual.illegal == [data]
        assert virtual.requests == []


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def basic_of(day: Day) -> BasicInfo:
    (frame,) = FrameAssembler().feed(day.answer(0x03))
    return decode_basic(frame.payload)


class TestDay:
    @pytest.mark.parametrize("life", [HEALTHY, FLAKY, COLD], ids=["healthy", "flaky", "cold"])
    def test_every_minute_of_two_days_could_have_happened(self, life: object) -> None:
        clock = Clock()
        day = Day(life, clock)  # type: ignore[arg-type]
        before = basic_of(day)
        for _ in range(2 * 24 * 60):
            clock.s += 60.0
            info = basic_of(day)
            cells = decode_cells(FrameAssembler().feed(day.answer(0x04))[0].payload)

            assert sum(cell_v or 0 for cell_v in cells) == pytest.approx(info.voltage_v, abs=0.02)
            assert info.rsoc_ratio == pytest.approx(info.remaining_ah / info.nominal_ah, abs=0.01)
            assert 0 <= info.remaining_ah <= info.nominal_ah
            assert all(2.5 < (cell_v or 0) < 3.65 for cell_v in cells)
            assert info.remaining_ah - before.remaining_ah == pytest.approx(
                (info.current_a + before.current_a) / 2 / 60, abs=1.0
            )
            cold = min(celsius or 0.0 for celsius in info.temperatures_c) < -0.05
            assert (Protection.CHARGE_UNDERTEMPERATURE in info.protections) or not cold
            if Protection.CHARGE_UNDERTEMPERATURE in info.protections:
                assert not info.charge_fet_on
                assert info.current_a <= 0
            before = info

    def test_charging_fills_it_and_discharging_empties_it(self) -> None:
        clock = Clock()
        day = Day(HEALTHY, clock)
        readings = []
        for _ in range(24 * 60):
            clock.s += 60.0
            readings.append(basic_of(day))

        charging = [one for one in readings if one.current_a > 0]
        assert charging
        assert len(charging) < len(readings)
        assert max(one.remaining_ah for one in readings) > readings[0].remaining_ah
        assert min(one.current_a for one in readings) < -80  # the coffee machine

    def test_the_cold_one_is_nearly_empty_in_the_morning_and_charged_in_the_afternoon(self) -> None:
        clock = Clock()
        day = Day(COLD, clock)
        morning = basic_of(day)
        clock.s = 9 * 3600.0
        afternoon = basic_of(day)

        assert morning.rsoc_ratio < 0.1
        assert morning.protections == {Protection.CHARGE_UNDERTEMPERATURE}
        assert not morning.charge_fet_on
        assert afternoon.rsoc_ratio > 0.2
        assert afternoon.protections == frozenset()
        assert afternoon.charge_fet_on

    def test_speed_is_time(self) -> None:
        slow_clock, fast_clock = Clock(), Clock()
        slow, fast = Day(HEALTHY, slow_clock), Day(HEALTHY, fast_clock, speed=60.0)
        slow_clock.s, fast_clock.s = 3600.0, 60.0

        assert basic_of(slow) == basic_of(fast)

    def test_weeks_without_a_question_are_caught_up_with(self) -> None:
        clock = Clock()
        day = Day(HEALTHY, clock)
        clock.s = 30 * 86400.0

        assert 0 <= basic_of(day).remaining_ah <= 200

    def test_an_empty_battery_switches_off(self) -> None:
        clock = Clock()
        day = Day(COLD, clock, start_h=20.0)
        clock.s = 10 * 3600.0

        info = basic_of(day)

        assert info.remaining_ah == 0
        assert Protection.CELL_UNDERVOLTAGE in info.protections
        assert not info.discharge_fet_on
        assert info.current_a == 0

    def test_the_other_registers_are_answered_too(self) -> None:
        day = Day(HEALTHY, Clock())

        hardware = decode_hardware(FrameAssembler().feed(day.answer(0x05))[0].payload)
        counters = decode_event_counters(FrameAssembler().feed(day.answer(0xAA))[0].payload)

        assert hardware == "JBD-SP04S034-L4S-200A-B-U"
        assert counters.restarts == 1
        assert day.answer(0x24) == encode_reply(0x24, status=0x80)


class TestReplay:
    def test_frames_of_one_register_come_in_turn(self, tmp_path: Path) -> None:
        other = encode_reply(0x03, bytes(23))
        path = tmp_path / "frames.hex"
        path.write_text(
            f"# two readings\n{MOBILEKTRO.hex()}\n  {other.hex(' ')}  # comment\n{CELLS.hex()}\n"
        )

        answers, remarks = read_recording(path)

        assert [answers(0x03) for _ in range(3)] == [MOBILEKTRO, other, MOBILEKTRO]
        assert answers(0x04) == CELLS
        assert remarks == []

    def test_a_register_that_is_not_recorded_is_answered_with_80(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.hex"
        path.write_text(MOBILEKTRO.hex())

        answers, _ = read_recording(path)

        assert answers(0x05) == bytes.fromhex("dd058000ff8077")

    def test_a_damaged_frame_is_served_with_a_remark(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.hex"
        damaged = MOBILEKTRO.hex().replace("4f82", "4f83")
        path.write_text(f"{CELLS.hex()}\n{damaged}\n")

        answers, remarks = read_recording(path)

        assert answers(0x03).hex() == damaged
        assert remarks == [f"{path}:2: a damaged frame, served as it is"]

    def test_a_log_with_requests_is_served(self, tmp_path: Path) -> None:
        path = tmp_path / "log.txt"
        start = "ts=2026-11-28T00:42:19.573+00:00 level=debug logger=exporter.bms msg=received hex="
        path.write_text(
            f"{start}dda50300fffd77\n{start}{MOBILEKTRO[:20].hex()}\n{start}{MOBILEKTRO[20:].hex()}\n"
        )

        answers, remarks = read_recording(path)

        assert answers(0x03) == MOBILEKTRO
        assert remarks == []

    def test_surplus_bytes_are_not_served(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.hex"
        path.write_text(f"00\n{CELLS.hex('.').upper()} (15)\n0102\ndd\n")

        answers, remarks = read_recording(path)

        assert answers(0x04) == CELLS
        assert remarks == [
            f"{path}:1: surplus bytes, not served: 00",
            f"{path}:3: surplus bytes, not served: 0102",
            f"{path}:4: surplus bytes, not served: dd",
        ]

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"dda50300fffd77", "expected at least one reply frame .DD03...77., got none"),
            (b"0178290029000000", "expected at least one reply frame .DD03...77., got none"),
            (b"\xff\xff", "it is not text"),
            (b"hello\nworld\n", "frames.hex:1: expected hex like DD03...77, got 'hello'"),
            (
                b"dd0300\ndd0\n",
                "frames.hex:2: expected hex like DD03...77, got 'dd0': 3 digits",
            ),
        ],
    )
    def test_anything_else_is_named(self, content: bytes, complaint: str, tmp_path: Path) -> None:
        path = tmp_path / "frames.hex"
        path.write_bytes(content)

        with pytest.raises(ConfigError, match=complaint):
            read_recording(path)

    def test_each_recording_becomes_a_battery_with_an_address(self) -> None:
        batteries = build_replayed({f"b{number}": lambda _: b"" for number in range(300)})

        assert len({one.address for one in batteries.values()}) == 300
        assert batteries["b0"].address == "A4:C1:38:00:00:01"
        assert batteries["b299"].address == "A4:C1:38:00:01:2C"


class TestFleet:
    async def test_the_first_poll_of_all_three_succeeds(self, tasks: asyncio.TaskGroup) -> None:
        batteries: dict[str, VirtualBattery] = build_camper(now_s)
        radio = radio_on(air_of(batteries.values()))
        pollers = [
            poller_on(radio, tasks, name=name, address=one.address)
            for name, one in batteries.items()
        ]

        snapshots = await asyncio.gather(*(one.refresh(timeout_s=30.0) for one in pollers))

        assert [(one.battery, one.up) for one in snapshots] == [
            ("camper", True),
            ("flaky", True),
            ("cold", True),
        ]

    async def test_the_flaky_one_fails_and_recovers(self, tasks: asyncio.TaskGroup) -> None:
        batteries = build_camper(now_s)
        radio = radio_on(air_of(batteries.values()))
        poller = poller_on(radio, tasks, name="flaky", address=batteries["flaky"].address)

        ups = []
        for _ in range(60):
            ups.append((await poller.refresh(timeout_s=30.0)).up)
            await asyncio.sleep(60.0)

        assert 20 < ups.count(True) < 60
        assert ups[-20:].count(True) > 5
