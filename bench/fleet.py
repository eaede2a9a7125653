"""What a battery costs on the wire and on disk: the figures of docs/fleet.md.

Needs Debian's prometheus and victoria-metrics. For bytes sent, both agents scrape the demo for a
while. For bytes on disk, two days of the demo are stored in Prometheus's blocks and VictoriaMetrics.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

PROJECT = Path(__file__).parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "stack")]

from agents import prometheus_agent, victoria, vmagent
from servers import Server, demo, program


def number(server: Server, name: str) -> float:
    """Return the sum of a metric that a server exports about itself."""
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in found)


def on_the_wire(folder: Path, seconds: float) -> None:
    with demo(folder) as exporter, victoria(folder) as receiver:
        lines = httpx.get(f"{exporter.url}/metrics", timeout=60).text.splitlines()
        count = sum(not line.startswith("#") for line in lines)
        per_battery = sum('battery="camper"' in line for line in lines)
        print(f"series: {per_battery} of one battery; {count} of the demo's four and the exporter")
        for start_agent, sent, samples in (
            (
                prometheus_agent,
                "prometheus_remote_storage_bytes_total",
                "prometheus_remote_storage_samples_total",
            ),
            (
                vmagent,
                "vmagent_remotewrite_bytes_sent_total",
                "vmagent_remotewrite_block_size_rows_sum",
            ),
        ):
            with start_agent(folder, exporter, receiver) as agent:
                time.sleep(5.0 + seconds)
                scraped = number(agent, samples)
                ratio = number(agent, sent) / scraped
                if start_agent is prometheus_agent:
                    kept = size(next(folder.glob("agent-*"))) / scraped
                    print(f"prometheus_agent: {kept:.2f} bytes in its write-ahead log a sample")
            print(f"{start_agent.__name__}: {ratio:.2f} bytes on the wire a sample")


def on_disk(folder: Path) -> None:
    history = folder / "history.om"
    with history.open("w") as file:
        subprocess.run(
            [sys.executable, PROJECT / "scripts" / "history.py", "2", "60"], stdout=file, check=True
        )
    samples = sum(1 for _ in history.open()) - 1
    subprocess.run(
        [
            program("promtool"),
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            history,
            folder / "tsdb",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"Prometheus: {size(folder / 'tsdb') / samples:.2f} bytes on disk a sample")
    with victoria(folder) as server:
        text = re.sub(r"(\d+)$", r"\g<1>000", history.read_text(), flags=re.MULTILINE)
        httpx.post(f"{server.url}/api/v1/import/prometheus", content=text, timeout=300)
        httpx.get(f"{server.url}/internal/force_flush", timeout=60)
        httpx.get(f"{server.url}/internal/force_merge", timeout=60)
        time.sleep(10)
    print(f"VictoriaMetrics: {size(folder / 'victoria') / samples:.2f} bytes on disk a sample")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        on_the_wire(Path(name), options.seconds)
    with tempfile.TemporaryDirectory() as name:
        on_disk(Path(name))
