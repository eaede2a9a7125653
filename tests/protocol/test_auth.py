"""The password exchange, against recorded answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import AuthError
from exporter.protocol.auth import PasswordExchange, encode, encrypt
from tests.support.recorded import AUTH

MAC = bytes.fromhex("10a562327536")
ACCEPTS_KEY = bytes.fromhex("ffaa15010016")
RANDOM_24 = bytes.fromhex("ffaa1701243c")
ACCEPTS = bytes.fromhex("ffaa18010019")


def exchange() -> PasswordExchange:
    return PasswordExchange(b"123456", MAC)


def at_password() -> PasswordExchange:
    begun = exchange()
    begun.feed(ACCEPTS_KEY)
    begun.feed(RANDOM_24)
    return begun


@pytest.mark.parametrize("vector", AUTH, ids=lambda vector: vector["encrypted"])
class TestRecorded:
    def test_password_formula_reproduces_the_recorded_proof(self, vector: dict[str, Any]) -> None:
        mac = bytes.fromhex(vector["mac"].replace(":", ""))

        encrypted = encrypt(vector["password"].encode(), mac, int(vector["random"], 16))

        assert encrypted.hex() == vector["encrypted"]

    def test_password_exchange_ends_as_recorded(self, vector: dict[str, Any]) -> None:
        mac = bytes.fromhex(vector["mac"].replace(":", ""))
        begun = PasswordExchange(vector["password"].encode(), mac)
        sent = [begun.request.hex()]
        for answer in (ACCEPTS_KEY, encode(0x17, bytes([int(vector["random"], 16)]))):
            assert begun.feed(answer)
            sent.append(begun.request.hex())

        assert sent == ["ffaa15063030303030303b", "ffaa170017", vector["request_hex"]]
        if vector["device_answer"] == "ok":
            assert not begun.feed(ACCEPTS)
            assert begun.done
        else:
            with pytest.raises(AuthError, match="rejected the password"):
                begun.feed(bytes.fromhex("ffaa1801011a"))


class TestAnswers:
    @pytest.mark.parametrize(
        "chunks",
        [
            pytest.param([ACCEPTS_KEY[:2], ACCEPTS_KEY[2:]], id="in pieces"),
            pytest.param([bytes([byte]) for byte in ACCEPTS_KEY], id="byte by byte"),
            pytest.param([b"\x00\xff\xaa" + ACCEPTS_KEY], id="after noise"),
            pytest.param([RANDOM_24, ACCEPTS_KEY], id="after another answer"),
            pytest.param([b"\x00" * 500, ACCEPTS_KEY], id="after much noise"),
        ],
    )
    def test_answer_is_found_however_it_is_delivered(self, chunks: list[bytes]) -> None:
        begun = exchange()

        moved = [begun.feed(chunk) for chunk in chunks]

        assert moved == [False] * (len(chunks) - 1) + [True]
        assert begun.request.hex() == "ffaa170017"
        assert not begun.done

    def test_battery_without_a_password_ends_the_exchange_at_once(self) -> None:
        begun = exchange()

        assert not begun.feed(bytes.fromhex("ffaa15010218"))
        assert begun.done

    def test_rejected_app_key_is_named(self) -> None:
        with pytest.raises(AuthError, match=r"rejected the app key \(answer 0x01\)"):
            exchange().feed(bytes.fromhex("ffaa15010117"))

    def test_not_needed_does_not_accept_a_password(self) -> None:
        with pytest.raises(AuthError, match="answer 0x02"):
            at_password().feed(bytes.fromhex("ffaa1801021b"))

    def test_damaged_answer_is_ignored(self) -> None:
        begun = at_password()

        assert not begun.feed(bytes.fromhex("ffaa18010018"))
        assert not begun.done

    @given(noise=st.lists(st.binary(max_size=300), max_size=10))
    def test_noise_raises_only_auth_errors(self, noise: list[bytes]) -> None:
        begun = exchange()
        try:
            for chunk in noise:
                begun.feed(chunk)
        except AuthError:
            return
        assert len(begun._buffer) <= 64  # the bound is the promise


def test_password_exchange_sends_only_the_steps_that_open_reading() -> None:
    begun = exchange()
    commands = {begun.request[2]}
    for answer in (ACCEPTS_KEY, RANDOM_24, ACCEPTS):
        begun.feed(answer)
        commands.add(begun.request[2])

    assert commands == {0x15, 0x17, 0x18}
