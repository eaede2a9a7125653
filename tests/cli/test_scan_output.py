"""What `scan` prints fits the terminal, and its configuration can be used as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.findings import Finding
from exporter.cli.scan_output import printable, scan_table, scan_yaml
from exporter.config.loader import parse
from exporter.errors import (
    AnotherProtocolError,
    AuthError,
    BmsError,
    Cause,
    ConnectError,
    DeviceError,
    NotFoundError,
    ProfileError,
    ProtocolError,
    ReplyTimeoutError,
)
from exporter.protocol.advertisement import NAMES
from exporter.protocol.jbd import decode_basic
from tests.support.advertisements import make_advertisement
from tests.support.recorded import MOBILEKTRO

YAML_NAMES = (
    "yes",
    "null",
    "1.5",
    "1:30",
    "=",
    "<<",
    "# JBD",
    "- a",
    "a: b",
    "'",
    '"',
    "🔋",
    "שלום",
)
PREFIXES = [name.split("*", maxsplit=1)[0].replace("?", "0") for name in NAMES]
ANY_NAME = st.one_of(
    st.text(max_size=80),
    st.sampled_from(YAML_NAMES),
    st.builds(str.__add__, st.sampled_from(PREFIXES), st.text(max_size=80)),
    st.builds("JBD-{0}\n{0}".format, st.sampled_from(YAML_NAMES)),
    st.sampled_from(["JBD-", "JBD- 2", "JBD-" + 70 * "x", "JBD-" + 58 * " " + "x y"]),
)
ANSWER = decode_basic(MOBILEKTRO[4:-3])


def make_finding(
    name: str, number: int = 1, failure: BmsError | None = None, *, answers: bool = False
) -> Finding:
    """Return what a scan found at one of the addresses of JBD's modules."""
    return Finding(
        advertisement=make_advertisement(name, f"A4:C1:38:00:00:{number:02X}"),
        failure=failure,
        answer=ANSWER if answers else None,
    )


class TestYaml:
    @given(
        names=st.lists(ANY_NAME, max_size=8),
        last=st.sampled_from(["JBD-1", "AP", "JBD-"]),
        message=st.text(max_size=200),
    )
    def test_scanned_configuration_always_loads_with_every_battery(
        self, names: list[str], last: str, message: str
    ) -> None:
        findings = [
            make_finding(name, number, ConnectError(message) if number % 2 else None)
            for number, name in enumerate([*names, last])
        ]

        text = scan_yaml(findings)
        uncommented = "\n".join(
            line.removeprefix("# ") if line.startswith(("# - name: ", "#   address: ")) else line
            for line in text.splitlines()
        )

        assert {one.address for one in parse(text).batteries} == {
            one.advertisement.address for one in findings if one.is_battery
        }
        assert {one.address for one in parse(uncommented).batteries} == {
            one.advertisement.address for one in findings
        }

    def test_address_of_digits_stays_an_address(self) -> None:
        seen = make_advertisement("JBD-1", "10:20:30:40:50:59")

        (battery,) = parse(scan_yaml([Finding(advertisement=seen, answer=ANSWER)])).batteries

        assert battery.address == "10:20:30:40:50:59"

    def test_batteries_with_one_name_are_numbered(self) -> None:
        names = ("JBD-1", "JBD-1", "JBD-1 2", "")

        text = scan_yaml([make_finding(name, number) for number, name in enumerate(names)])

        assert text.splitlines()[:7] == [
            "batteries:",
            "- name: JBD-1",
            "  address: A4:C1:38:00:00:00",
            "- name: JBD-1 2",
            "  address: A4:C1:38:00:00:01",
            "- name: JBD-1 2 2",
            "  address: A4:C1:38:00:00:02",
        ]
        assert text.splitlines()[-2:] == [
            "# - name: A4:C1:38:00:00:03",
            "#   address: A4:C1:38:00:00:03",
        ]

    def test_device_that_did_not_answer_is_a_comment_with_the_reason(self) -> None:
        failure = AnotherProtocolError("it answers, but not in the JBD protocol: 7b02")

        text = scan_yaml([make_finding("JBD-1"), make_finding("ECO", 2, failure)])

        assert text.splitlines()[3:] == [
            "# Left out, another protocol: it answers, but not in the JBD protocol: 7b02",
            '# To add it anyway, remove the "# " before its two lines:',
            "# - name: ECO",
            "#   address: A4:C1:38:00:00:02",
        ]

    def test_comments_fit_a_narrow_terminal(self) -> None:
        failure = ConnectError("A4:C1:38:00:00:02 not seen in 10 s: is it switched on?")
        findings = [make_finding("JBD-1"), make_finding("ECO", 2, failure)]

        assert max(map(len, scan_yaml(findings, 40).splitlines())) <= 40

    def test_battery_that_answered_is_in_the_configuration(self) -> None:
        text = scan_yaml([make_finding("camper", answers=True)])

        assert [battery.name for battery in parse(text).batteries] == ["camper"]


class TestTable:
    FINDINGS = (
        Finding(advertisement=make_advertisement("Headphones", services=())),
        make_finding("camper"),
        make_finding("JBD-1", 2),
        make_finding("trailer", 3, answers=True),
    )

    def test_batteries_are_first_and_other_devices_last(self) -> None:
        rows = [line.split("  ") for line in scan_table(self.FINDINGS).splitlines()[1:]]

        assert [row[0].strip() for row in rows] == ["JBD-1", "trailer", "camper", "Headphones"]
        assert [row[-1] for row in rows] == [
            "JBD battery: service ff00, name like JBD-*, address block A4:C1:38",
            "JBD battery: 13.21 V, 93%",
            "perhaps a JBD battery: service ff00, address block A4:C1:38",
            "no sign of a JBD battery",
        ]

    @pytest.mark.parametrize("columns", [80, 40, 20])
    def test_table_fits_the_terminal(self, columns: int) -> None:
        lines = scan_table(self.FINDINGS, columns).splitlines()

        assert max(map(len, lines)) <= columns
        shown = "".join(" ".join(lines).split())
        assert "JBDbattery:13.21V,93%" in shown
        assert "A4:C1:38:00:00:03" in shown

    @given(name=ANY_NAME, columns=st.integers(1, 200))
    def test_table_fits_any_terminal_with_any_name(self, name: str, columns: int) -> None:
        table = scan_table([make_finding(name), make_finding("JBD-1", 2)], columns)

        assert all(len(line) <= max(3, columns) for line in table.splitlines())

    def test_narrow_terminal_gets_each_device_in_lines_of_its_own(self) -> None:
        assert scan_table(self.FINDINGS[2:], 40).splitlines() == [
            "JBD-1",
            "  A4:C1:38:00:00:02  -60 dBm",
            "  JBD battery: service ff00, name like",
            "  JBD-*, address block A4:C1:38",
            "trailer",
            "  A4:C1:38:00:00:03  -60 dBm",
            "  JBD battery: 13.21 V, 93%",
        ]

    def test_long_description_goes_on_below_itself(self) -> None:
        assert scan_table(self.FINDINGS[2:3], 80).splitlines() == [
            "name   address            RSSI     what it is",
            "JBD-1  A4:C1:38:00:00:02  -60 dBm  JBD battery: service ff00, name like JBD-*,",
            "                                   address block A4:C1:38",
        ]

    @pytest.mark.parametrize(
        ("failure", "what"),
        [
            (AnotherProtocolError("7b02"), "another protocol"),
            (ProtocolError("wrong checksum"), "no usable answer"),
            (AuthError("rejected"), "wants a PIN"),
            (ProfileError("180a only"), "no JBD profile"),
            (NotFoundError("not seen"), "not reached"),
            (ConnectError("weak signal"), "not reached"),
            (ConnectError("kept", Cause.HELD), "connected to another program"),
            (ReplyTimeoutError("no reply"), "no answer"),
            (DeviceError("status 0x80"), "refuses to be read"),
        ],
    )
    def test_failure_is_named_in_a_few_words(self, failure: BmsError, what: str) -> None:
        assert make_finding("camper", failure=failure).what == what


def test_advertised_name_cannot_control_the_terminal() -> None:
    assert printable(" JBD-\x1b[31m\n1 ") == "JBD-[31m1"
