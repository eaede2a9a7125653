"""What `decode` prints: reply frames explained offline, and what is wrong with damaged ones."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Final

from prometheus_client import generate_latest

from exporter.errors import BmsError, DecodeError, DeviceError
from exporter.metrics import READING_ROWS, BatteryCollector, registry_of
from exporter.poller import Snapshot
from exporter.protocol import jbd
from exporter.protocol.explain import (
    Line,
    check_plausible,
    explain,
    parse_frame,
    register_name,
    split_frames,
)
from exporter.protocol.frame import Command, Frame
from exporter.reading import Identity, Reading
from exporter.report import to_json
from exporter.stats import LinkStats

BATTERY: Final = "decoded"
BYTES_A_LINE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedFrame:
    """One frame: what it says, or why it is not believed."""

    raw: bytes
    frame: Frame | None = None  # None: not a valid frame
    problem: str | None = None
    facts: dict[str, Any] | None = None  # by the part of a Reading; None: there is a problem


def decode_all(raws: Sequence[bytes]) -> list[DecodedFrame]:
    """Take apart every frame; each of `raws` may hold several."""
    decoded = [_decode_one(raw) for chunk in raws for raw in split_frames(chunk)]
    facts = [part.facts for part in decoded if part.facts]
    counts = [one["basic"].cell_count for one in facts if "basic" in one]
    for one in facts:
        if counts and "cell_voltages_v" in one:
            one["cell_voltages_v"] = jbd.fitted_cells(one["cell_voltages_v"], counts[-1])
    return decoded


def _decode_one(raw: bytes) -> DecodedFrame:
    frame: Frame | None = None
    try:
        frame = parse_frame(raw)
        if frame.status:
            raise DeviceError(
                f"status: expected 0x00 (ok), got {frame.status:#04x} "
                f"({jbd.status_name(frame.status)})"
            )
        check_plausible(frame)
        return DecodedFrame(raw=raw, frame=frame, facts=_facts(frame))
    except BmsError as error:
        return DecodedFrame(raw=raw, frame=frame, problem=str(error))


def _facts(frame: Frame) -> dict[str, Any]:
    match frame.register:
        case Command.BASIC_INFO:
            return {"basic": jbd.decode_basic(frame.payload)}
        case Command.CELL_VOLTAGES:
            return {"cell_voltages_v": jbd.decode_cells(frame.payload)}
        case Command.HARDWARE:
            return {"hardware": jbd.decode_hardware(frame.payload)}
        case Command.EVENT_COUNTERS:
            return {"counters": jbd.decode_event_counters(frame.payload)}
    return {}


def problems(decoded: Sequence[DecodedFrame]) -> list[str]:
    """Return one line for each frame that is not believed."""
    return [
        f"frame {number}{_of(part.frame)}: {part.problem}"
        for number, part in enumerate(decoded, start=1)
        if part.problem is not None
    ]


def _of(frame: Frame | None) -> str:
    return f", register {frame.register:#04x} ({register_name(frame.register)})" if frame else ""


def text(decoded: Sequence[DecodedFrame]) -> str:
    """Return every frame byte by byte."""
    return "\n\n".join("\n".join(_text_of(part)) for part in decoded)


def _text_of(part: DecodedFrame) -> Iterator[str]:
    yield part.raw.hex(" ").upper()
    frame = part.frame
    if frame is None or (part.problem and not frame.status):
        yield f"  REFUSED: {part.problem}"
        return
    yield (
        f"  register {frame.register:#04x} ({register_name(frame.register)}), "
        f"status {frame.status:#04x} ({jbd.status_name(frame.status)}), "
        f"payload {frame.payload.hex() or 'empty'}"
    )
    yield from map(_line, explain(frame))


def _line(line: Line) -> str:
    fits = len(line.raw) <= BYTES_A_LINE
    shown = line.raw.hex(" ") if fits else line.raw[: BYTES_A_LINE - 1].hex(" ") + " .."
    return f"  {line.at:3}  {shown.upper():<23}  {line.name:<26}  {line.value}".rstrip()


def json(decoded: Sequence[DecodedFrame]) -> str:
    """Return every frame as an element of a JSON array; every unit is in its name."""
    return to_json([_element(part) for part in decoded])


def _element(part: DecodedFrame) -> dict[str, Any]:
    element: dict[str, Any] = {"frame": part.raw.hex()}
    if part.frame is not None:
        element |= {
            "register": f"{part.frame.register:#04x}",
            "name": register_name(part.frame.register),
            "status": f"{part.frame.status:#04x}",
            "payload": part.frame.payload.hex(),
        }
    if part.problem is not None:
        return element | {"error": part.problem}
    facts = (part.facts or {}).items()
    return element | {
        "decoded": {
            name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for name, value in facts
        }
    }


def metrics(decoded: Sequence[DecodedFrame]) -> str:
    """Return what a battery with these frames exports; of several of one register, the last."""
    facts: dict[str, Any] = {}
    for part in decoded:
        facts |= part.facts or {}
    hardware = facts.pop("hardware", None)
    basic = facts.get("basic")
    identity = Identity(
        profile="",
        hardware=hardware or "",
        software=basic.software if basic else "",
        manufactured=basic.manufactured if basic else None,
    )
    snapshot = Snapshot(
        battery=BATTERY,
        address="",
        up=True,
        reading=Reading(**facts),
        identity=identity if hardware is not None else None,
        rssi_dbm=None,
        poll_duration_s=None,
        poll_timeout_s=0,
        polls=0,
        failures={},
        last_error=None,
        link=LinkStats(),
    )
    return generate_latest(registry_of(BatteryCollector([snapshot], READING_ROWS))).decode()


def from_hex(arguments: Sequence[str]) -> list[bytes]:
    """Return the bytes of frames given as hex, one an argument, or one split over several.

    Raises:
        DecodeError: An argument is not hex.
    """
    chunks = []
    for argument in arguments:
        try:
            chunks.append(bytes.fromhex(argument.replace(":", " ").replace("0x", " ")))
        except ValueError:
            raise DecodeError(f"expected hex like DD03...77, got {argument!r}") from None
    if all(len(chunk) == 1 for chunk in chunks):  # dd 03 00 1b ... without quotes
        return [b"".join(chunks)]
    return chunks
