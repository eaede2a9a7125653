"""Starts the command line, as `bms-exporter` and as `python -m exporter`."""

import os
import signal
import sys

INTERRUPTED = 130  # as shells report Ctrl-C; cli has the same, and is not imported yet


def main() -> int:
    """Run one command; return its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C during the imports, which take longest, would show where they are.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        from exporter import cli  # noqa: PLC0415 - see above

        signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        from exporter import cli  # noqa: PLC0415 - see above
    try:
        return cli.main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
