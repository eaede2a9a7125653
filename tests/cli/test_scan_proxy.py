"""`scan --proxy` listens and reads through a configured proxy."""

from pathlib import Path

import pytest

from exporter.cli.options import Scan
from exporter.cli.scan import run_scan
from exporter.config.schema import Seconds
from exporter.errors import ConfigError
from tests.support.fake_proxy import running_proxy
from tests.support.virtual import ADDRESS, battery

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time


def write_config(folder: Path, port: int) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"proxies: [{{name: garage, host: 127.0.0.1, port: {port}}}]\n"
        'batteries: [{name: other, address: "A4:C1:38:00:00:09"}]\n'
    )
    return path


async def test_batteries_in_range_of_the_proxy_are_listed_and_proved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unproved = battery(name="renamed")
    async with running_proxy(unproved, battery("A4:C1:38:00:00:02")) as proxy:
        path = write_config(tmp_path, proxy.port)

        status = await run_scan(
            Scan(proxy="garage", duration_s=Seconds(0.5), config_file=path), None
        )

        out = capsys.readouterr().out
        assert status == 0
        assert ADDRESS in out
        assert "A4:C1:38:00:00:02" in out
        assert (unproved.connects, unproved.requests[-1]) == (1, 0x03)
        assert proxy.misuses == []


async def test_proxy_that_cannot_be_reached_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_proxy() as proxy:
        path = write_config(tmp_path, proxy.port)

    status = await run_scan(Scan(proxy="garage", duration_s=Seconds(0.5), config_file=path), None)

    assert status == 1
    assert capsys.readouterr().err.startswith("proxy garage: 127.0.0.1 port ")


async def test_unknown_proxy_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = write_config(tmp_path, 6053)

    with pytest.raises(ConfigError, match=r"no proxy 'shed' in .*; configured: garage"):
        await run_scan(Scan(proxy="shed", config_file=path), None)
