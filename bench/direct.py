"""The exporter with virtual batteries on its direct link, over a simulated kernel.

`bms-exporter demo` cannot show what the direct link costs: its batteries replace bluetoothd behind
bleak's interface.
"""

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from exporter import app
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.transport import ScanningTransport
from exporter.config.schema import BatteryConfig, Config, Name, TransportChoice, normal_address
from exporter.demo.battery import VirtualBattery
from tests.support import att_server


async def serve(config: Config, batteries: dict[str, VirtualBattery], address: str) -> None:
    air = att_server.Air({battery.address: battery for battery in batteries.values()})
    transport = DirectTransport(kernel=air.make_kernel())

    def no_bluez(_adapter: str | None) -> ScanningTransport:
        raise AssertionError("bluetoothd is not needed")

    async def build_routes(*_args: object, **_options: object) -> Routes:
        return Routes(bluez=no_bluez, direct=lambda _: transport, adapters=list)

    app.build_routes = build_routes  # type: ignore[attr-defined]  # app has no parameter for it
    await app.serve(lambda: config, app.ServeOptions(listen_addresses=(address,)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, help="recorded frames in hex, one a line")
    parser.add_argument("--batteries", type=int, default=4)
    parser.add_argument("--web.listen-address", dest="address", required=True)
    options = parser.parse_args()
    # Without demo.replay: the process should load little more than the exporter itself.
    frames = [bytes.fromhex(line) for line in options.frames.read_text().split()]
    answers = {frame[1]: frame for frame in frames}  # by register
    batteries = {
        f"b{number}": VirtualBattery(
            address=f"A4:C1:38:00:00:{number:02X}", answers=answers.__getitem__
        )
        for number in range(options.batteries)
    }
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
