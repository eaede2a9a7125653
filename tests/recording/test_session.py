"""A recording may come from anybody: every mistake is named with its line."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.recording.session import (
    MAX_SESSIONS,
    MAX_TEXT,
    NO_RECORDING,
    Event,
    RecordingError,
    parse_sessions,
)
from exporter.replay.run import replay
from tests.support.sessions import replay_text, run

HEADER = '{"record":1,"battery":"A4:C1:38:00:00:01","link":"%s","timeout_s":2}'
DIRECT = HEADER % "direct"
BLUEZ = HEADER % "bluez"
MEMORY = '{"t":1,"ev":"memory","types":[1,2],"table":%s}'


class TestFile:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "x.jsonl:1: expected a recording, got nothing"),
            ("hello\n", f"x.jsonl:1: {NO_RECORDING}"),
            ("[1]\n", f"x.jsonl:1: {NO_RECORDING}"),
            ("[" * 40_000 + "\n", f"x.jsonl:1: {NO_RECORDING}"),
            ('{"t":' + "[" * 700 + "]" * 700 + "}\n", "x.jsonl:1: more than 10 levels"),
            ('{"t":NaN}\n', f"x.jsonl:1: {NO_RECORDING}"),
            ("{" + " " * 50_000 + "}\n", "x.jsonl:1: more than 50000 characters"),
            ('{"t":0}', 'x.jsonl:1: expected {"record":1, ...'),
            ('{"record":2}', "x.jsonl:1: expected a recording of format 1"),
            (f'{DIRECT}\n\n{{"t":"1"}}', "x.jsonl:3: t: expected seconds, at most 3600"),
            (f'{DIRECT}\n{{"t":true}}', "x.jsonl:2: t: expected seconds"),
            (f'{DIRECT}\n{{"t":1e9}}', "x.jsonl:2: t: expected seconds"),
            (f'{DIRECT}\n{{"t":2}}\n{{"t":1}}', "x.jsonl:3: its time is before that of"),
            (f"{DIRECT}\n" * (MAX_SESSIONS + 1), "x.jsonl:101: more than 100 sessions"),
            (" " * (MAX_TEXT + 1), "x.jsonl: more than 2000000 characters"),
        ],
    )
    def test_file_that_is_no_recording_is_refused_with_its_line(
        self, text: str, complaint: str
    ) -> None:
        with pytest.raises(RecordingError) as refused:
            parse_sessions(text, "x.jsonl")

        assert str(refused.value).startswith(complaint)

    def test_last_line_may_be_cut(self) -> None:
        (session,) = parse_sessions(f'{DIRECT}\n{{"t":1,"ev":"open"}}\n{{"t":2,"e', "x.jsonl")

        assert len(session.events) == 1
        assert session.result is None
        assert session.edited == ()

    def test_file_may_hold_several_sessions(self) -> None:
        first, second = parse_sessions(
            f'{DIRECT}\n{{"t":1,"result":{{"edited":[5]}}}}\n{BLUEZ}\n', "x.jsonl"
        )

        assert first.edited == [5]
        assert second.header.where == "x.jsonl:3"


class TestLines:
    @pytest.mark.parametrize(
        ("lines", "complaint"),
        [
            ('{"t":1,"tx":"10"}', '2: there is no "open" before it'),
            ('{"t":1,"ev":"open"}\n{"t":1,"rx":"13"}', '3: there is no "connected" before it'),
            ('{"t":1,"tx":"1g"}', "2: tx: expected hex, got '1g'"),
            ('{"t":1,"tx":12}', "2: tx: expected a text, got 12"),
            ('{"t":1,"tx":""}', "2: tx: expected at least one byte"),
            ('{"t":1,"rx":"%s"}' % ("00" * 2000), "2: rx: 2000 bytes, at most 1024"),
            ('{"t":1,"ev":"open","kind":"1"}', "2: kind: expected a whole number"),
            ('{"t":1,"ev":"open","kind":true}', "2: kind: expected a whole number"),
            ('{"t":1,"ev":["open"]}', "2: ev: expected a text"),
            ('{"t":1,"ev":"write","response":1}', "2: response: expected true or false"),
            ('{"t":1,"rx":"13","password":3}', "2: password: expected an object"),
            ('{"t":1,"rx":"13","password":{"step":"x"}}', "2: step: expected a whole number"),
            ('{"t":1,"ev":"services","table":[]}', "2: table: expected an object"),
            ('{"t":1,"ev":"services","table":{"a":{"b":[1]}}}', "2: b: expected a list of"),
            ('{"t":1,"ev":"memory"}', "2: types: expected 1 and 2 in some order"),
            ('{"t":1,"ev":"memory","types":[1,[]]}', "2: types: expected 1 and 2"),
            (MEMORY % '{"services":[3]}', "2: services: expected a list of texts"),
            (MEMORY % '{"profiles":3}', "2: profiles: expected an object"),
            (MEMORY % '{"profiles":{"nus":3}}', "2: nus: expected an object"),
            (MEMORY % '{"profiles":{"nus":{"write":-1}}}', "2: profiles: expected handles"),
        ],
    )
    def test_malformed_line_is_refused(self, lines: str, complaint: str) -> None:
        with pytest.raises(RecordingError) as refused:
            replay_text(f"{DIRECT}\n{lines}\n")

        assert str(refused.value).startswith(f"x.jsonl:{complaint}")

    @pytest.mark.parametrize(
        ("lines", "complaint"),
        [
            ('{"t":1,"adv":3}', "2: adv: expected an object"),
            ('{"t":1,"adv":{"rssi":"x"}}', "2: rssi: expected a whole number"),
            ('{"t":1,"adv":{"maker":{"x":"00"}}}', "2: maker: expected numbers of companies"),
        ],
    )
    def test_malformed_advertisement_is_refused(self, lines: str, complaint: str) -> None:
        with pytest.raises(RecordingError) as refused:
            replay_text(f"{BLUEZ}\n{lines}\n")

        assert str(refused.value).startswith(f"x.jsonl:{complaint}")

    @pytest.mark.parametrize(
        ("header", "complaint"),
        [
            ({"battery": "x"}, "battery: "),
            ({"battery": None}, "battery: "),
            ({"link": "air"}, "link: expected direct, bluez or proxy"),
            ({"profile": "x"}, "profile: expected one of "),
            ({"timeout_s": "x"}, "timeout_s: expected a number"),
            ({"timeout_s": -1}, "timeout_s: expected 0 to 3600"),
            ({"session": {"way": "x"}}, "way: expected one of usual, other, late"),
            ({"session": {"profile": "x"}}, "profile: expected one of "),
        ],
    )
    def test_malformed_header_is_refused(self, header: dict[str, Any], complaint: str) -> None:
        with pytest.raises(RecordingError) as refused:
            replay_text(json.dumps(json.loads(DIRECT) | header))

        assert str(refused.value).startswith(f"x.jsonl:1: {complaint}")

    def test_unknown_events_of_a_later_version_are_left_out(self) -> None:
        known = '{"t":1,"ev":"memory","types":[1,2],"is_type_known":true}'
        lines = f'{known}\n{{"t":1,"ev":"new"}}\n{{"t":1,"ev":"open"}}\n{{"t":1,"ev":"new"}}'

        assert replay_text(f"{DIRECT}\n{lines}\n").differences == ()

    def test_values_have_defaults(self) -> None:
        event = Event("x", 0.0, {"a": None, "b": 2})

        assert event.get("a", str, "") == ""
        assert event.get("b", float, 0.0) == 2.0
        assert event.texts("c") == []


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 300)
    | st.floats()
    | st.sampled_from(
        ["", "00", "1b0d00ff", "dda50300fffd77", "ff00", "us", "battery", "scan", "connect", "x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        "tx",
        "rx",
        "adv",
        "ev",
        "kind",
        "errno",
        "by",
        "uuid",
        "hex",
        "response",
        "password",
        "table",
        "types",
        "profiles",
        "services",
        "doing",
        "error",
        "dbus",
        "link",
        "style",
        "result",
    ]
)
EVENTS = st.sampled_from(
    [
        "open",
        "connected",
        "failed",
        "closed",
        "gone",
        "memory",
        "services",
        "stuck",
        "route",
        "write",
        "notify",
        "subscribe",
        "subscribed",
        "confirmed",
        "refused",
    ]
)
LINES = st.lists(
    st.tuples(st.dictionaries(KEYS, VALUES, max_size=4), EVENTS | st.none(), st.floats(0, 3)),
    max_size=12,
)


@given(
    lines=LINES, header=st.sampled_from([DIRECT, BLUEZ]), factor=st.sampled_from([0.0, 1.0, 3.0])
)
def test_hostile_recording_is_replayed_or_refused_with_its_line(
    lines: list[tuple[dict[str, Any], str | None, float]], header: str, factor: float
) -> None:
    t = 0.0
    text = header
    for facts, name, pause_s in lines:
        t += pause_s
        text += "\n" + json.dumps(facts | {"t": t} | ({"ev": name} if name else {}))

    refusal = "x.jsonl:"
    polls = {1}
    try:
        sessions = parse_sessions(text, "x.jsonl")
        polls = {run(replay(session, factor=factor)).snapshot.polls for session in sessions}
    except ConfigError as error:
        refusal = str(error)

    assert refusal.startswith("x.jsonl:")
    assert polls == {1}


CHANGES: list[Callable[[bytes], bytes]] = [bytes, lambda data: data[::-1], lambda data: data * 2]


@given(data=st.binary(max_size=200), change=st.sampled_from(CHANGES))
def test_arbitrary_bytes_are_refused_with_a_line(
    data: bytes, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(RecordingError, match=r"x\.jsonl:"):
        parse_sessions(change(data).decode("latin-1"), "x.jsonl")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"t":1,"result":{"reading":[1]}}', "reading: expected an object, got [1]"),
        ('{"t":1,"ev":"failed","errno":99999999999}', "errno: expected 0 to 4095"),
        ('{"t":1,"ev":"failed","errno":-1}', "errno: expected 0 to 4095"),
    ],
)
def test_value_that_no_recorder_writes_is_refused_with_its_line(line: str, complaint: str) -> None:
    with pytest.raises(RecordingError) as refused:
        replay_text(f'{DIRECT}\n{{"t":0,"ev":"open","kind":1}}\n{line}\n')

    assert str(refused.value) == f"x.jsonl:3: {complaint}"


def test_company_with_thousands_of_digits_is_refused_with_its_line() -> None:
    advertisement = json.dumps({"t": 0, "adv": {"maker": {"1" * 5000: ""}}})

    with pytest.raises(RecordingError) as refused:
        replay_text(f"{BLUEZ}\n{advertisement}\n")

    assert str(refused.value) == "x.jsonl:2: maker: expected numbers of companies"
