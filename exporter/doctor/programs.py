"""Runs other programs for a moment and returns what they print."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

RunProgram = Callable[[Sequence[str], float], Awaitable[str | None]]
"""Arguments and a limit in seconds in; the output, with errors; None: not there, or too slow."""


async def run_program(arguments: Sequence[str], timeout_s: float) -> str | None:
    """Run a program; return its output, or None if it is not there or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")
