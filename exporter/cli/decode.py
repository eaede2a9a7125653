"""What `decode` prints: valid frames explained, and what is wrong with others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import generate_latest

from exporter.battery.snapshot import Snapshot
from exporter.cli.output import dump_json
from exporter.errors import BmsError, DeviceError
from exporter.metrics import READING_ROWS, BatteryCollector
from exporter.protocol import jbd
from exporter.protocol import parameter_block as block
from exporter.protocol.explain import (
    Line,
    check_plausible,
    explain,
    is_setting,
    parse_frame,
    register_name,
)
from exporter.protocol.frame import Command, Frame
from exporter.protocol.settings import FUNCTIONS
from exporter.protocol.settings_values import SIZE, decode_setting, merge_values, says_100_ma_unit
from exporter.protocol.split import Kind, Part, request_name, split
from exporter.reading import Identity, Reading

BATTERY: Final = "decoded"
BYTES_A_LINE: Final = 8
NOT_EXPORTED: Final = ("settings", "parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedFrame:
    """A reply with its facts or its problem, a request, or surplus bytes."""

    kind: Kind
    raw: bytes
    frame: Frame | None = None  # None: not a valid frame
    problem: str | None = None
    facts: dict[str, Any] | None = None  # by the name of Reading's part; None: refused
    has_100_ma_unit: bool = False


def decode_all(pieces: Sequence[bytes]) -> list[DecodedFrame]:
    """Decode every frame; a frame may be split over several pieces.

    The last basic info gives the number of cells for all cell voltages, the last register 0x2D
    the unit of all currents and capacities among the settings.
    """
    parts = list(split(pieces))
    is_large = any(_units(parts)[-1:])
    decoded = [_decode_one(part, has_100_ma_unit=is_large) for part in parts]
    facts = [part.facts for part in decoded if part.facts]
    counts = [one["basic"].cell_count for one in facts if "basic" in one]
    for one in facts:
        if counts and "cell_voltages_v" in one:
            one["cell_voltages_v"] = jbd.fitted_cells(one["cell_voltages_v"], counts[-1])
    return decoded


def _units(parts: Sequence[Part]) -> list[bool]:
    """Return what each valid reply of 0x2D says about the unit."""
    frames = [parse_frame(part.raw) for part in parts if part.kind is Kind.REPLY]
    return [
        says_100_ma_unit(frame.payload)
        for frame in frames
        if frame.register == FUNCTIONS and not frame.status and len(frame.payload) == SIZE
    ]


def _decode_one(part: Part, *, has_100_ma_unit: bool) -> DecodedFrame:
    if part.kind in (Kind.REQUEST, Kind.SURPLUS):
        return DecodedFrame(kind=part.kind, raw=part.raw)
    frame: Frame | None = None
    try:
        frame = parse_frame(part.raw)
        if frame.status:
            raise DeviceError(
                f"status: expected 0x00 (ok), got {frame.status:#04x} "
                f"({jbd.status_name(frame.status)})"
            )
        check_plausible(frame)
        return DecodedFrame(
            kind=part.kind,
            raw=part.raw,
            frame=frame,
            facts=_facts(frame) | _settings(frame, has_100_ma_unit=has_100_ma_unit),
            has_100_ma_unit=has_100_ma_unit,
        )
    except BmsError as error:
        return DecodedFrame(kind=part.kind, raw=part.raw, frame=frame, problem=str(error))


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


def _settings(frame: Frame, *, has_100_ma_unit: bool) -> dict[str, Any]:
    """Return the facts that no poll requests."""
    payload = frame.payload
    if is_setting(frame):
        rows = decode_setting(frame.register, payload, has_100_ma_unit=has_100_ma_unit)
        return {"settings": merge_values(rows)}
    if frame.register == block.BLOCK:
        parameters = block.decode_block(payload, has_100_ma_unit=has_100_ma_unit)
        rows = [one.decoded for one in parameters if one.decoded]
        return {"parameters": block.numbers(payload), "settings": merge_values(rows)}
    return {}


def problems(decoded: Sequence[DecodedFrame]) -> list[str]:
    """Return a line for each refused frame, or one that says that there is no reply."""
    frames = [part for part in decoded if part.kind in (Kind.REPLY, Kind.DAMAGED)]
    requests = [part for part in decoded if part.kind is Kind.REQUEST]
    if not frames and requests:
        return [f"expected a reply, got the {request_name(requests[0].raw)}"]
    return [
        f"frame {number}{_register_suffix(part.frame)}: {part.problem}"
        for number, part in enumerate(frames, start=1)
        if part.problem is not None
    ]


def _register_suffix(frame: Frame | None) -> str:
    return f", register {frame.register:#04x} ({register_name(frame.register)})" if frame else ""


def notes(decoded: Sequence[DecodedFrame]) -> list[str]:
    """Return a line for each request and for each run of surplus bytes."""
    return [note for part in decoded if (note := _note(part))]


def _note(part: DecodedFrame) -> str:
    if part.kind is Kind.REQUEST:
        return f"{request_name(part.raw)}: {part.raw.hex()}"
    if part.kind is Kind.SURPLUS:
        count = f"{len(part.raw)} surplus byte{'s' * (len(part.raw) > 1)}"
        return f"{count}: {part.raw.hex()}"
    return ""


def to_text(decoded: Sequence[DecodedFrame]) -> str:
    """Return every valid frame byte by byte, with the notes in between."""
    paragraphs = ["\n".join(_text_lines(part)) for part in decoded]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _text_lines(part: DecodedFrame) -> Iterator[str]:
    frame = part.frame
    if frame is None or part.facts is None:
        yield _note(part)
        return
    yield part.raw.hex(" ").upper()
    yield (
        f"  register {frame.register:#04x} ({register_name(frame.register)}), "
        f"status {frame.status:#04x} ({jbd.status_name(frame.status)}), "
        f"payload {frame.payload.hex() or 'empty'}"
    )
    yield from map(_line, explain(frame, has_100_ma_unit=part.has_100_ma_unit))


def _line(line: Line) -> str:
    fits = len(line.raw) <= BYTES_A_LINE
    shown = line.raw.hex(" ") if fits else line.raw[: BYTES_A_LINE - 1].hex(" ") + " .."
    return f"  {line.at:3}  {shown.upper():<23}  {line.name:<26}  {line.value}".rstrip()


def to_json(decoded: Sequence[DecodedFrame]) -> str:
    """Return a JSON array of the valid frames, with units in the names."""
    return dump_json(
        [
            {
                "frame": part.raw.hex(),
                "register": f"{part.frame.register:#04x}",
                "name": register_name(part.frame.register),
                "status": f"{part.frame.status:#04x}",
                "payload": part.frame.payload.hex(),
                "decoded": part.facts,
            }
            for part in decoded
            if part.frame is not None and part.facts is not None
        ]
    )


def to_metrics(decoded: Sequence[DecodedFrame]) -> str:
    """Return the metrics of these frames; of several for one register, the last one counts."""
    facts: dict[str, Any] = {}
    for part in decoded:
        facts |= part.facts or {}
    facts = {name: fact for name, fact in facts.items() if name not in NOT_EXPORTED}
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
        reading=Reading(**facts),
        identity=identity if hardware is not None else None,
    )
    return generate_latest(BatteryCollector([snapshot], READING_ROWS)).decode()
