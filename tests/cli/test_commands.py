"""Each command does its work, or tells people why it cannot."""

import json
from pathlib import Path

import pytest
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import main
from exporter.config.loader import parse
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import Air, make_air, make_backend
from exporter.protocol.profiles import PROFILES
from tests.support.recorded import FIELD_REPORTS
from tests.support.virtual import ADDRESS, ANSWERS, answering, battery

SECOND = "A4:C1:38:00:00:02"


def quick(*batteries: VirtualBattery) -> Air:
    """Return an air on which nothing takes long: these tests run in real time."""
    for one in batteries:
        one.faults = Faults(gone=True) if one.faults.gone else Faults(reply_s=0.05)
    return make_air(batteries, connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.02)


def run(air: Air, *arguments: str) -> int:
    return main(arguments, backend=make_backend(air))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        f'batteries:\n  - {{name: camper, address: "{ADDRESS}"}}\n'
        f'  - {{name: trailer, address: "{SECOND}"}}\npoll: {{timeout: 1s}}\n'
    )
    return path


class TestServing:
    def test_valid_configuration_is_confirmed(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["--config.file", str(config), "--config.check"])

        assert status == 0
        assert "batteries: 2" in capsys.readouterr().out

    def test_check_says_that_an_address_may_be_backwards(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = tmp_path / "config.yaml"
        config.write_text("batteries: [{name: camper, address: 'B3:FC:EC:38:C1:A4'}]\n")

        status = main(["--config.file", str(config), "--config.check"])

        assert status == 0
        assert "camper: B3:FC:EC:38:C1:A4 may be backwards" in capsys.readouterr().err

    @pytest.mark.parametrize("check", [[], ["--config.check"]])
    def test_invalid_configuration_ends_the_program_with_every_complaint(
        self, check: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text("batteries:\n  - name: camper\nspeed: 1\n")

        status = main(["--config.file", str(path), *check])

        assert status == 1
        assert capfd.readouterr().err.splitlines() == [
            f"{path}:2: batteries[0].address: missing",
            f"{path}:3: speed: unknown key",
        ]

    @pytest.mark.parametrize(
        "address", ["12200", ":port", ":70000", ":-1", "localhost:", ":٣", ":" + "9" * 5000]
    )
    def test_malformed_listen_address_is_reported(
        self, address: str, config: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["--config.file", str(config), f"--web.listen-address={address}"])

        assert status == 1
        assert f"expected HOST:PORT or :PORT, got {address!r}" in capfd.readouterr().err

    def test_listen_address_of_another_machine_is_reported(
        self, config: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["--config.file", str(config), "--web.listen-address", "192.0.2.1:12200"])

        assert status == 1
        assert "cannot listen on '192.0.2.1:12200'" in capfd.readouterr().err


class TestRead:
    def test_battery_is_read_by_its_name(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = run(quick(battery()), "read", "camper", "--config.file", str(config))

        lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        table = {line[0]: line[-1].strip() for line in lines}
        assert status == 0
        assert table["battery"] == f"camper ({ADDRESS})"
        assert table["remaining"] == "203.54 Ah of 219.32 Ah"
        assert table["state of charge"] == "93%"
        assert table["voltage"] == "13.21 V"
        assert table["current"] == "0.00 A, idle"
        assert table["cell 1"] == "3.394 V"
        assert table["NTC 1"] == "2.9 °C"
        assert table["charge MOSFET"] == "on"
        assert table["protections"] == "none"
        assert table["events"] == "cell_overvoltage 122, cell_undervoltage 2"
        assert table["restarts"] == "1"
        assert table["hardware"] == "JBD-SP04S034-L4S-200A-B-U"
        assert table["manufactured"] == "2022-08-12"
        assert table["profile"] == "nus"
        assert lines[-1][0] == "link"
        assert table["link"] == "virtual (fast), 1 attempt"  # no bluetoothd is claimed

    def test_restarts_are_shown_only_if_the_bms_counts_them(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (counters,) = FIELD_REPORTS["aa-11-words"]
        virtual = battery(answers=answering(ANSWERS | {0xAA: counters}))

        run(quick(virtual), "read", "camper", "--config.file", str(config))

        shown = capsys.readouterr().out
        assert "cell_undervoltage 2" in shown
        assert "restarts" not in shown

    def test_sensor_without_a_temperature_is_named(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (basic,) = FIELD_REPORTS["ntc-open-or-shorted"]
        virtual = battery(answers=answering({0x03: basic}))

        run(quick(virtual), "read", "camper", "--config.file", str(config))

        lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        table = {line[0]: line[-1].strip() for line in lines}
        assert table["NTC 1"] == table["NTC 2"] == "open or shorted"
        assert table["NTC 3"] == "20.0 °C"

    def test_read_accepts_an_option_before_the_command(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = run(quick(battery()), "--config.file", str(config), "read", "camper")

        assert status == 0

    @pytest.mark.parametrize("written", [ADDRESS, ADDRESS.lower(), ADDRESS.replace(":", "-")])
    def test_battery_is_read_by_its_address_under_its_configured_name(
        self, written: str, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = run(quick(battery()), "read", written, "--config.file", str(config))

        assert status == 0
        assert f"camper ({ADDRESS})" in capsys.readouterr().out

    def test_battery_that_is_not_configured_is_read_by_its_address(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stranger = "A4:C1:38:00:00:99"

        status = run(quick(battery(stranger)), "read", stranger, "--config.file", str(config))

        assert status == 0
        assert f"{stranger} ({stranger})" in capsys.readouterr().out

    def test_read_needs_no_configuration_for_an_address(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing = str(tmp_path / "config.yaml")

        assert run(quick(battery()), "read", ADDRESS, "--config.file", missing) == 0

    def test_only_configured_battery_is_read_without_a_name(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "one.yaml"
        path.write_text(f'batteries: [{{name: camper, address: "{ADDRESS}"}}]')

        assert run(quick(battery()), "read", "--config.file", str(path)) == 0

    @pytest.mark.parametrize("arguments", [[], ["boat"]])
    def test_missing_or_unknown_name_is_answered_with_the_known_ones(
        self, arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = run(quick(battery()), "read", *arguments, "--config.file", str(config))

        assert status == 1
        assert "camper, trailer" in capsys.readouterr().err

    def test_read_json_has_units_in_its_names(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("read", "camper", "--format", "json", "--config.file", str(config))

        run(quick(battery()), *arguments)

        reading = json.loads(capsys.readouterr().out)
        assert reading["battery"] == "camper"
        assert reading["basic"]["remaining_ah"] == 203.54
        assert reading["cell_voltages_v"] == [3.394, 3.388, 3.392, 3.386]
        assert reading["identity"]["profile"] == "nus"

    def test_read_metrics_are_those_of_a_scrape(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("read", "camper", "--format", "metrics", "--config.file", str(config))

        run(quick(battery()), *arguments)

        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(capsys.readouterr().out)
            for sample in family.samples
        }
        assert values["bms_remaining_capacity_amperehours"] == 203.54
        assert values["bms_up"] == 1

    @pytest.mark.parametrize("form", ["table", "json", "metrics"])
    def test_failed_read_is_one_line_with_the_battery_and_what_to_do(
        self, form: str, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        air = quick(battery(faults=Faults(gone=True)))

        status = run(air, "read", "camper", "--format", form, "--config.file", str(config))

        output = capsys.readouterr()
        assert status == 1
        assert output.out == ""
        assert output.err == (
            f"camper: {ADDRESS} not seen in 1 s: is it switched on and in range, "
            "and is the phone app disconnected?\n"
        )


class TestScan:
    def scan(self, air: Air, *arguments: str) -> int:
        return run(air, "scan", "--duration", "300ms", *arguments)

    def test_scan_lists_batteries_with_the_reason_and_a_configuration(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = self.scan(quick(battery(rssi_dbm=-80), battery(SECOND, name="xiaoxiang BMS")))

        out = capsys.readouterr().out
        table, _, pasted = out.partition("\n\n")
        lines = table.splitlines()
        assert status == 0
        assert lines[0].split() == ["name", "address", "RSSI", "why", "a", "JBD", "battery"]
        assert lines[1].startswith(f"xiaoxiang BMS  {SECOND}  -67 dBm  service ff00, name like xia")
        assert lines[2].startswith(f"JBD-SP04S034   {ADDRESS}  -80 dBm")
        config = parse(pasted)
        assert {one.address for one in config.batteries} == {ADDRESS, SECOND}
        assert {one.name for one in config.batteries} == {"JBD-SP04S034", "xiaoxiang BMS"}

    def test_scan_reports_each_battery_as_it_is_found(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.scan(quick(battery()))

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
    def test_scanned_configuration_is_valid_for_any_battery_name(
        self, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        batteries = [
            battery(f"A4:C1:38:00:00:0{number}", name=name) for number, name in enumerate(names)
        ]

        status = self.scan(quick(*batteries))

        out = capsys.readouterr().out
        config = parse(out.partition("\n\n")[2])
        certain = [name for name in names if name.startswith("JBD-")]
        assert status == 0
        assert len(config.batteries) == len(certain)
        assert "\x1b" not in out

    def test_battery_with_only_the_module_is_a_comment_in_the_configuration(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = self.scan(quick(battery(), battery(SECOND, name="camper", rssi_dbm=-50)))

        output = capsys.readouterr()
        table, _, pasted = output.out.partition("\n\n")
        assert status == 0
        assert [line.split()[0] for line in table.splitlines()] == [
            "name",
            "JBD-SP04S034",
            "camper",
        ]
        assert table.endswith("perhaps: service ff00, address block A4:C1:38")
        assert {one.address for one in parse(pasted).batteries} == {ADDRESS}
        assert f"# - name: camper\n#   address: {SECOND}" in pasted
        assert f"perhaps a battery: camper at {SECOND}" in output.err

    def test_file_name_with_a_line_break_stays_in_its_comment(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = self.scan(quick(battery()), "--config.file", "a\nb: c")

        assert status == 0
        assert len(parse(capsys.readouterr().out.partition("\n\n")[2]).batteries) == 1

    def test_no_configuration_is_printed_if_no_battery_is_certain(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = self.scan(quick(battery(name="camper")))

        output = capsys.readouterr()
        assert status == 1
        assert ADDRESS in output.out
        assert "batteries:" not in output.out
        assert "No configuration is printed" in output.err
        assert "bms-exporter read ADDRESS" in output.err

    def test_scan_lists_other_devices_with_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        other = battery("12:34:56:78:9A:BC", name="Headphones", advertises=())
        without = self.scan(quick(battery(), other))
        hidden = capsys.readouterr().out

        with_all = self.scan(quick(battery(), other), "--all")

        shown = capsys.readouterr().out
        assert without == with_all == 0
        assert "Headphones" not in hidden
        assert "Headphones" in shown
        assert "no sign of one" in shown
        assert "12:34:56:78:9A:BC" not in shown.partition("\n\n")[2]

    def test_scan_without_a_battery_says_what_to_do(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = self.scan(quick(battery(faults=Faults(gone=True))))

        assert status == 1
        assert "phone app" in capsys.readouterr().err

    def test_restarted_scan_receives_what_linux_dropped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.scanner.RENEW_S", 0.5)
        air = quick(battery())
        air.deaf_scans = 1

        assert run(air, "scan", "--duration", "1500ms") == 0

    def test_scan_finds_a_battery_with_the_dh04_profile(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fff0 = PROFILES["fff0"]

        status = self.scan(quick(battery(name="WTaHdB0042", advertises=(fff0.service,))))

        assert status == 0
        assert "service fff0, name like WTaHdB*" in capsys.readouterr().out

    def test_bluetooth_that_is_off_is_reported_in_one_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        air = quick(battery())
        air.scan_error = BleakBluetoothNotAvailableError(
            "No powered Bluetooth adapters found.", BleakBluetoothNotAvailableReason.POWERED_OFF
        )

        status = self.scan(air)

        assert status == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("Bluetooth is switched off: run bluetoothctl power on")


class TestDemo:
    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, ": cannot be read: No such file or directory"),
            ("", ": expected at least one reply frame (DD03...77), got none"),
            ("# only a comment\n", ": expected at least one reply frame (DD03...77), got none"),
            ("nonsense\n", ":1: expected hex like DD03...77, got 'nonsense'"),
        ],
    )
    def test_unusable_recording_is_named(
        self,
        content: str | None,
        complaint: str,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / "frames.hex"
        if content is not None:
            path.write_text(content)

        status = main(["demo", "--replay", f"x={path}"])

        assert status == 1
        assert capfd.readouterr().err == f"{path}{complaint}\n"

    def test_two_recordings_with_one_name_are_refused(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "frames.hex"
        path.write_text("dd060000000077")

        status = main(["demo", "--replay", f"x={path}", "--replay", f"x={path}"])

        assert status == 1
        assert "'x' is given twice" in capfd.readouterr().err
