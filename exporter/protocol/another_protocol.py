"""Recognises a battery that answers in a protocol other than JBD's."""

import re
from typing import Final

from exporter.errors import AnotherProtocolError

# These bytes show JBD: a reply, an echoed request, the password exchange, the end of a frame.
JBD_SIGNS: Final = re.compile(rb"\xdd[\x03\x04\x05\xaa\xa5]|\xff\xaa[\x15-\x1d]|\x77[\x00\xff]*\Z")
# Bluetooth modules send texts like "OK+CONN" and "ERROR". Idle lines send 00 and FF.
NOISE: Final = re.compile(rb"(?:AT|OK|ERROR|\+)[\x20-\x7e]*[\r\n]*|[\x00\xff]+")
MIN_ANSWER: Final = 4  # fewer bytes are noise: no known protocol has shorter answers
KEPT: Final = 64  # bytes that are enough to recognise it
SHOWN: Final = 16  # bytes that a message quotes


def another_protocol_error(received: bytes) -> AnotherProtocolError | None:
    """Return the error for bytes without a valid frame; None: they are noise, or parts of JBD's."""
    if len(NOISE.sub(b"", received)) < MIN_ANSWER or JBD_SIGNS.search(received):
        return None
    more = "..." if len(received) > SHOWN else ""
    return AnotherProtocolError(
        f"it answers, but not in the JBD protocol: {received[:SHOWN].hex()}{more}; "
        "check the address, or try another profile"
    )
