"""Each command does its work, or tells people why it cannot."""

import json
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import main
from exporter.cli.commands import CHECKED
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import Air, make_air, make_backend
from tests.support.paths import PROJECT
from tests.support.recorded import FIELD_REPORTS
from tests.support.virtual import ADDRESS, ANSWERS, answering, battery

ADD = "add a line like address: A4:C1:38:12:34:56; bms-exporter scan shows it"
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
    def test_valid_configuration_is_confirmed_with_place_batteries_and_what_was_checked(
        self, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(config.parent)
        config.with_name("web.yml").write_text("rate_limit: {interval: 1s, burst: 5}\n")

        status = main(["--config.check", "--web.config.file", "web.yml"])

        assert status == 0
        assert capsys.readouterr().out.splitlines() == [
            f"{config}: valid, 2 batteries",
            f"{config.with_name('web.yml')}: valid",
            CHECKED,
        ]

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
            f"{path}:2: batteries[0].address: missing: {ADD}",
            f"{path}:3: speed: unknown key: bms-exporter --config.example prints every key",
        ]

    @pytest.mark.parametrize(
        "address", ["12200", ":port", ":70000", ":-1", "localhost:", ":٣", ":" + "9" * 5000]
    )
    def test_malformed_listen_address_is_reported(
        self, address: str, config: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["--config.file", str(config), f"--web.listen-address={address}"])

        assert status == 1
        assert f"up to 65535, got {address!r}" in capfd.readouterr().err

    def test_listen_address_of_another_machine_is_reported(
        self, config: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["--config.file", str(config), "--web.listen-address", "192.0.2.1:12200"])

        assert status == 1
        assert "cannot listen on 192.0.2.1:12200: this machine" in capfd.readouterr().err


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
    def test_failed_read_names_the_battery_what_to_do_and_doctor(
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
            "bms-exporter doctor camper finds the cause.\n"
        )

    def test_refusal_says_all_there_is_to_say(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        air = quick(battery(answers=answering({})))

        status = run(air, "read", "camper", "--config.file", str(config))

        assert status == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("camper: register 0x03: expected status 0x00 (ok), got 0x80")


class TestVirtualBatteries:
    def test_read_shows_a_virtual_battery(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["read", "--demo", "camper", "--config.file", "none"])

        output = capsys.readouterr()
        assert status == 0
        assert output.out.startswith("battery           camper (A4:C1:38:00:00:01)\n")
        assert (
            output.err == "camper, camper2, flaky, cold: virtual batteries, no Bluetooth is used\n"
        )

    def test_scan_finds_the_virtual_batteries(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["scan", "--demo", "--duration", "2s"])

        assert status == 0
        assert "\nbatteries:\n- name: " in capsys.readouterr().out

    def test_settings_of_an_unknown_virtual_battery_are_refused_with_the_known_ones(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["settings", "--demo", "boat"]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == (
            "settings: no battery is named 'boat': the demo has camper, camper2, flaky, cold; "
            "an address works, too"
        )


def test_address_without_colons_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["read", "A4C138123456", "--config.file", "none"]) == 1
    assert capsys.readouterr().err == (
        "read: expected a Bluetooth address like A4:C1:38:12:34:56, got 'A4C138123456': did you "
        "mean A4:C1:38:12:34:56?\n"
    )


@pytest.mark.parametrize("more", [[], ["--demo"], ["--config.file", "none"]])
@pytest.mark.parametrize("command", ["read", "settings"])
def test_mistyped_address_is_named_with_or_without_a_configuration(
    command: str, more: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = more or ["--config.file", str(config)]

    assert main([command, "A4:C1:38:00:00:ZZ", *file]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{command}: expected a Bluetooth address like A4:C1:38:12:34:56, got "
        "'A4:C1:38:00:00:ZZ': bms-exporter scan shows it"
    )


def test_empty_name_is_shown_in_quotes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", "", "--config.file", str(config)]) == 1
    assert "no battery is named '':" in capsys.readouterr().err


def test_check_names_the_library_that_proxies_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aioesphomeapi", None)  # as if it were not installed
    path = tmp_path / "config.yaml"
    path.write_text(
        "batteries: [{name: camper, address: 'A4:C1:38:12:34:56'}]\n"
        "proxies: [{name: garage, host: 192.168.1.40}]\n"
    )

    assert main(["--config.check", "--config.file", str(path)]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("proxies need the Python package aioesphomeapi: run make install")
    assert output.out == ""


def test_example_is_printed_as_it_is_in_the_repository(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--config.example"]) == 0
    assert capsys.readouterr().out == (PROJECT / "config.example.yaml").read_text(encoding="utf-8")


class TestDemo:
    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, ": there is no such file"),
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
