"""Controls virtual batteries from another process: one JSON request and response per line.

The fake bluetoothd and the virtual machine use the same requests:

    {"do": "faults", "battery": 0, "set": {"lose_first": 1}}    replaces all faults of the battery
    {"do": "frame", "battery": 0, "hex": "dd03..."}             sets its reply to 0x03
    {"do": "drop", "battery": 0}                                ends the connection
    {"do": "info", "battery": 0}                                returns `Info`
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

from exporter.demo.battery import Faults, VirtualBattery


class Air(Protocol):
    """What a test controls of a simulated radio."""

    @property
    def batteries(self) -> Sequence[VirtualBattery]: ...

    def changed(self, battery: VirtualBattery) -> None:
        """Apply changed faults; a battery that is `gone` loses its connection."""

    def drop(self, battery: VirtualBattery) -> None:
        """End the connection from the battery's side."""

    def is_connected(self, battery: VirtualBattery) -> bool: ...

    def held_s(self, battery: VirtualBattery) -> float:
        """Return the connected time in seconds, including the current connection."""


class Info(TypedDict):
    address: str
    connects: int
    disconnects: int
    connected: bool
    held_s: float
    requests: list[int]
    illegal: list[str]  # hex of everything written that is not a read request


class Control:
    """Carries out the requests above."""

    def __init__(self, air: Air) -> None:
        self._air = air
        self._frames: dict[str, dict[int, bytes]] = {}

    async def answer_later(self, line: bytes) -> bytes:
        """Return the response to one line; subclasses override it for requests that take time."""
        return self.answer(line)

    def answer(self, line: str | bytes) -> bytes:
        """Return the response to one line; for an invalid request it is {"error": ...}."""
        try:
            answer = self._do(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the test shows it
            answer = {"error": f"{type(error).__name__}: {error}"}
        return json.dumps(answer).encode() + b"\n"

    def _do(self, request: dict[str, Any]) -> Any:
        battery = self._air.batteries[request["battery"]]
        match request["do"]:
            case "faults":
                battery.faults = Faults(**request["set"])
                self._air.changed(battery)
            case "frame":
                self._serve(battery, bytes.fromhex(request["hex"]))
            case "drop":
                self._air.drop(battery)
            case "info":
                return self._info(battery)
            case other:
                raise ValueError(f"unknown request {other!r}")
        return {}

    def _serve(self, battery: VirtualBattery, frame: bytes) -> None:
        if battery.address not in self._frames:
            frames: dict[int, bytes] = {}
            usual = battery.answers
            self._frames[battery.address] = frames
            battery.answers = lambda register: frames.get(register) or usual(register)
        self._frames[battery.address][frame[1]] = frame

    def _info(self, battery: VirtualBattery) -> Info:
        return Info(
            address=battery.address,
            connects=battery.connects,
            disconnects=battery.disconnects,
            connected=self._air.is_connected(battery),
            held_s=round(self._air.held_s(battery), 4),
            requests=battery.requests,
            illegal=[data.hex() for data in battery.illegal],
        )


async def serve(control: Control, path: str) -> asyncio.Server:
    """Answer requests on a Unix socket."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(await control.answer_later(line))
            await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, path)
