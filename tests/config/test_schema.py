"""Each kind of value of the configuration has one way to be right."""

import pytest

from exporter.config.schema import (
    PARSERS,
    TransportChoice,
    Variable,
    likely_address,
    normal_address,
    normal_name,
    parse_adapter,
    parse_duration,
)
from exporter.config.yaml_document import Misread


class TestAddress:
    @pytest.mark.parametrize(
        "written", ["a4:c1:38:00:00:0f", "A4-C1-38-00-00-0F", " A4:C1:38:00:00:0F "]
    )
    def test_address_is_normalised(self, written: str) -> None:
        assert normal_address(written) == "A4:C1:38:00:00:0F"

    @pytest.mark.parametrize(
        "text",
        ["", "A4:C1", "A4:C1:38:00:00:0G", "A4:C1:38:00:00:01:02", "A4C138000001", "a b", None, []],
    )
    def test_text_that_is_no_address_is_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="expected a Bluetooth address like A4:C1:38"):
            normal_address(text)

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("a4c138123456", "A4:C1:38:12:34:56"),
            ("A4.C1.38.12.34.56", "A4:C1:38:12:34:56"),
            ("A4 C1 38 12 34 56,", "A4:C1:38:12:34:56"),
            ("A4:C1:38:12:34", None),
            ("camper", None),
        ],
    )
    def test_address_in_another_form_is_recognised(self, text: str, address: str | None) -> None:
        assert likely_address(text) == address


class TestName:
    @pytest.mark.parametrize("name", ["a", "my camper", "x" * 64, "Z\u00fcrich"])
    def test_printable_text_is_a_name(self, name: str) -> None:
        assert normal_name(name) == name

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            ("", "expected a name like camper, got nothing"),
            ("x" * 65, "expected a name of at most 64 characters, got 65"),
            (" camper", "expected a name without blanks around it, got ' camper'"),
            ("camper ", "expected a name without blanks around it, got 'camper '"),
            (
                "two\nlines",
                "expected a name in one line, without control characters, got 'two\\nlines'",
            ),
            (
                Misread("on", "true or false"),
                'expected a name, and YAML reads on as true or false: put it in quotes, "on"',
            ),
            (None, "expected a name like camper, got nothing"),
            (["a"], "expected a name like camper, got a list"),
        ],
    )
    def test_unusable_name_is_refused_with_advice(self, value: object, complaint: str) -> None:
        with pytest.raises(ValueError, match="expected a name") as caught:
            normal_name(value)

        assert str(caught.value) == complaint


class TestAdapter:
    @pytest.mark.parametrize("name", ["hci0", "hci12"])
    def test_name_that_linux_gives_is_an_adapter(self, name: str) -> None:
        assert parse_adapter(name) == name

    def test_address_is_an_adapter_too(self) -> None:
        assert parse_adapter("00-1b-dc-0f-aa-01") == "00:1B:DC:0F:AA:01"

    @pytest.mark.parametrize("value", ["usb0", "hci", "hci0 ", "HCI0", 0, None])
    def test_text_that_is_no_adapter_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected an adapter like hci0"):
            parse_adapter(value)


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("30s", 30.0),
            ("2m", 120.0),
            ("1h", 3600.0),
            ("500ms", 0.5),
            ("1m30s", 90.0),
            ("1h2m3s4ms", 3723.004),
            ("0s", 0.0),
            ("1.5s", 1.5),
            (0, 0.0),
        ],
    )
    def test_duration_carries_its_unit(self, text: object, seconds: float) -> None:
        assert parse_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text",
        ["30", "", "s", "-1s", "1d", "1 s", "1s1m", "1.s", "soon", "٣s", 30, 0.0, False, None, []],
    )
    def test_duration_without_a_unit_is_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="duration with its unit"):
            parse_duration(text)


class TestParsers:
    @pytest.mark.parametrize("name", ["1PIN", "A-B", "", 7])
    def test_password_env_that_names_no_variable_is_refused_without_quoting_it(
        self, name: object
    ) -> None:
        with pytest.raises(ValueError, match=r"^expected the name of an environment variable"):
            PARSERS[Variable](name)

    def test_password_file_that_is_no_text_is_refused_without_quoting_it(self) -> None:
        with pytest.raises(ValueError, match=r"^expected the name of a file, in quotes$"):
            PARSERS[str](123456)

    @pytest.mark.parametrize("value", ["usb", 1, None])
    def test_unknown_link_is_refused_with_the_known_ones(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected one of auto, direct, bluez, got"):
            PARSERS[TransportChoice](value)

    @pytest.mark.parametrize("value", ["yes", 1, None])
    def test_switch_takes_only_true_and_false(self, value: object) -> None:
        with pytest.raises(ValueError, match="expected true or false, got"):
            PARSERS[bool](value)
