"""Configurations as people write them wrongly: one sentence each, with place and cure."""

import re
from pathlib import Path
from typing import Final

import pytest

from exporter.config import load
from exporter.config.loader import parse
from exporter.errors import ConfigError

ADDRESS: Final = "address: A4:C1:38:12:34:56"
CAMPER: Final = f"batteries:\n  - name: camper\n    {ADDRESS}\n"
LIKE: Final = "expected a Bluetooth address like A4:C1:38:12:34:56"
INDENT: Final = "the indentation does not match the lines above: align it with them, with spaces"
COLON: Final = "a colon and a blank are missing after the key"
TAB: Final = "a tab: indent with spaces"
SERVE: Final = "the address to serve on is an option of the command: --web.listen-address"
NO_BATTERY: Final = (
    "expected at least one battery: bms-exporter scan finds them and prints this part of the file"
)
EMPTY: Final = (
    "no battery is configured yet: bms-exporter scan finds batteries and prints a configuration, "
    "bms-exporter --config.example prints every option"
)


def one(name: str = "name: camper", address: str = ADDRESS, more: str = "") -> str:
    return f"batteries:\n  - {name}\n    {address}\n{more and f'    {more}'}\n"


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        pytest.param("", 1, EMPTY, id="nothing at all"),
        pytest.param("# batteries:\n", 1, EMPTY, id="comments only"),
        pytest.param(
            f"- name: camper\n  {ADDRESS}\n", 1,
            "expected the line batteries: above the list of batteries", id="batteries: is missing",
        ),
        pytest.param(
            "link: auto\n", 1,
            "batteries: missing: bms-exporter scan finds batteries and prints this part of the "
            "file", id="no battery",
        ),
        pytest.param("batteries:\n", 1, f"batteries: {NO_BATTERY}", id="batteries commented out"),
        pytest.param(
            "batteries:\n  camper: A4:C1:38:12:34:56\n", 1,
            "batteries: expected a list of batteries, each with a dash before its name, got keys "
            "with values", id="no dash",
        ),
        pytest.param(
            "batteries:\n  - camper: A4:C1:38:12:34:56\n", 2,
            "batteries[0]: expected two lines, name: camper and below it address: "
            "A4:C1:38:12:34:56", id="name as a key",
        ),
        pytest.param(
            "batteries:\n  - camper\n", 2,
            "batteries[0]: expected lines like name: camper, got 'camper'", id="a name alone",
        ),
        pytest.param(
            one("name: on"), 2,
            "batteries[0].name: expected a name, and YAML reads on as true or false: put it in "
            'quotes, "on"', id="name: on",
        ),
        pytest.param(
            one("name: 12"), 2,
            "batteries[0].name: expected a name, and YAML reads 12 as a number: put it in quotes, "
            '"12"', id="name: 12",
        ),
        pytest.param(
            one("name:"), 2, "batteries[0].name: expected a name like camper, got nothing",
            id="name:",
        ),
        pytest.param(
            one(address="address:"), 3,
            f"batteries[0].address: {LIKE}, got nothing: bms-exporter scan shows it", id="address:",
        ),
        pytest.param(
            "batteries:\n  - name: camper\n", 2,
            "batteries[0].address: missing: add a line like address: A4:C1:38:12:34:56; "
            "bms-exporter scan shows it", id="no address",
        ),
        pytest.param(
            f"batteries:\n  - {ADDRESS}\n", 2,
            "batteries[0].name: missing: add a line like name: camper", id="no name",
        ),
        pytest.param(
            one(address="address: A4C138123456"), 3,
            f"batteries[0].address: {LIKE}, got 'A4C138123456': did you mean A4:C1:38:12:34:56?",
            id="address without colons",
        ),
        pytest.param(
            one(address="address: 10:20:30:40:50"), 3,
            f"batteries[0].address: {LIKE}, got '10:20:30:40:50': bms-exporter scan shows it",
            id="five pairs, a number to YAML",
        ),
        pytest.param(
            one(address="address: 68753A44-4D6F-1226-9C60-0050E4C00067"), 3,
            f"batteries[0].address: {LIKE}, got '68753A44-4D6F-1226-9C60-0050E4C00067': macOS "
            "shows this in its place; bms-exporter scan shows the address", id="a UUID of macOS",
        ),
        pytest.param(
            one(address=f"adrezz{ADDRESS[7:]}"), 3,
            "batteries[0].adrezz: unknown key, did you mean address?", id="adrezz",
        ),
        pytest.param(
            one(address="mac: A4:C1:38:12:34:56"), 3,
            "batteries[0].mac: unknown key: did you mean address?", id="mac",
        ),
        pytest.param(
            f"batteries:\n  - name: camper\n{ADDRESS}\n", 3,
            "address: unknown key here: it belongs to a battery: indent it as the name of the "
            "battery", id="address not indented",
        ),
        pytest.param(f"batteries:\n  - name: camper\n   {ADDRESS}\n", 3, INDENT, id="one less"),
        pytest.param(f"batteries:\n  - name: camper\n     {ADDRESS}\n", 3, INDENT, id="one more"),
        pytest.param(f"batteries:\n  - name: camper\n  {ADDRESS}\n", 3, INDENT, id="two less"),
        pytest.param(f"{CAMPER} - name: boat\n", 4, INDENT, id="dashes in two columns"),
        pytest.param("batteries:\n\t- name: camper\n", 2, TAB, id="a tab before the dash"),
        pytest.param(f"batteries:\n  - name: camper\n\t{ADDRESS}\n", 3, TAB, id="a tab later"),
        pytest.param(f"batteries:\n  - name camper\n    {ADDRESS}\n", 2, COLON, id="no colon"),
        pytest.param(one(address="address A4:C1:38:12:34:56"), 3, COLON, id="no colon, last line"),
        pytest.param(one("name:camper"), 2, COLON, id="no blank after the colon"),
        pytest.param(
            "batteries:\n  - name:camper\n    address:A4:C1:38:12:34:56\n", 2,
            "batteries[0]: a blank is missing after name:", id="no blank after both colons",
        ),
        pytest.param(
            f"{CAMPER}poll:\n  timeout:20s\n", 4, "poll: a blank is missing after timeout:",
            id="no blank in a section",
        ),
        pytest.param(
            f"{CAMPER}name: boat\n", 4,
            "name: unknown key: write - name: with a dash, below the line batteries:",
            id="a name without a dash",
        ),
        pytest.param(
            f"batteries:\n  -name: camper\n    {ADDRESS}\n", 2, "a blank is missing after the dash",
            id="no blank after the dash",
        ),
        pytest.param(one("name: 'camper"), 2, "this quote is not closed", id="an open quote"),
        pytest.param(
            f"batteries:\n  - {{name: camper, {ADDRESS}\n", 2,
            "this { is not closed, or a comma is missing in it", id="an open brace",
        ),
        pytest.param(
            one("name: @camper"), 2, "a value cannot begin with @: put it in quotes", id="@",
        ),
        pytest.param(
            one("name: camper: left"), 2, "a second colon: put a text that has a colon in quotes",
            id="a colon in a name",
        ),
        pytest.param(
            one("name: camper\n    name: boat"), 3,
            "batteries[0].name: given twice, first in line 2: remove one, or begin the next entry "
            "with a dash", id="a key twice",
        ),
        pytest.param(
            f"{CAMPER}  - name: camper\n    address: A4:C1:38:12:34:57\n", 4,
            "batteries[1].name: 'camper' is used in line 2 already: give each battery "
            "its own", id="a name twice",
        ),
        pytest.param(f"{CAMPER}listen: :12201\n", 4, f"listen: unknown key: {SERVE}", id="listen:"),
        pytest.param(f"{CAMPER}port: 12201\n", 4, f"port: unknown key: {SERVE}", id="port:"),
        pytest.param(
            f"{CAMPER}timeout: 10s\n", 4,
            "timeout: unknown key here: it belongs under poll: indent it there", id="timeout:",
        ),
        pytest.param(
            f"{CAMPER}basic_auth_users: {{joe: secret}}\n", 4,
            "basic_auth_users: unknown key: it belongs in a file of its own, which "
            "--web.config.file names", id="users",
        ),
        pytest.param(
            f"{CAMPER}poll: {{timeout: 30}}\n", 4,
            "poll.timeout: expected a duration with its unit like 10s, 2m or 500ms, got 30",
            id="no unit",
        ),
        pytest.param(
            f"{CAMPER}poll: 30s\n", 4,
            "poll: expected lines like timeout: 30s below it, got '30s'", id="poll: 30s",
        ),
        pytest.param(
            one(more="cells: maybe"), 4,
            "batteries[0].cells: expected true or false, got 'maybe'", id="cells: maybe",
        ),
        pytest.param(
            one(more="password: 123456"), 4,
            "batteries[0].password: unknown key: write it into a file of its own, and the name of "
            "that file as password_file", id="a password in the file",
        ),
        pytest.param(
            one(more="password 123456:"), 4,
            "batteries[0].password (hidden): unknown key: write it into a file of its own, and the "
            "name of that file as password_file", id="a password without its colon",
        ),
        pytest.param(
            one(more="password_file=camper.pin:"), 4,
            "batteries[0].password_file (hidden): a colon and a blank are missing after "
            "password_file", id="a password file without its colon",
        ),
        pytest.param(
            one(more="password_file: none.pin"), 4,
            "batteries[0].password_file: none.pin: there is no such file: write the secret into a "
            "file, and the name of the file here", id="no password file",
        ),
        pytest.param(
            one(more="password_file: hunte2"), 4,
            "batteries[0].password_file: there is no such file: write the secret into a file, and "
            "the name of the file here", id="a password as the name of its file",
        ),
        pytest.param(
            one(more="password_file: ."), 4,
            "batteries[0].password_file: .: it is a folder: name a file", id="a folder",
        ),
        pytest.param(
            one(more="password_env: NOT_SET_PIN"), 4,
            "batteries[0].password_env: this environment variable is not set: set it before the "
            "start", id="no variable",
        ),
        pytest.param(
            one(more="password_env: A\n    password_file: b"), 4,
            "batteries[0].password_env: password_file is given too: remove one of them",
            id="two passwords",
        ),
        pytest.param(
            one(more="passwort: hunter"), 4,
            "batteries[0].passwort: unknown key: write it into a file of its own, and the name of "
            "that file as password_file", id="a password in German",
        ),
        pytest.param(
            one(more="PIN: hunter"), 4,
            "batteries[0].PIN: unknown key: write it into a file of its own, and the name of that "
            "file as password_file", id="a PIN",
        ),
        pytest.param(
            one(more="bank: both"), 4,
            "batteries[0].bank: unknown key: it belongs under banks:, which lists the names of the "
            "batteries of each bank", id="a bank in a battery",
        ),
        pytest.param(
            f"{CAMPER}lo: 40%\ncritical: 30%\n", 4, "lo: unknown key, did you mean low?",
            id="a critical that is not above the unknown low",
        ),
        pytest.param(
            f"{one(more='lo: 40%')}    critical: 30%\n", 4,
            "batteries[0].lo: unknown key, did you mean low?", id="the same of one battery",
        ),
        pytest.param(
            f"{CAMPER}poll: {{min_intervall: 1s, max_age: 5s}}\n", 4,
            "poll.min_intervall: unknown key, did you mean min_interval?",
            id="a max_age that is not below the unknown min_interval",
        ),
        pytest.param(
            f"{CAMPER}poll:\n  min_interval: 5m\n", 5,
            "poll.min_interval: expected at most max_age (2m, the default), got 5m: set "
            "max_age, too", id="a min_interval above the default of max_age",
        ),
        pytest.param(
            f"{one(more='link: garage')}proxy:\n  - {{name: garage, host: a}}\n", 5,
            "proxy: unknown key, did you mean proxies?", id="a link to a proxy under another key",
        ),
        pytest.param(
            f"{CAMPER}proxies:\n  - name: garage\n    address: 192.168.1.40\n", 6,
            "proxies[0].address: unknown key, did you mean host?", id="the address of a proxy",
        ),
        pytest.param(
            f"batteries:\n  - name: camper\n  - {ADDRESS}\n", 3,
            "batteries[1]: the dash begins another battery: put a blank in its place",
            id="a dash before each line",
        ),
        pytest.param(
            f"batteries:\n  - name: camper\n\u00a0\u00a0\u00a0 {ADDRESS}\n", 3,
            r"\xa0\xa0\xa0 address: special characters beside address: delete them, and indent "
            "with blanks", id="the blanks of a web page",
        ),
        pytest.param(
            f"{CAMPER}  - <<: *a\n    name: boat\n    address: A4:C1:38:12:34:57\n".replace(
                "- name", "- &a\n    name", 1
            ), 5,
            "batteries[1].<<: merge keys are not supported: write the keys out", id="a merge key",
        ),
        pytest.param(
            "name          address            RSSI     what it is\n"
            f"MLB-12200-NT  A4:C1:38:00:00:01  -60 dBm  JBD battery: 13.21 V, 93%\n\n{CAMPER}", 1,
            "this is the table of bms-exporter scan: delete the lines above batteries:",
            id="all that scan prints",
        ),
        pytest.param(
            one(more='password_file: "C:\\Users\\pin"'), 4,
            "a backslash in double quotes: use single quotes", id="a path of Windows",
        ),
        pytest.param(
            f"{CAMPER}night: 20:00\n", 4,
            "night: expected start and end like 20:00-06:00, got '20:00'", id="night: 20:00",
        ),
        pytest.param(
            f"{CAMPER}low: 20\n", 4,
            "low: expected a charge with its unit like 60Ah or 30%, got 20", id="low: 20",
        ),
        pytest.param(
            f"{CAMPER}low: 20\ncritical: 30%\n", 4,
            "low: expected a charge with its unit like 60Ah or 30%, got 20",
            id="a wrong low, and a critical above the default of low",
        ),
        pytest.param(
            f"low: 20\n{one(more='critical: 30%')}", 1,
            "low: expected a charge with its unit like 60Ah or 30%, got 20",
            id="a wrong low of all batteries, and a critical of one",
        ),
        pytest.param(
            f"low: 40%\n{one(more='low: 60')}    critical: 50%\n", 5,
            "batteries[0].low: expected a charge with its unit like 60Ah or 30%, got 60",
            id="a wrong low of one battery, and a critical above that of all",
        ),
        pytest.param(
            one(more="low:\n    critical: 50%"), 5,
            "batteries[0].critical: expected at most low (20%, the default), got 50%",
            id="low: of a battery is as if it were not there",
        ),
        pytest.param(
            f"{CAMPER}poll: {{max_age: 5s, min_interval: 30}}\n", 4,
            "poll.min_interval: expected a duration with its unit like 10s, 2m or 500ms, got 30",
            id="a wrong min_interval, and a max_age below its default",
        ),
        pytest.param(
            f"{CAMPER}poll: {{min_interval: 2h}}\n", 4,
            "poll.min_interval: expected 0 to 1h, got 2h",
            id="a min_interval out of its range, which is above max_age",
        ),
        pytest.param(
            f"{CAMPER}proxies:\n  - {{name: a, host: Garage.local, port: 6053}}\n"
            "  - {name: b, host: garage.local}\n", 6,
            "proxies[1].host: 'garage.local' is used in line 5 already: one proxy serves any "
            "number of batteries", id="two proxies at one host",
        ),
        pytest.param(
            f"{CAMPER}proxies:\n  - name: garage\n    host: 192.168.1.40:6053\n", 6,
            "proxies[0].host: expected a host alone, got '192.168.1.40:6053': the port has its own "
            "key, port", id="a host with its port",
        ),
        pytest.param(
            f"{CAMPER}banks:\n  - name: both\n    batteries: [camper]\n", 5,
            "banks[0].wiring: missing: add wiring: parallel, or wiring: series", id="no wiring",
        ),
        pytest.param(
            f"{CAMPER}banks:\n  - name: both\n    batteries: [boat]\n    wiring: series\n", 6,
            "banks[0].batteries[0]: no battery is named 'boat': expected one of camper", id="boat",
        ),
        pytest.param(
            f"{one('names: camper')}banks:\n  - {{name: a, batteries: [camper], wiring: series}}\n",
            2,
            "batteries[0].names: unknown key, did you mean name?", id="a wrong battery in a bank",
        ),
        pytest.param(
            "batteries:\n  - camper: A4:C1:38:12:34:56\n"
            "banks:\n  - {name: a, batteries: [camper], wiring: series}\n", 2,
            "batteries[0]: expected two lines, name: camper and below it address: "
            "A4:C1:38:12:34:56", id="a short battery in a bank",
        ),
        pytest.param(
            "batteries:\n  camper: A4:C1:38:12:34:56\n"
            "banks:\n  - {name: a, batteries: [camper], wiring: series}\n", 1,
            "batteries: expected a list of batteries, each with a dash before its name, got keys "
            "with values", id="batteries without dashes in a bank",
        ),
        pytest.param(
            f"{one(more='link: garage')}proxies:\n  - {{names: garage, host: a}}\n", 6,
            "proxies[0].names: unknown key, did you mean name?", id="a link to a wrong proxy",
        ),
        pytest.param(
            f"{one(more='link: garage')}proxies:\n  garage: 192.168.1.40\n", 5,
            "proxies: expected a list of proxies, each with a dash before its name, got keys with "
            "values", id="a link to proxies without dashes",
        ),
        pytest.param(
            f"{one(more='link: garden')}proxies:\n  - {{name: garage, host: a}}\n", 4,
            "batteries[0].link: expected one of auto, direct, bluez, garage, got 'garden'",
            id="a link to no proxy",
        ),
        pytest.param(
            one(more="temperatures: cells"), 4,
            "batteries[0].temperatures: expected a list of names, like [one, two], got 'cells'",
            id="one sensor",
        ),
        pytest.param(
            f"{CAMPER}---\n{CAMPER}", 4, "a second document begins here: remove the line ---",
            id="two files in one",
        ),
        pytest.param(
            one(more='password_file: "C:\\pin"'), 4,
            "a backslash in double quotes: use single quotes", id="a backslash",
        ),
        pytest.param("batteries: \x07\n", 1, "a control character: delete it", id="a bell"),
        pytest.param("batteries: !<\n", 1, "this is not YAML: check the indentation, the colons "
                     "and the quotes", id="anything else"),
    ],
)  # fmt: skip
def test_wrong_configuration_gets_one_sentence_with_place_and_cure(
    text: str, line: int, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        load(Path("mine.yaml"))

    assert caught.value.problems == (f"mine.yaml:{line}: {complaint}",)


@pytest.mark.parametrize("key", ["password", "Password", "pin", "password_file", "password_env"])
@pytest.mark.parametrize(
    "line",
    [
        "{} 123456:", "{}123456:", "{}:123456:", "{}=123456:", "{}: {{123456: a, 123456: b}}",
        '"{}: 123456":', "? {} 123456", "{} 123456: a\n    {} 123456: b",
    ],
)  # fmt: skip
def test_secret_in_a_key_is_not_repeated(key: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(one(more=line.format(key, key)))

    assert "123456" not in str(caught.value)
    assert all(re.search(r"^config.yaml:[45]: .*: ", problem) for problem in caught.value.problems)


@pytest.mark.parametrize("text", ["- password 123456", "- pin=123456", "key:123456", "key 123456"])
def test_secret_that_is_no_key_is_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"batteries:\n  {text}\n")

    assert "123456" not in str(caught.value)
