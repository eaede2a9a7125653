"""Thresholds of low and critical batteries, and names of sensors."""

import pytest

from exporter.config.loader import parse
from exporter.config.presentation import Presentation, Threshold, parse_threshold
from exporter.errors import ConfigError


def ratio(value: float) -> Threshold:
    return Threshold(value, is_ratio=True)


def ah(value: float) -> Threshold:
    return Threshold(value, is_ratio=False)


def config_text(battery: str = "", file: str = "") -> str:
    return f'{{batteries: [{{name: camper, address: "A4:C1:38:00:00:01"{battery}}}]{file}}}'


class TestThreshold:
    @pytest.mark.parametrize(
        ("text", "threshold"),
        [
            ("60Ah", ah(60.0)),
            ("12.5 Ah", ah(12.5)),
            ("0Ah", ah(0.0)),
            ("30%", ratio(0.3)),
            ("7.5 %", ratio(0.075)),
            ("100%", ratio(1.0)),
        ],
    )
    def test_threshold_has_a_unit(self, text: str, threshold: Threshold) -> None:
        assert parse_threshold(text) == threshold

    @pytest.mark.parametrize(
        "value", ["60", "60 ah", "-5%", "Ah", "1.Ah", "٣%", "60Ah\n", 60, 0.3, None, True, []]
    )
    def test_threshold_without_a_unit_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected a charge with its unit like 60Ah or 30%"):
            parse_threshold(value)

    def test_more_than_100_percent_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected at most 100%, got '101%'"):
            parse_threshold("101%")

    @pytest.mark.parametrize("text", ["60Ah", "12.5Ah", "30%", "29%", "7.5%"])
    def test_threshold_is_shown_as_it_is_written(self, text: str) -> None:
        assert str(parse_threshold(text)) == text

    @pytest.mark.parametrize(
        ("threshold", "nominal_ah", "expected"),
        [
            (ah(60.0), None, 60.0),
            (ah(60.0), 200.0, 60.0),
            (ratio(0.29), 200.0, 58.0),
            (ratio(0.2), None, None),
            (ratio(0.2), 0.0, None),
        ],
    )
    def test_ratio_needs_a_nominal_capacity(
        self, threshold: Threshold, nominal_ah: float | None, expected: float | None
    ) -> None:
        assert threshold.in_ah(nominal_ah) == expected


class TestInheritance:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (config_text(), Presentation(low=ratio(0.2), critical=ratio(0.1))),
            (
                config_text(file=", low: 60Ah, critical: 30Ah"),
                Presentation(low=ah(60.0), critical=ah(30.0)),
            ),
            (
                config_text(", critical: 5%", file=", low: 40%"),
                Presentation(low=ratio(0.4), critical=ratio(0.05)),
            ),
            (
                config_text(", low: 0Ah, critical: 0Ah", file=", low: 40%"),
                Presentation(low=ah(0.0), critical=ah(0.0)),
            ),
        ],
    )
    def test_own_threshold_comes_before_that_of_the_file_and_the_default(
        self, text: str, expected: Presentation
    ) -> None:
        config = parse(text)

        assert config.presentation(config.batteries[0]) == expected


class TestSensors:
    @pytest.mark.parametrize(
        ("option", "count", "names"),
        [
            ("", 2, ("ntc1", "ntc2")),
            (", temperatures: []", 1, ("ntc1",)),
            (", temperatures: [cells, mosfet, null]", 3, ("cells", "mosfet", None)),
            (", temperatures: [null, fan]", 3, (None, "fan", "ntc3")),
            (", temperatures: [cells, mosfet, null]", 1, ("cells",)),
            (", temperatures: [ntc1, fan]", 2, ("ntc1", "fan")),
            (", temperatures: [cells]", 0, ()),
        ],
    )
    def test_sensors_have_their_names_in_the_order_of_the_bms(
        self, option: str, count: int, names: tuple[str | None, ...]
    ) -> None:
        config = parse(config_text(option))

        assert config.presentation(config.batteries[0]).sensor_names(count) == names


class TestOrder:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (
                config_text(file=", low: 10%, critical: 30%"),
                "critical: expected at most low (10%), got 30%",
            ),
            (
                config_text(file=", critical: 30%"),
                "critical: expected at most low (20%, the default), got 30%",
            ),
            (
                config_text(file=", low: 5%"),
                "low: expected at least critical (10%, the default), got 5%: set critical, too",
            ),
            (
                config_text(", low: 9Ah", ", low: 60Ah, critical: 30Ah"),
                (
                    "batteries[0].low: expected at least critical (30Ah, of all batteries), "
                    "got 9Ah: set critical, too"
                ),
            ),
            (
                config_text(", critical: 50%", ", low: 40%"),
                "batteries[0].critical: expected at most low (40%, of all batteries), got 50%",
            ),
        ],
    )
    def test_critical_above_low_is_refused(self, text: str, complaint: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(text)

        assert caught.value.problems == (f"config.yaml:1: {complaint}",)

    @pytest.mark.parametrize(
        "file", [", low: 10%", ", critical: 20%", ", low: 1Ah", ", low: 5%, critical: 0%"]
    )
    def test_critical_may_equal_low_and_units_may_differ(self, file: str) -> None:
        parse(config_text(file=file))
