"""The virtual battery answers like a real one, and its faults do what they say."""

import pytest

from exporter.demo.battery import ENTER, LEAVE, Delivery, Faults, VirtualBattery
from exporter.protocol.frame import Command, FrameAssembler, encode_request
from tests.support.recorded import MOBILEKTRO
from tests.support.virtual import battery

REQUEST = encode_request(Command.BASIC_INFO)


def answer(faults: Faults, *, times: int = 1) -> list[Delivery]:
    """Return what the last of `times` requests brings."""
    virtual = battery(faults=faults)
    virtual.connected()
    return [virtual.request(REQUEST) for _ in range(times)][-1]


def whole(notifications: list[Delivery]) -> bytes:
    return b"".join(notification.data or b"" for notification in notifications)


class TestFaults:
    def test_healthy_battery_replies_in_20_byte_notifications(self) -> None:
        notifications = answer(Faults())

        assert [len(one.data or b"") for one in notifications] == [20, 16]
        assert whole(notifications) == MOBILEKTRO
        assert [one.after_s for one in notifications] == pytest.approx([0.08, 0.081])

    @pytest.mark.parametrize(("size", "count"), [(1, 36), (20, 2), (34, 2), (36, 1), (0, 1)])
    def test_notifications_have_the_chosen_size(self, size: int, count: int) -> None:
        notifications = answer(Faults(notification=size))

        assert len(notifications) == count
        assert whole(notifications) == MOBILEKTRO

    def test_first_requests_are_lost_after_every_connect(self) -> None:
        virtual = battery(faults=Faults(lose_first=2))

        for _ in range(2):
            virtual.connected()
            answers = [bool(virtual.request(REQUEST)) for _ in range(3)]
            assert answers == [False, False, True]

    @pytest.mark.parametrize("faults", [Faults(silent=True), Faults(gone=True)])
    def test_silent_battery_never_replies(self, faults: Faults) -> None:
        assert answer(faults, times=5) == []

    def test_frame_with_a_bad_checksum_is_otherwise_unchanged(self) -> None:
        wire = whole(answer(Faults(bad_checksum=True)))

        assert wire[:-3] == MOBILEKTRO[:-3]
        assert FrameAssembler().feed(wire) == []

    def test_reply_of_a_wrong_register_is_a_valid_frame(self) -> None:
        (frame,) = FrameAssembler().feed(whole(answer(Faults(wrong_register=True))))

        assert frame.register == 0x23

    @pytest.mark.parametrize("size", [20, 0])
    def test_truncated_frame_never_ends(self, size: int) -> None:
        wire = whole(answer(Faults(truncated=True, notification=size)))

        assert MOBILEKTRO.startswith(wire)
        assert 0 < len(wire) < len(MOBILEKTRO)

    def test_cut_reply_drops_the_link_after_the_first_notification(self) -> None:
        first, drop = answer(Faults(cut=True))

        assert first.data == MOBILEKTRO[:20]
        assert drop.data is None
        assert drop.after_s > first.after_s

    def test_stray_byte_comes_without_a_request(self) -> None:
        virtual = battery(faults=Faults(stray=b"\x00"))

        assert virtual.connected() == [Delivery(0.0, b"\x00")]
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
    def test_battery_that_is_gone_or_held_does_not_advertise(
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
    def test_anything_but_a_read_request_is_recorded_and_not_answered(self, data: bytes) -> None:
        virtual = battery()

        assert virtual.request(data) == []
        assert virtual.illegal == [data]
        assert virtual.requests == []


READ_OVERVOLTAGE = bytes.fromhex("dda52400ffdc77")
READ_90_PERCENT = bytes.fromhex("dda54200ffbe77")
OVERVOLTAGE = bytes.fromhex("dd2400020e42ffae77")


class TestSettings:
    @pytest.fixture
    def virtual(self) -> VirtualBattery:
        return battery(settings={0x24: bytes.fromhex("0e42")})

    def test_settings_are_read_between_enter_and_leave(self, virtual: VirtualBattery) -> None:
        replies = [
            whole(virtual.request(data)).hex()
            for data in (READ_OVERVOLTAGE, ENTER, READ_OVERVOLTAGE, LEAVE, READ_OVERVOLTAGE)
        ]

        assert replies == [
            "dd248100ff7f77", "dd000000000077", OVERVOLTAGE.hex(), "dd010000000077",
            "dd248100ff7f77",
        ]  # fmt: skip
        assert virtual.mode_frames == [ENTER, LEAVE]
        assert virtual.requests == [0x24, 0x24, 0x24]
        assert virtual.illegal == []

    def test_other_registers_answer_in_both_modes(self, virtual: VirtualBattery) -> None:
        replies = [whole(virtual.request(data)) for data in (REQUEST, ENTER, REQUEST)]

        assert replies[0] == replies[2] == MOBILEKTRO

    def test_setting_that_the_firmware_lacks_is_unknown(self, virtual: VirtualBattery) -> None:
        virtual.request(ENTER)

        assert whole(virtual.request(READ_90_PERCENT)).hex() == "dd428000ff8077"

    def test_mode_is_entered_and_left_twice_without_harm(self, virtual: VirtualBattery) -> None:
        virtual.request(ENTER)
        assert whole(virtual.request(ENTER)).hex() == "dd000000000077"
        assert virtual.is_mode_open

        virtual.request(LEAVE)
        assert whole(virtual.request(LEAVE)).hex() == "dd010000000077"
        assert not virtual.is_mode_open

    def test_mode_stays_open_when_the_connection_ends(self, virtual: VirtualBattery) -> None:
        virtual.request(ENTER)
        virtual.connected()

        assert virtual.is_mode_open
        assert whole(virtual.request(READ_OVERVOLTAGE)) == OVERVOLTAGE

    def test_lost_enter_does_not_open_the_mode(self) -> None:
        virtual = battery(settings={}, faults=Faults(lose_first=1))
        virtual.connected()

        assert virtual.request(ENTER) == []
        assert not virtual.is_mode_open

    def test_mode_is_open_although_the_reply_is_damaged(self) -> None:
        virtual = battery(settings={}, faults=Faults(truncated=True))

        assert whole(virtual.request(ENTER)) == bytes.fromhex("dd0000000000")
        assert virtual.is_mode_open

    def test_module_with_a_pin_refuses_to_enter(self) -> None:
        virtual = battery(settings={}, faults=Faults(refuses_mode=True))

        assert whole(virtual.request(ENTER)).hex() == "dd008100ff7f77"
        assert not virtual.is_mode_open

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param("dd5a01022828ffad77", id="saving and clearing the counters"),
            pytest.param("dd5a24020e42ff8a77", id="writing a limit"),
            pytest.param("dd5ae1020000ff1d77", id="switching the MOSFETs"),
            pytest.param("dd5a0a020100fff377", id="resetting the capacity"),
            pytest.param("dda5fa03007504fe8a77", id="a block read"),
        ],
    )
    def test_every_other_write_is_an_error_with_the_mode_open(
        self, data: str, virtual: VirtualBattery
    ) -> None:
        virtual.request(ENTER)

        assert virtual.request(bytes.fromhex(data)) == []
        assert virtual.illegal == [bytes.fromhex(data)]

    @pytest.mark.parametrize("data", [ENTER, LEAVE])
    def test_battery_without_settings_allows_no_mode(self, data: bytes) -> None:
        virtual = battery()

        assert virtual.request(data) == []
        assert virtual.illegal == [data]
        assert not virtual.is_mode_open
