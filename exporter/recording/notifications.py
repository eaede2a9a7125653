"""Takes what the battery notified out of recordings."""

from collections.abc import Iterator
from typing import Final

from exporter.recording.recorder import NOTIFIES, VALUE_AT
from exporter.recording.session import parse_sessions

NONE: Final = (
    "this recording holds nothing that the battery sent in reply; bms-exporter read --replay shows "
    "how its session ended"
)


def read_notifications(text: str, source: str) -> Iterator[tuple[str, bytes]]:
    """Yield the line and the value of each notification of all sessions, in order.

    Raises:
        RecordingError: It is no recording, or a line is malformed.
    """
    for session in parse_sessions(text, source):
        for event in session.events:
            data = b""
            if event.name == "notify":
                data = event.data("hex")
            elif event.name == "rx" and (pdu := event.data("rx"))[:1] and pdu[0] in NOTIFIES:
                data = pdu[VALUE_AT:]
            if data:
                yield event.where, data
