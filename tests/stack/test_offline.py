"""A camper loses its uplink: what its agent scraped meanwhile arrives, once."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import PROJECT, Server, demo, free_port, program, prometheus, until

OUTAGE_S = 120
SCRAPES = 'bms_readings_served_total{battery="camper"}'  # grows by one with every scrape


def victoria(folder: Path) -> Server:
    port = free_port()
    return Server(
        [program("victoria-metrics"), f"-httpListenAddr=127.0.0.1:{port}",
         f"-storageDataPath={folder}/victoria", "-search.latencyOffset=0s"],
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


@pytest.mark.parametrize(
    ("agent_of", "receiver_of"),
    [(prometheus_agent, receiving), (vmagent, victoria), (prometheus_agent, victoria)],
)
def test_nothing_is_lost_and_nothing_doubled(
    agent_of: Callable[[Path, Server, Server], Server],
    receiver_of: Callable[[Path], Server],
    tmp_path: Path,
) -> None:
    with demo(tmp_path) as exporter, receiver_of(tmp_path) as receiver:
        with agent_of(tmp_path, exporter, receiver):
            until(lambda: receiver.query(SCRAPES), within_s=90, what="a first sample")
            before = scrapes_at(receiver)
            receiver.stop()
            time.sleep(OUTAGE_S)
            receiver.start()
            until(
                lambda: len(scrapes_at(receiver)) > len(before) + OUTAGE_S / 2,
                within_s=180,
                what="what was scraped in the outage",
            )
        time.sleep(3.0)  # the agent has sent its last
        arrived = scrapes_at(receiver)
        vehicle = receiver.query(f"last_over_time({SCRAPES}[30m])")[0]["metric"]["vehicle"]

    assert vehicle == "camper-0001"
    assert arrived == list(range(arrived[0], arrived[0] + len(arrived)))


def scrapes_at(receiver: Server) -> list[int]:
    """Return every sample of a counter that grows by one with each scrape, oldest first."""
    found = receiver.query(f"{SCRAPES}[30m]")
    return [int(float(value)) for _, value in found[0]["values"]] if found else []
