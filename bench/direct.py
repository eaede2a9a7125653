"""The exporter with virtual batteries on its direct link: the kernel is played in the same process.

`bms-exporter demo` cannot show what the direct link loads: its batteries stand behind bleak's
interface, where bluetoothd would.
"""

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from exporter import app
from exporter import batteries as house
from exporter.ble.bleak import Backend, Radio
from exporter.ble.direct.client import Kernel
from exporter.ble.routes import Spread
from exporter.config.schema import BatteryConfig, Config, Name, TransportChoice, normal_address
from exporter.demo.battery import VirtualBattery
from exporter.demo.fleet import build_replayed
from exporter.demo.replay import read_recording
from tests.support import att_server


class Radios(house.Radios):
    """The direct link over this kernel."""

    def __init__(self, config: Config, kernel: Kernel) -> None:
        super().__init__(config, direct=True)
        self._direct = Spread(lambda _adapter: Radio(kernel=kernel), list)


async def serve(config: Config, batteries: dict[str, VirtualBattery], address: str) -> None:
    air = att_server.Air({battery.address: battery for battery in batteries.values()})

    async def radios_of(config: Config, backend: Backend | None = None) -> house.Radios:
        assert backend is None
        return Radios(config, air.kernel())

    house.radios_of = radios_of
    await app.serve(lambda: config, app.ServeOptions(listen_addresses=(address,)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, help="recorded frames, as for demo --replay")
    parser.add_argument("--batteries", type=int, default=4)
    parser.add_argument("--web.listen-address", dest="address", required=True)
    options = parser.parse_args()
    answers, _ = read_recording(options.frames)
    batteries = build_replayed({f"b{number}": answers for number in range(options.batteries)})
    config = Config(
        batteries=tuple(
            BatteryConfig(name=Name(name), address=normal_address(one.address))
            for name, one in batteries.items()
        ),
        link=TransportChoice.DIRECT,
    )
    asyncio.run(serve(config, batteries, options.address))


if __name__ == "__main__":
    main()
