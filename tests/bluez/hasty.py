"""Run the exporter with all waits divided: python hasty.py FACTOR ARGUMENTS..."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import bleak_retry_connector

from exporter import cli
from exporter.battery import backoff, session
from exporter.ble import adapter_choice, bleak, bluez, scanner, search, timeouts
from exporter.doctor import listen
from exporter.protocol import exchange

WAITS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (bleak, ("ATTEMPT_S", "CONNECTION_S", "SCAN_S", "UNDO_S")),
    (search, ("FIND_S", "FREE_EVERY_S")),
    (timeouts, ("CLEAN_UP_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S", "SHORT_FIND_S", "UNDO_S")),
    (bluez, ("ANSWER_S",)),
    (scanner, ("ANSWER_S", "PAUSE_S", "RENEW_S", "SETTLE_S")),
    (adapter_choice, ("COMPARE_S",)),
    (listen, ("LISTEN_S", "LONGEST_S", "TURN_S")),
    (backoff, ("BACKOFF_S",)),
    (exchange, ("BYTE_S", "RESEND_S", "GENTLE_RESEND_S", "UNFINISHED_S", "GIVE_UP_S")),
    (session, ("GIVE_UP_S", "EXTRA_GIVE_UP_S")),
    (
        bleak_retry_connector,
        tuple(name for name in vars(bleak_retry_connector) if name.endswith("_BACKOFF_TIME")),
    ),
)


@contextmanager
def hurry(factor: float) -> Iterator[None]:
    """Divide the waits of the exporter and of bleak-retry-connector while the context is open."""
    usual = [(module, name, getattr(module, name)) for module, names in WAITS for name in names]
    for module, name, seconds in usual:
        setattr(module, name, seconds / factor)
    try:
        yield
    finally:
        for module, name, seconds in usual:
            setattr(module, name, seconds)


if __name__ == "__main__":
    with hurry(float(sys.argv[1])):
        sys.exit(cli.main(sys.argv[2:]))
