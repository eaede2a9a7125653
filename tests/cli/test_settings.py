"""`settings` reads the settings once, tells people what they mean, and always leaves their mode."""

import json
import signal
from collections.abc import Mapping
from datetime import date
from itertools import groupby
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.battery.settings_reader import METRIC_REGISTERS
from exporter.cli import main
from exporter.demo.battery import ENTER, LEAVE, Faults, VirtualBattery
from exporter.demo.radio import make_air, make_backend
from exporter.demo.settings import make_settings
from exporter.protocol.settings import SETTING_NAMES
from tests.support.virtual import ADDRESS, battery

NOMINAL_AH = 219.32  # of the virtual battery's 0x03
SETTINGS = make_settings(NOMINAL_AH, "JBD-SP04S034", date(2022, 8, 12))


def run(virtual: VirtualBattery, *arguments: str, faults: Faults | None = None) -> int:
    virtual.faults = faults or Faults(reply_s=0.002, notification=0)
    air = make_air([virtual], connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.02)
    return main(["settings", ADDRESS, *arguments], backend=make_backend(air))


def make_battery(settings: Mapping[int, bytes] | None = SETTINGS) -> VirtualBattery:
    return battery(settings=settings)


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestRead:
    def test_table_groups_the_limits_and_marks_frost(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        virtual = make_battery()

        status = run(virtual)

        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        assert out.startswith(f"{ADDRESS}\n\nVoltage\n")
        assert (
            "    Discharging stops below 2.50 V a cell, starts again at 2.70 V (delay 2 s)\n" in out
        )
        assert "  ! Charging stops below -10 °C, starts again at 0 °C (delay 2 s)\n" in out
        assert "Other settings" not in out

    def test_only_reads_enter_and_leave_are_sent_and_the_mode_is_left(self) -> None:
        virtual = make_battery()

        run(virtual)

        assert virtual.illegal == []
        assert [frame for frame, _ in groupby(virtual.mode_frames)] == [LEAVE, ENTER, LEAVE]
        assert virtual.mode_frames.count(ENTER) == 1
        assert not virtual.is_mode_open
        read = {one for one in virtual.requests if one in SETTING_NAMES}
        assert read == {0x2F, 0x10, *METRIC_REGISTERS}

    def test_all_shows_what_is_rarely_needed(self, capsys: pytest.CaptureFixture[str]) -> None:
        virtual = make_battery()

        status = run(virtual, "--all")

        assert status == 0
        assert "Other settings\n" in (out := capsys.readouterr().out)
        assert "    Manufacturer: DGJBD\n" in out
        assert {one for one in virtual.requests if one in SETTING_NAMES} == set(SETTING_NAMES)

    def test_json_has_values_and_remarks(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(make_battery(), "--format", "json")

        shown = json.loads(capsys.readouterr().out)
        assert shown["settings"]["cell_undervoltage_v"] == 2.5
        assert "charge_undertemperature_c" in shown["remarks"]

    def test_metrics_are_those_of_the_exporter(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(make_battery(), "--format", "metrics")

        samples = {
            (sample.name, sample.labels.get("protection")): sample.value
            for family in text_string_to_metric_families(capsys.readouterr().out)
            for sample in family.samples
        }
        assert samples["bms_protection_threshold_volts", "cell_undervoltage"] == 2.5
        assert samples["bms_protection_threshold_amperes", "discharge_overcurrent"] > 0
        assert ("bms_up", None) not in samples

    def test_reading_that_must_not_be_shown_later_is_no_failure(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "config.yaml").write_text(
            f"batteries: [{{name: camper, address: '{ADDRESS}'}}]\n"
            "poll: {max_age: 0s, min_interval: 0s}\n"
        )

        status = run(make_battery())

        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        assert out.startswith(f"camper ({ADDRESS})\n")

    def test_missing_name_is_answered_with_the_known_ones(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            "batteries:\n  - {name: a, address: 'A4:C1:38:00:00:01'}\n"
            "  - {name: b, address: 'A4:C1:38:00:00:02'}\n"
        )

        assert main(["settings", "c"]) == 1
        assert capsys.readouterr().err.startswith(
            "settings: no battery is named 'c': config.yaml has a, b;"
        )


class TestProblems:
    @pytest.mark.parametrize(
        ("settings", "faults", "words"),
        [
            pytest.param(
                SETTINGS,
                Faults(reply_s=0.002, refuses_mode=True),
                "refuses to show its settings: close the phone app",
                id="PIN",
            ),
            pytest.param(
                make_settings(100.0, "JBD", date(2022, 8, 12)),
                None,
                "registers have other meanings",
                id="other capacity",
            ),
        ],
    )
    def test_reason_and_remedy_are_named(
        self,
        settings: dict[int, bytes],
        faults: Faults | None,
        words: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        virtual = make_battery(settings)

        status = run(virtual, faults=faults)

        out, err = capsys.readouterr()
        assert (status, out) == (1, "")
        assert f"{ADDRESS}: " in err
        assert words in err
        assert not virtual.is_mode_open

    def test_battery_out_of_range_is_explained_as_in_read(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "config.yaml").write_text(
            f"batteries: [{{name: camper, address: '{ADDRESS}'}}]\npoll: {{timeout: 1s}}\n"
        )

        status = run(make_battery(), faults=Faults(gone=True))

        err = capsys.readouterr().err
        assert status == 1
        assert err.startswith("camper: ")
        assert "bms-exporter doctor camper finds the cause." in err

    def test_board_that_never_confirms_is_told_what_to_do(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        virtual = make_battery(None)  # answers neither ENTER nor LEAVE

        status = run(virtual)

        out, err = capsys.readouterr()
        assert (status, out) == (1, "")
        assert "did not confirm that the mode for reading settings is closed" in err
        assert ENTER not in virtual.illegal


class Interrupting(dict[int, bytes]):
    """Settings that press Ctrl-C when one of them is read."""

    def __getitem__(self, register: int) -> bytes:
        if register == 0x24:
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(register)


def test_ctrl_c_leaves_the_mode(capsys: pytest.CaptureFixture[str]) -> None:
    virtual = make_battery(Interrupting(SETTINGS))

    status = run(virtual)

    out, err = capsys.readouterr()
    assert (status, out, err) == (130, "", "")
    assert virtual.mode_frames[-1] == LEAVE
    assert not virtual.is_mode_open
    assert virtual.illegal == []
