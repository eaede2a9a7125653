"""The server's side of ESPHome's framing: plaintext, and Noise_NNpsk0 with the library's cipher."""

import asyncio
import base64
from typing import Any

from aioesphomeapi.core import MESSAGE_TYPE_TO_PROTO
from noise.connection import NoiseConnection
from noise.exceptions import NoiseInvalidMessage

NUMBERS = {kind: number for number, kind in MESSAGE_TYPE_TO_PROTO.items()}
PROLOGUE = b"NoiseAPIInit\x00\x00"


class WireError(Exception):
    """The client speaks another framing, or has another key; it was told so."""


def varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


class PlainWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def open(self) -> None:
        pass

    async def receive(self) -> Any:
        if await self._reader.readexactly(1) != b"\x00":
            self._writer.write(b"\x00Bad indicator byte")
            raise WireError("not plaintext")
        length, kind = await self._varint(), await self._varint()
        message = MESSAGE_TYPE_TO_PROTO[kind]()
        message.ParseFromString(await self._reader.readexactly(length))
        return message

    async def _varint(self) -> int:
        number = shift = 0
        while True:
            (byte,) = await self._reader.readexactly(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def encode(self, message: Any) -> bytes:
        payload: bytes = message.SerializeToString()
        return b"\x00" + varint(len(payload)) + varint(NUMBERS[type(message)]) + payload


class NoiseWire:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._noise = NoiseConnection.from_name(b"Noise_NNpsk0_25519_ChaChaPoly_SHA256")
        self._noise.set_as_responder()
        self._noise.set_psks(base64.b64decode(key))
        self._noise.set_prologue(PROLOGUE)
        self._noise.start_handshake()

    async def open(self) -> None:
        await self._frame()  # the client's hello, which is empty
        self._writer.write(_framed(b"\x01garage\x00aabbccddeeff\x00"))
        handshake = await self._frame()
        try:
            self._noise.read_message(handshake[1:])
        except Exception as error:  # of the cryptography beneath, or of noiseprotocol
            self._writer.write(_framed(b"\x01Handshake MAC failure"))
            raise WireError("another key") from error
        self._writer.write(_framed(b"\x00" + bytes(self._noise.write_message())))

    async def _frame(self) -> bytes:
        if await self._reader.readexactly(1) != b"\x01":
            self._writer.write(_framed(b"\x01Bad indicator byte"))
            raise WireError("not encrypted")
        length = await self._reader.readexactly(2)
        frame: bytes = await self._reader.readexactly(int.from_bytes(length, "big"))
        return frame

    async def receive(self) -> Any:
        try:
            data = bytes(self._noise.decrypt(await self._frame()))
        except NoiseInvalidMessage as error:
            raise WireError("not encrypted with this key") from error
        message = MESSAGE_TYPE_TO_PROTO[int.from_bytes(data[:2], "big")]()
        message.ParseFromString(data[4:])
        return message

    def encode(self, message: Any) -> bytes:
        payload = message.SerializeToString()
        head = NUMBERS[type(message)].to_bytes(2, "big") + len(payload).to_bytes(2, "big")
        return _framed(bytes(self._noise.encrypt(head + payload)))


def _framed(data: bytes) -> bytes:
    return b"\x01" + len(data).to_bytes(2, "big") + data
