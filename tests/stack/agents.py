"""The agents on board, configured as in deploy/agent, and the VictoriaMetrics that they send to."""

from pathlib import Path

from servers import ANY_PORT, Server, program, prometheus

from tests.support.paths import PROJECT


def victoria(folder: Path) -> Server:
    return Server(
        [program("victoria-metrics"), f"-httpListenAddr={ANY_PORT}",
         f"-storageDataPath={folder}/victoria", "-search.latencyOffset=0s",
         "-dedup.minScrapeInterval=1ms"],  # a sample that is sent twice is kept once
        folder,
        "/health",
    )  # fmt: skip


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
    file = folder / "vmagent.yml"
    file.write_text(agent_config("vmagent.yml", exporter))
    return Server(
        [program("vmagent"), f"-promscrape.config={file}", f"-httpListenAddr={ANY_PORT}",
         f"-remoteWrite.url={receiver.url}/api/v1/write", "-remoteWrite.maxDiskUsagePerURL=512MB",
         f"-remoteWrite.tmpDataPath={folder}/vmagent"],
        folder,
        "/health",
    )  # fmt: skip
