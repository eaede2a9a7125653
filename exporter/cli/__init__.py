"""The command line: arguments in, exit status out."""

import asyncio
import errno
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from exporter.ble.transport import Backend
from exporter.cli.arguments import parse_arguments
from exporter.cli.commands import FAILED, run
from exporter.cli.options import Demo, LogOptions, Options, Serve
from exporter.cli.streams import complain, discarded, flush_stderr, open_standard_streams
from exporter.errors import ConfigError
from exporter.logs import queued_stderr, set_up

INTERRUPTED: Final = 130  # as shells report Ctrl-C
# Errors of standard output, the only stream that a command must be able to write.
UNWRITABLE: Final = (errno.EPIPE, errno.ENOSPC)


def main(argv: Sequence[str] | None = None, backend: Backend | None = None) -> int:
    """Run one command; return 0 (done or stopped), 1 (failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    open_standard_streams()
    log_options, options = parse_arguments(argv)
    if not isinstance(options, Serve | Demo):
        status = _run(log_options, options, backend)
        flush_stderr()
        return status
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server's handler is set
    with queued_stderr() as stderr:
        web = replace(options.web, log_lines_lost=lambda: stderr.lost_lines)
        return _run(log_options, replace(options, web=web), backend)


def _run(log_options: LogOptions, options: Options, backend: Backend | None) -> int:
    set_up(**asdict(log_options))
    try:
        status = run(options, backend)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
    except KeyboardInterrupt:
        return INTERRUPTED
    except asyncio.CancelledError:  # SIGTERM
        pass
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        sys.stdout = discarded()
        if error.errno != errno.EPIPE:  # a closed pipe is normal: ... | head
            complain(f"standard output: {error.strerror}")
    else:
        return status
    return FAILED
