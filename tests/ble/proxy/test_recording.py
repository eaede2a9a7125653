"""What passes through a proxy is recorded as through bluetoothd, and replayed."""

import asyncio

import pytest

from exporter.demo.battery import Faults
from tests.support.proxied import proxied
from tests.support.sessions import replay_text
from tests.support.virtual import battery


async def record(faults: Faults, lines: list[str]) -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        proxied(tasks, battery(faults=faults), timeout_s=2.0) as (_, reading),
    ):
        await reading.poll(record=lambda line: lines.append(f"{line}\n"))


@pytest.mark.parametrize(
    ("faults", "reason"),
    [(Faults(), None), (Faults(cut=True), "link_lost"), (Faults(gone=True), "not_found")],
)
def test_recording_through_a_proxy_is_replayed(faults: Faults, reason: str | None) -> None:
    lines: list[str] = []
    asyncio.run(record(faults, lines))

    replayed = replay_text("".join(lines))

    assert replayed.snapshot.failure == reason
    assert replayed.differences == ()
    assert '"link":"proxy"' in lines[0].replace(" ", "")
    for private in ("127.0.0.1", "garage"):
        assert private not in "".join(lines)
