"""`scan` lists batteries, proves what only may be one, and prints a configuration to paste."""

import asyncio
import os
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason

from exporter.ble.direct.transport import DirectTransport
from exporter.cli import main
from exporter.cli.findings import READ_S, read_candidate
from exporter.cli.options import Scan
from exporter.cli.scan import run_scan
from exporter.config.loader import parse
from exporter.config.schema import Config, Seconds
from exporter.demo.battery import Faults, VirtualBattery, encode_reply
from exporter.demo.radio import Air, make_air, make_backend
from exporter.errors import Cause
from exporter.protocol.profiles import PROFILES, Profile
from tests.support import att_server
from tests.support.advertisements import make_advertisement
from tests.support.virtual import ADDRESS, battery, make_direct_routes, make_routes, now_s

SECOND = "A4:C1:38:00:00:02"
FOREIGN_ANSWER = bytes.fromhex("7b0221100cd3")
UNKNOWN = Profile(
    "none", *(f"0000{n}-0000-1000-8000-00805f9b34fb" for n in ("180f", "2a19", "2a18"))
)
CAMPER = make_advertisement("camper", ADDRESS)


async def scan(*batteries: VirtualBattery, air: Air | None = None, **options: Any) -> int:
    options.setdefault("duration_s", Seconds(5.0))
    options.setdefault("config_file", Path("missing.yaml"))
    return await run_scan(Scan(**options), make_backend(air or make_air(batteries)))


def foreign(address: str = ADDRESS) -> VirtualBattery:
    """Return a battery with the same Bluetooth module and another protocol."""
    return battery(address, name="BL-25F-170-118", answers=lambda _: FOREIGN_ANSWER)


class TestListening:
    async def test_batteries_are_listed_with_the_reason_and_a_configuration(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = await scan(battery(rssi_dbm=-80), battery(SECOND, name="xiaoxiang BMS"))

        out = capsys.readouterr().out
        lines = [line.removeprefix("# ") for line in out.splitlines()]
        assert status == 0
        assert lines[0].split() == ["name", "address", "RSSI", "what", "it", "is"]
        assert lines[1].startswith(f"xiaoxiang BMS  {SECOND}  -67 dBm  JBD battery: service ff00, ")
        assert lines[2].startswith(f"JBD-SP04S034   {ADDRESS}  -80 dBm")
        config = parse(out)  # as after bms-exporter scan > config.yaml
        assert {one.address for one in config.batteries} == {ADDRESS, SECOND}
        assert {one.name for one in config.batteries} == {"JBD-SP04S034", "xiaoxiang BMS"}

    async def test_table_on_a_terminal_is_no_comment(self) -> None:
        screen, terminal = os.openpty()
        with os.fdopen(terminal, "w", encoding="utf-8") as out, redirect_stdout(out):
            await scan(battery())
            shown = os.read(screen, 4096).decode()
        os.close(screen)

        assert shown.startswith("name ")
        assert f"{ADDRESS}  -67 dBm" in shown

    async def test_each_battery_is_reported_as_it_is_found(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await scan(battery())

        assert capsys.readouterr().err == f"found JBD-SP04S034 at {ADDRESS}\n"

    @pytest.mark.parametrize(
        "names",
        [
            ("JBD-1", "JBD-1", "JBD-1"),
            ("JBD-" + 70 * "x", "JBD-" + 70 * "x", "JBD-y"),
            ("JBD-1", "", "1.5"),
            ("JBD-: {x}", "JBD-" + 60 * " " + "x", "JBD-#"),
            ("JBD-\n- name: evil", "JBD-\x1b[31m", "JBD-\x00"),
            ("JBD-ÄÖ🔋", "JBD-'", 'JBD-"'),
        ],
    )
    async def test_scanned_configuration_is_valid_for_any_battery_name(
        self, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        batteries = [
            battery(f"A4:C1:38:00:00:0{number}", name=name) for number, name in enumerate(names)
        ]

        status = await scan(*batteries)

        output = capsys.readouterr()
        assert status == 0
        assert len(parse(output.out.partition("\n\n")[2]).batteries) == len(names)
        assert "\x1b" not in output.out + output.err

    async def test_file_name_with_a_line_break_stays_in_its_comment(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = await scan(battery(), config_file=Path("a\nb: c"))

        assert status == 0
        assert len(parse(capsys.readouterr().out.partition("\n\n")[2]).batteries) == 1

    async def test_other_devices_are_listed_with_all_and_never_read(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = battery("12:34:56:78:9A:BC", name="Headphones", advertises=())
        without = await scan(battery(), other)
        hidden = capsys.readouterr().out

        with_all = await scan(battery(), other, all=True)

        shown = capsys.readouterr().out
        assert without == with_all == 0
        assert "Headphones" not in hidden
        assert "Headphones" in shown
        assert "no sign of a JBD battery" in shown
        assert "12:34:56:78:9A:BC" not in shown.partition("\n\n")[2]
        assert other.connects == 0

    async def test_scan_without_a_battery_says_what_to_do(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = await scan(battery(faults=Faults(gone=True)))

        said = capsys.readouterr().err
        assert status == 1
        assert "phone app" in said
        assert "bms-exporter doctor" in said

    async def test_restarted_scan_receives_what_linux_dropped(self) -> None:
        air = make_air([battery()])
        air.deaf_scans = 1

        assert await scan(air=air) == 0

    async def test_bluetooth_that_is_off_is_reported_in_one_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        air = make_air([battery()])
        air.scan_error = BleakBluetoothNotAvailableError(
            "No powered Bluetooth adapters found.", BleakBluetoothNotAvailableReason.POWERED_OFF
        )

        status = await scan(air=air)

        assert status == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("Bluetooth is switched off: run bluetoothctl power on")

    def test_command_runs_with_its_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        air = make_air([battery()], advertise_every_s=0.02)

        status = main(["scan", "--duration", "300ms", "--no-read"], backend=make_backend(air))

        assert status == 0
        assert f"address: {ADDRESS}" in capsys.readouterr().out


class TestReading:
    async def test_battery_with_only_the_module_is_proved_by_its_answer(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        virtual = battery(name="camper")

        status = await scan(virtual)

        output = capsys.readouterr()
        table, _, pasted = output.out.partition("\n\n")
        assert status == 0
        assert table.endswith(f"camper  {ADDRESS}  -67 dBm  JBD battery: 13.21 V, 93%")
        assert [one.name for one in parse(pasted).batteries] == ["camper"]
        assert output.err.splitlines() == [
            f"perhaps a battery: camper at {ADDRESS}",
            f"reading camper at {ADDRESS}, 1 of 1, for up to 15 s",
            "camper: JBD battery: 13.21 V, 93%",
        ]
        assert set(virtual.requests) == {0x03}
        assert (virtual.connects, virtual.disconnects) == (1, 1)

    async def test_certain_battery_is_not_connected_to(self) -> None:
        virtual = battery()

        assert await scan(virtual) == 0
        assert virtual.connects == 0

    async def test_name_without_the_address_of_a_jbd_module_is_proved(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fff0 = PROFILES["fff0"]
        virtual = battery(
            "12:34:56:78:9A:BC",
            name="WTaHdB0042",
            advertises=(fff0.service,),
            gatt=(fff0,),
            speaks=fff0,
        )

        assert await scan(virtual) == 0
        assert virtual.connects == 1

    async def test_foreign_battery_is_a_comment_with_the_reason(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = await scan(battery(), foreign(SECOND))

        table, _, pasted = capsys.readouterr().out.partition("\n\n")
        assert status == 0
        assert table.endswith("another protocol")
        assert {one.address for one in parse(pasted).batteries} == {ADDRESS}
        assert "# Left out, another protocol: it answers, but not in the JBD protocol" in pasted
        assert f"# - name: BL-25F-170-118\n#   address: {SECOND}" in pasted

    async def test_no_configuration_is_printed_if_no_battery_is_proved(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = await scan(foreign())

        output = capsys.readouterr()
        assert status == 1
        assert ADDRESS in output.out
        assert "batteries:" not in output.out
        assert "No configuration is printed" in output.err
        assert "bms-exporter doctor ADDRESS" in output.err

    async def test_no_read_leaves_candidates_alone(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        virtual = battery(SECOND, name="camper")

        status = await scan(battery(), virtual, read=False)

        table, _, pasted = capsys.readouterr().out.partition("\n\n")
        signs = "perhaps a JBD battery: service ff00, address block A4:C1:38"
        assert status == 0
        assert virtual.connects == 0
        assert table.endswith(signs)
        assert f"# Left out, {signs}" in pasted
        assert await scan(virtual, read=False) == 1
        assert "Without --no-read" in capsys.readouterr().err

    async def test_candidates_are_read_one_after_the_other_the_strongest_first(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        air = make_air([battery(name="far", rssi_dbm=-90), battery(SECOND, name="near")])
        most_connected = 0

        async def count() -> None:
            nonlocal most_connected
            while True:
                most_connected = max(most_connected, len(air.connected))
                await asyncio.sleep(0.1)

        counting = asyncio.create_task(count())
        assert await scan(air=air) == 0
        counting.cancel()

        reading = [line for line in capsys.readouterr().err.splitlines() if "reading" in line]
        assert [line.split()[1] for line in reading] == ["near", "far"]
        assert most_connected == 1

    async def test_configured_battery_is_read_as_configured(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"batteries: [{{name: camper, address: '{ADDRESS}', profile: ff06}}]\n"
            "poll: {timeout: 8s}\n"
        )

        status = await scan(battery(name="camper"), config_file=path)

        said = capsys.readouterr().err
        assert status == 1
        assert "for up to 8 s" in said
        assert "camper: no JBD profile: " in said

    async def test_mistake_in_the_configuration_does_not_end_the_scan(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text("speed: 1\n")

        assert await scan(battery(name="camper"), config_file=path) == 0


class TestCandidate:
    @pytest.mark.parametrize(
        ("options", "what"),
        [
            pytest.param({"faults": Faults(gone=True)}, "not reached", id="out of range"),
            pytest.param({"faults": Faults(refuses=True)}, "not reached", id="no connection"),
            pytest.param({"faults": Faults(cut=True)}, "connection lost", id="link lost"),
            pytest.param({"faults": Faults(silent=True)}, "no answer", id="silent"),
            pytest.param({"faults": Faults(bad_checksum=True)}, "no usable answer", id="damaged"),
            pytest.param({"gatt": (UNKNOWN,), "speaks": UNKNOWN}, "no JBD profile", id="profile"),
            pytest.param({"answers": lambda _: FOREIGN_ANSWER}, "another protocol", id="protocol"),
            pytest.param(
                {"answers": lambda _: bytes.fromhex("dda50300fffd77")},
                "wants a PIN",
                id="requests sent back",
            ),
            pytest.param(
                {"answers": lambda register: encode_reply(register, status=0x80)},
                "refuses to be read",
                id="refused",
            ),
        ],
    )
    async def test_failure_has_its_reason_and_a_bounded_time(
        self, options: dict[str, Any], what: str
    ) -> None:
        virtual = battery(**options)
        began_s = now_s()

        found = await read_candidate(
            CAMPER, Config(batteries=()), make_routes(make_air([virtual])), None
        )

        assert (found.what, found.is_battery) == (what, False)
        assert now_s() - began_s <= READ_S + 3.0
        assert virtual.connects == virtual.disconnects

    async def test_healthy_candidate_costs_about_three_seconds(self) -> None:
        began_s = now_s()

        found = await read_candidate(
            CAMPER, Config(batteries=()), make_routes(make_air([battery()])), None
        )

        assert found.is_battery
        assert now_s() - began_s < 4.0

    @pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
    async def test_connection_of_another_program_is_left_to_it(self) -> None:
        virtual = battery(name="camper")
        air = att_server.Air({ADDRESS: virtual})
        transport = DirectTransport(kernel=air.make_kernel(), clock=time.monotonic)
        other = await air.make_kernel().open_channel(ADDRESS, 1, "00:1B:DC:0F:AA:01")

        found = await read_candidate(
            CAMPER, Config(batteries=()), make_direct_routes(transport), None
        )

        assert found.what == "connected to another program"
        assert found.failure is not None
        assert found.failure.cause is Cause.HELD
        assert (virtual.connects, virtual.disconnects) == (1, 0)
        other.close()

    @pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
    async def test_candidate_is_read_over_the_direct_link(self) -> None:
        virtual = battery(name="camper")
        air = att_server.Air({ADDRESS: virtual})
        transport = DirectTransport(kernel=air.make_kernel(), clock=time.monotonic)

        found = await read_candidate(
            CAMPER, Config(batteries=()), make_direct_routes(transport), None
        )

        assert found.what == "JBD battery: 13.21 V, 93%"
        assert set(virtual.requests) == {0x03}
        assert virtual.illegal == []
        assert air.make_kernel().connected_on(ADDRESS) is None
