"""Agents send every sample exactly once after the uplink was lost."""

import time
from functools import partial
from pathlib import Path

from agents import prometheus_agent, victoria, vmagent
from servers import Server, demo, prometheus, wait_for

OUTAGE_S = 120
SCRAPES = 'bms_readings_served_total{battery="camper"}'  # grows by one with every scrape


def receiving(folder: Path) -> Server:
    return prometheus(folder, "global: {}\n", "--web.enable-remote-write-receiver")


def test_samples_scraped_during_an_outage_arrive_exactly_once(tmp_path: Path) -> None:
    with (
        demo(tmp_path) as one,
        demo(tmp_path) as two,
        receiving(tmp_path) as prometheus_receiver,
        victoria(tmp_path) as victoria_receiver,
    ):
        receivers = (prometheus_receiver, victoria_receiver)
        with (
            prometheus_agent(tmp_path, one, prometheus_receiver),
            vmagent(tmp_path, two, victoria_receiver),
        ):
            for receiver in receivers:
                wait_for(partial(receiver.query, SCRAPES), timeout_s=90, what="a first sample")
            before = [len(scrapes_at(receiver)) for receiver in receivers]
            for receiver in receivers:
                receiver.freeze()
            time.sleep(OUTAGE_S)
            for receiver in receivers:
                receiver.thaw()
            for receiver, known in zip(receivers, before, strict=True):
                wait_for(
                    partial(has_more, receiver, than=known + OUTAGE_S // 2),
                    timeout_s=180,
                    what="the samples of the outage",
                )
        time.sleep(3.0)  # the agents have sent their last samples
        arrived = [scrapes_at(receiver) for receiver in receivers]
        series = [receiver.query(f"last_over_time({SCRAPES}[30m])")[0] for receiver in receivers]

    for samples in arrived:
        assert samples == list(range(samples[0], samples[0] + len(samples)))
    assert [one["metric"]["vehicle"] for one in series] == ["camper-0001"] * 2


def has_more(receiver: Server, *, than: int) -> bool:
    return len(scrapes_at(receiver)) > than


def scrapes_at(receiver: Server) -> list[int]:
    """Return every sample of a counter that grows by one with each scrape, oldest first."""
    found = receiver.query(f"{SCRAPES}[30m]")
    return [int(float(value)) for _, value in found[0]["values"]] if found else []
