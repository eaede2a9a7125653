"""A camper loses its uplink: what its agent scraped meanwhile arrives, once."""

import time
from functools import partial
from pathlib import Path

from servers import Server, demo, free_port, program, prometheus, until

from tests.support.paths import PROJECT

OUTAGE_S = 120
SCRAPES = 'bms_readings_served_total{battery="camper"}'  # grows by one with every scrape


def victoria(folder: Path) -> Server:
    port = free_port()
    return Server(
        [program("victoria-metrics"), f"-httpListenAddr=127.0.0.1:{port}",
         f"-storageDataPath={folder}/victoria", "-search.latencyOffset=0s",
         "-dedup.minScrapeInterval=1ms"],  # what is sent twice is kept once
        port,
        folder,
        "/health",
    )  # fmt: skip


def receiving(folder: Path) -> Server:
    return prometheus(folder, "global: {}\n", "--web.enable-remote-write-receiver")


def agent_config(file: str, exporter: Server) -> str:
    """Return one of our configurations, scraping the demo every two seconds."""
    text = (PROJECT / "deploy" / "agent" / file).read_text()
    text = text.replace("127.0.0.1:12200", f"127.0.0.1:{exporter.port}")
    return text.replace("60s", "2s").replace("15s", "2s")


def prometheus_agent(folder: Path, exporter: Server, receiver: Server) -> Server:
    text = agent_config("prometheus-agent.yml", exporter).replace(
        "http://receiver.example:8428", receiver.url
    )
    return prometheus(folder, text, agent=True)


def vmagent(folder: Path, exporter: Server, receiver: Server) -> Server:
    port = free_port()
    file = folder / "vmagent.yml"
    file.write_text(agent_config("vmagent.yml", exporter))
    return Server(
        [program("vmagent"), f"-promscrape.config={file}", f"-httpListenAddr=127.0.0.1:{port}",
         f"-remoteWrite.url={receiver.url}/api/v1/write", "-remoteWrite.maxDiskUsagePerURL=512MB",
         f"-remoteWrite.tmpDataPath={folder}/vmagent"],
        port,
        folder,
        "/health",
    )  # fmt: skip


def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
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
                until(partial(receiver.query, SCRAPES), within_s=90, what="a first sample")
            before = [len(scrapes_at(receiver)) for receiver in receivers]
            for receiver in receivers:
                receiver.freeze()
            time.sleep(OUTAGE_S)
            for receiver in receivers:
                receiver.thaw()
            for receiver, known in zip(receivers, before, strict=True):
                until(
                    partial(has_more, receiver, than=known + OUTAGE_S // 2),
                    within_s=180,
                    what="what was scraped in the outage",
                )
        time.sleep(3.0)  # the agents have sent their last
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
