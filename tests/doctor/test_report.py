"""The text for people, the JSON for programs, and what neither of them says."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.doctor.check import LABELS, Check, State, first_to_do
from exporter.doctor.redaction import Redaction
from exporter.doctor.report import Report
from tests.support.paths import PROJECT

OK_CHECK = Check(id="sockets", state=State.OK, text="link: direct is possible")
WARNING = Check(id="wifi", state=State.WARN, text="shares the antenna", advice="use a cable")
FAILURE = Check(
    id="adapter.settings",
    subject="hci0",
    state=State.FAIL,
    text="Low Energy is off: nothing can connect",
    advice="run sudo btmgmt --index hci0 le on",
    facts={"low_energy": False},
)


def printed(*checks: Check, width: int | None = None) -> list[str]:
    lines: list[str] = []
    report = Report(write=lines.append, width=width)
    for check in checks:
        report.add(check)
    report.conclude("not read: camper", is_well=False)
    return lines


class TestText:
    def test_each_check_is_one_line_that_is_aligned(self) -> None:
        assert printed(OK_CHECK, WARNING)[:2] == [
            "sockets    ok   link: direct is possible",
            "wifi       warn shares the antenna; use a cable",
        ]

    def test_first_failure_is_repeated_as_the_one_thing_to_do(self) -> None:
        later = Check(id="battery", subject="camper", state=State.FAIL, text="not read")

        assert printed(later, FAILURE, WARNING)[-2:] == [
            "verdict    FAIL not read: camper",
            f"One thing to do: hci0: {FAILURE.text}; {FAILURE.advice}",
        ]

    def test_first_warning_is_worth_a_look_where_nothing_fails(self) -> None:
        assert printed(OK_CHECK, WARNING)[-1] == (
            "Worth a look: wifi: shares the antenna; use a cable"
        )

    def test_nothing_is_to_do_where_all_is_well(self) -> None:
        assert first_to_do([OK_CHECK]) is None
        assert printed(OK_CHECK)[-1].startswith("verdict")

    def test_name_of_a_battery_cannot_control_the_terminal(self) -> None:
        evil = Check(id="battery.heard", state=State.OK, text='"JBD-\x1b[31m\n\x00"')

        assert printed(evil)[0].endswith('"JBD-[31m"')

    def test_subject_is_named_once(self) -> None:
        chip = Check(id="adapter.chip", subject="hci0", state=State.OK, text="Intel")

        lines = printed(chip, FAILURE)

        assert lines[0].startswith("hci0       ok   Intel")
        assert lines[1].startswith("  settings FAIL")

    @pytest.mark.parametrize("width", [80, 60, 40, 20])
    def test_no_line_is_wider_than_the_terminal(self, width: int) -> None:
        long_name = Check(
            id="battery", subject="service battery of the trailer", state=State.OK, text="read"
        )

        lines = printed(OK_CHECK, FAILURE, WARNING, width=width)

        assert max(map(len, lines)) <= width
        assert max(map(len, printed(long_name, width=80))) <= 80

    def test_wrapped_text_stands_under_its_beginning(self) -> None:
        lines = printed(FAILURE, width=60)

        assert lines[0].startswith("hci0       FAIL Low Energy is off")
        assert lines[1].startswith(16 * " ")
        assert lines[1][16] != " "

    def test_narrow_terminal_gets_the_text_under_its_label(self) -> None:
        assert printed(FAILURE, width=40)[:2] == [
            "hci0       FAIL",
            "    Low Energy is off: nothing can",
        ]


class TestJson:
    def test_facts_have_stable_ids_and_no_sentences(self) -> None:
        report = Report(write=lambda _: None)
        report.add(FAILURE)
        report.batteries.append({"name": "camper 12345", "address": "A4:C1:38:AB:CD:EF"})

        document = json.loads(report.as_json())

        assert document["doctor"] == 1
        assert document["checks"] == [
            {
                "id": "adapter.settings",
                "subject": "hci0",
                "state": "FAIL",
                "facts": {"low_energy": False},
                "advice": "run sudo btmgmt --index hci0 le on",
            }
        ]
        assert document["batteries"] == [{"name": "camper 00000", "address": "A4:C1:38:00:00:01"}]
        assert document["verdict"] == {
            "id": "adapter.settings",
            "subject": "hci0",
            "state": "FAIL",
        }

    def test_report_without_checks_is_valid(self) -> None:
        document = json.loads(Report(write=lambda _: None).as_json())

        assert document["checks"] == document["batteries"] == []
        assert document["verdict"] is None

    def test_every_id_is_documented(self) -> None:
        text = (PROJECT / "docs" / "doctor.md").read_text(encoding="utf-8")
        text = text.partition("## The checks")[2].partition("## The file")[0]

        assert set(re.findall(r"^\| `([a-z_.]+)` \|", text, re.MULTILINE)) == set(LABELS)


class TestRedaction:
    def test_address_keeps_its_makers_half_and_gets_one_number(self) -> None:
        redaction = Redaction()

        assert redaction.text("a4:c1:38:ab:cd:ef, then A5:C2:37:00:11:22") == (
            "A4:C1:38:00:00:01, then A5:C2:37:00:00:03"
        )
        assert redaction.text("dev_A4_C1_38_AB_CD_EF") == "dev_A4:C1:38:00:00:01"

    @pytest.mark.parametrize("name", ["A4C138ABCDEF", "efcdab", "JBD-A4-C1-38-AB-CD-EF", "x CDEF"])
    def test_known_address_is_not_left_in_an_advertised_name(self, name: str) -> None:
        redaction = Redaction()
        redaction.know(["A4:C1:38:AB:CD:EF"])

        shown = redaction.advertised_name(name).upper()
        assert not re.search("ABCDEF|EFCDAB|AB-CD-EF|CDEF", shown)

    @pytest.mark.parametrize("name", ["A4C138ABCDEF", "van efcdab", "A4:C1:38:AB:CD:EF", "12345"])
    def test_known_address_and_number_are_not_left_in_an_own_name(self, name: str) -> None:
        redaction = Redaction()
        redaction.know(["A4:C1:38:AB:CD:EF"])

        shown = redaction.own_name(name).upper()
        assert not re.search("ABCDEF|EFCDAB|AB:CD:EF|12345", shown)

    def test_advertised_name_loses_its_serial_number(self) -> None:
        name = Redaction().advertised_name

        assert name("SP04S034-L4S-200A-123456") == "SP00S000-L0S-000A-000000"
        assert name("SX100-778") == "SX100-000"
        assert name("SX60-778") == "SX60-000"
        assert name("camper 12") == "camper 00"

    def test_everything_is_shown_if_that_is_wanted(self) -> None:
        redaction = Redaction(is_on=False)

        assert redaction.text("A4:C1:38:AB:CD:EF") == "A4:C1:38:AB:CD:EF"
        assert redaction.advertised_name("JBD-123456") == "JBD-123456"
        assert redaction.own_name("camper 123456") == "camper 123456"

    @given(
        st.lists(st.binary(min_size=6, max_size=6), min_size=1, max_size=5),
        st.text(st.characters(exclude_characters=":_", exclude_categories=["Cs"])),
    )
    def test_no_address_is_left_in_any_text(self, addresses: list[bytes], words: str) -> None:
        shown = [raw.hex(":").upper() for raw in addresses]

        redacted = Redaction().fact({"a": [f"{words} {one} {words}" for one in shown]})

        left = [one for one in shown if one in str(redacted)]
        assert [one for one in left if not one[9:].startswith("00:00:")] == []
