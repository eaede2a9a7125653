"""Write the dashboards: scripts/dashboards.py FOLDER (`make docs` writes grafana/dashboards)."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

OF: Final = '{job=~"$job", instance=~"$instance", vehicle=~"$vehicle", battery=~"$battery"}'
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
# Green: enough, or charging. Blue: discharging. Orange and red: act soon, act now. Charts of
# measurements take Grafana's palette in order: the n-th battery has the same colour in all of them.
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
# Grafana's own units would turn 0.6 A into 600 mA.
AMPERES, AH, VOLTS, WATTS, WH = (f"suffix:{unit}" for unit in ("A", "Ah", "V", "W", "Wh"))
HOUR_MS: Final = 3_600_000
DURATION: Final = "dtdurations"  # "s" would say "1 mins"
WIDE: Final = 24  # columns of Grafana's grid

POWER = f"bms_voltage_volts{OF} * bms_current_amperes{OF}"
MEAN_A = f"avg_over_time(bms_current_amperes{OF}[30m])"
# The rule of docs/metrics.md, Time to empty and to full.
EMPTY_S = (
    f"3600 * bms_remaining_capacity_amperehours{OF} / -({MEAN_A} <= -0.05) <= 2592000"
    f" unless bms_current_amperes{OF} > 0"
)
# Local hours, from the metrics of each exporter.
EXPORTERS: Final = '{job=~"$job", instance=~"$instance", vehicle=~"$vehicle"}'
HERE: Final = "on (job, instance, vehicle)"
LOCAL = f"(time() + bms_exporter_utc_offset_seconds{EXPORTERS})"
NIGHT_START, NIGHT_END, MORNING = (
    f"bms_exporter_{name}_seconds{EXPORTERS}"
    for name in ("night_start", "night_end", "next_morning_timestamp")
)
BY_NIGHT = f"({LOCAL} - {NIGHT_START}) % 86400 < (86400 + {NIGHT_END} - {NIGHT_START}) % 86400"
# Before the night begins, only the hours from its start on count.
UNTIL_MORNING_S = (
    f"({MORNING} - time() - (86400 + {NIGHT_START} - {LOCAL} % 86400) % 86400 > 0"
    f" or {MORNING} - time())"
)
# Each minute adds the increase of five minutes.
NIGHT_WH = (
    f"sum_over_time((increase(bms_discharged_watthours_total{OF}[5m])"
    f" and {HERE} {BY_NIGHT})[24h:1m]) / 5"
)
SPREAD = f"max without (cell) (bms_cell_voltage_volts{OF}) - min without (cell) (bms_cell_voltage_volts{OF})"
PER_POLL = f"rate(bms_polls_total{OF}[$__rate_interval])"
TOO_FEW: Final = "Not enough polls yet"


# Banks and batteries in one result: the series of a bank have the label `bank`, those of a battery `battery`.
# A battery is left out while the totals of its bank exist.
BANKS = f"and on (job, instance, vehicle, bank) bms_bank_member{OF}"
IN_BANK = (
    f"on (job, instance, vehicle, battery) (bms_bank_member{OF} * on (job, instance, vehicle, bank)"
    f" group_left () bms_bank_remaining_capacity_amperehours{EXPORTERS})"
)


def total(quantity: str, *, over: str = "") -> str:
    """Return the quantity of each bank, and of each battery in no bank; `over`: its mean of that time."""
    bank, battery = f"bms_bank_{quantity}{EXPORTERS}", f"bms_{quantity}{OF}"
    if over:
        bank, battery = f"avg_over_time({bank}[{over}])", f"avg_over_time({battery}[{over}])"
    return f"({bank} {BANKS} or {battery} unless {IN_BANK})"


REMAINING_AH, NOMINAL_AH, CURRENT_A, VOLTAGE_V = (
    total(quantity)
    for quantity in ("remaining_capacity_amperehours", "nominal_capacity_amperehours", "current_amperes", "voltage_volts")
)  # fmt: skip


def threshold(name: str) -> str:
    """Return a threshold in Ah; of a bank, that of its batteries as a ratio of their capacities."""
    own = f"bms_{name}_threshold_amperehours{OF}"
    member = f"on (job, instance, vehicle, battery) group_left (bank) bms_bank_member{OF}"
    of_bank = [
        f"sum by (job, instance, vehicle, bank) ({one} * {member})"
        for one in (own, f"bms_nominal_capacity_amperehours{OF}")
    ]
    bank = f"bms_bank_nominal_capacity_amperehours{EXPORTERS}"
    return f"({bank} * {' / '.join(of_bank)} or {own})"


LOW_AH, CRITICAL_AH = threshold("low"), threshold("critical")
MEAN_OF_TOTAL_A = total("current_amperes", over="30m")
TOTAL_EMPTY_S = (
    f"(3600 * {REMAINING_AH} / -({MEAN_OF_TOTAL_A} <= -0.05) <= 2592000 unless {CURRENT_A} > 0)"
)
TOTAL_FULL_S = (
    f"(3600 * (({total('full_capacity_amperehours')} > 0 or {NOMINAL_AH}) - {REMAINING_AH} >= 0) / ({MEAN_OF_TOTAL_A} >= 0.05) <= 2592000"
    f" unless {total('state_of_charge_ratio')} >= 1 unless {CURRENT_A} < 0)"
)
NIGHT_OF_TOTAL_A = (
    f"avg_over_time((clamp_min(-(bms_bank_current_amperes{EXPORTERS} or bms_current_amperes{OF}), 0)"
    f" and {HERE} {BY_NIGHT})[24h:5m])"
)
MORNING_AH = f"clamp_min({REMAINING_AH} - {NIGHT_OF_TOTAL_A} * {HERE} group_left () {UNTIL_MORNING_S} / 3600, 0)"


def of_each_day(counter: str) -> str:
    """Return the increase from each local midnight to the next: one point a day, at its beginning."""
    here = f"bms_exporter_utc_offset_seconds{EXPORTERS}"
    # Clocks that go forward make the day an hour shorter; back, an hour longer.
    short = f"increase({counter}{OF}[23h] offset -23h) and {HERE} ({here} offset -23h > {here})"
    long = f"increase({counter}{OF}[25h] offset -25h) and {HERE} ({here} offset -24h < {here})"
    usual = f"increase({counter}{OF}[24h] offset -24h)"
    return f"({short} or {long} or {usual}) and {HERE} {LOCAL} % 86400 < 900"


EACH: Final = "on (job, instance, vehicle, bank, battery)"


def with_text(expr: str, label: str, value: str) -> str:
    """Return the result of `expr` with a value in a label, for a legend."""
    by = EACH.replace("on", "by", 1)
    return f'({expr}) * {EACH} group_left ({label}) count_values {by} ("{label}", {value})'


PROBLEMS: Final = {
    "cell_overvoltage": "cell voltage too high, charging is blocked",
    "cell_undervoltage": "cell voltage too low, the output is blocked",
    "pack_overvoltage": "battery voltage too high, charging is blocked",
    "pack_undervoltage": "battery voltage too low, the output is blocked",
    "charge_overtemperature": "too hot, charging is blocked",
    "charge_undertemperature": "too cold, charging is blocked",
    "discharge_overtemperature": "too hot, the output is blocked",
    "discharge_undertemperature": "too cold, the output is blocked",
    "charge_overcurrent": "charging current too high, charging is blocked",
    "discharge_overcurrent": "too much current drawn, the output is blocked",
    "short_circuit": "short circuit, the output is blocked",
    "frontend_ic_error": "the BMS has a fault (measuring chip)",
    "mosfet_software_lock": "charging and output are locked by software",
    "bit1[345]": "the BMS reports a fault of its own",
}


# Winter and a full battery cause these: orange, as on the page. Every other protection is red.
USUAL: Final = "charge_(under|over)temperature|(cell|pack)_overvoltage"


def protections(*, usual: bool) -> str:
    """Return the selector of some protections of the selected batteries."""
    match = "=~" if usual else "!~"
    labels = OF.replace("{", f'{{protection{match}"{USUAL}", ')
    return f"bms_protection_active{labels}"


def in_words(*, usual: bool) -> str:
    """Return the active protections among some, with a label `problem` in words."""
    expr = f"{protections(usual=usual)} == 1"
    for name, words in PROBLEMS.items():
        expr = f'label_replace({expr}, "problem", "{words}", "protection", "{name}")'
    return expr


def levels(base: str, *steps: tuple[float, str]) -> Json:
    """Return thresholds: the colour below all steps, and the colour from each value on."""
    shown = [{"color": base, "value": None}]
    return {
        "mode": "absolute",
        "steps": [*shown, *({"color": color, "value": value} for value, color in steps)],
    }


def grey_below(least: float, thresholds: Json) -> Json:
    """Return the thresholds with no colour for a value that is missing."""
    first, *others = thresholds["steps"]
    return levels(GREY) | {"steps": [*levels(GREY)["steps"], first | {"value": least}, *others]}


# Four cells: full at rest 13.6 V; 12.8 V about 20 %; below 12 V the BMS is about to switch off.
CELL: Final = levels(RED, (2.8, ORANGE), (3.0, GREEN), (3.55, ORANGE), (3.65, RED))
# Charging below 0 degrees plates lithium; 5 is the warning. Above 45 cells age fast.
TEMPERATURE: Final = levels(RED, (0, ORANGE), (5, GREEN), (45, ORANGE), (55, RED))
SPREAD_LEVELS: Final = levels(GREEN, (0.05, ORANGE), (0.1, RED))
AGE: Final = levels(GREEN, (180, ORANGE), (900, RED))


# Only the last step of a range: `lastNotNull` would show a value of an hour ago as current. (Instant
# queries are no alternative: they lose their labels in some panels.)
NOW: Final = "and on () (vector(time()) > (${__to} - ${__interval_ms}) / 1000)"


def query(expr: str, legend: str = "{{battery}}", *, now: bool = False) -> Json:
    """Return one target; with `now`, only its value at the end of the range."""
    return {
        "expr": f"({expr}) {NOW}" if now else expr,
        "legendFormat": legend,
        "range": True,
        "datasource": SOURCE,
    }


class Board:
    """Places panels from left to right and from top to bottom."""

    def __init__(self) -> None:
        self.panels: list[Json] = []
        self._x = self._y = self._height = 0

    def row(self, title: str) -> None:
        """Start a section with a title."""
        self._next_line()
        self._put({"type": "row", "title": title, "collapsed": False, "panels": []}, WIDE, 1)

    def panel(  # noqa: PLR0913 - what a panel has
        self,
        kind: str,
        title: str,
        about: str,
        unit: str,
        queries: Sequence[Json],
        *,
        size: tuple[int, int],
        defaults: Json | None = None,
        overrides: Sequence[Json] = (),
        options: Json | None = None,
        no_value: str = "No data: is the exporter scraped?",
        **more: Any,
    ) -> None:
        """Add one panel; `size` is its width and height in columns and rows of the grid."""
        custom = (
            {"custom": LINES | (defaults or {}).pop("custom", {})} if kind == "timeseries" else {}
        )
        if kind == "state-timeline":
            custom = {"custom": {"fillOpacity": 80, "lineWidth": 0}}
        self._put(
            {
                "type": kind,
                "title": title,
                "description": about,
                "datasource": SOURCE,
                "targets": [
                    {"refId": chr(ord("A") + n), **target} for n, target in enumerate(queries)
                ],
                "fieldConfig": {
                    "defaults": {
                        "unit": unit,
                        "noValue": no_value,
                        "color": {"mode": COLOR[kind]},
                        "thresholds": levels(GREEN),
                        **custom,
                        **(defaults or {}),
                    },
                    "overrides": list(overrides),
                },
                "options": OPTIONS[kind] | (options or {}),
                **({"timeFrom": "5m", "hideTimeOverride": True} if kind in OF_NOW else {}),
                **more,
            },
            *size,
        )

    def _put(self, panel: Json, width: int, height: int) -> None:
        if self._x + width > WIDE:
            self._next_line()
        place = {"x": self._x, "y": self._y, "w": width, "h": height}
        self.panels.append({"id": len(self.panels) + 1, **panel, "gridPos": place})
        self._x += width
        self._height = max(self._height, height)

    def _next_line(self) -> None:
        self._y += self._height
        self._x = self._height = 0


LINES: Final[Json] = {
    "drawStyle": "line",
    "lineWidth": 2,
    "fillOpacity": 0,
    "showPoints": "never",
    "spanNulls": False,  # a gap is a gap
}
BARS: Final = {
    "drawStyle": "bars",
    "fillOpacity": 60,
    "lineWidth": 1,
    "stacking": {"mode": "normal", "group": "A"},
}
LEGEND: Final = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
COLOR: Final = {
    "stat": "thresholds",
    "timeseries": "palette-classic",
    "bargauge": "thresholds",
    "state-timeline": "thresholds",
    "table": "thresholds",
}
OF_NOW: Final = ("stat", "table", "bargauge")  # short steps, whatever the dashboard's range is
TEXT: Final = {"titleSize": 16, "valueSize": 28}  # the same for each battery
LAST: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: Final[Mapping[str, Json]] = {
    "stat": {
        "reduceOptions": LAST,
        "orientation": "horizontal",  # one battery a line
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
        "justifyMode": "auto",
    },
    "bargauge": {
        "reduceOptions": LAST,
        "orientation": "horizontal",
        "displayMode": "gradient",
        "showUnfilled": True,
        "namePlacement": "top",
        "text": TEXT,
        "minVizHeight": 24,
    },
    "timeseries": {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "none"}},
    "state-timeline": {
        "legend": LEGEND,
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "table": {"showHeader": True, "cellHeight": "md"},
}


def colored(ref: str, color: str) -> Json:
    """Return an override that colours the series of one query."""
    return {
        "matcher": {"id": "byFrameRefID", "options": ref},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
    }


def shades(ref: str, color: str) -> Json:
    """Return an override that gives the series of one query shades of a colour."""
    return {
        "matcher": {"id": "byFrameRefID", "options": ref},
        "properties": [{"id": "color", "value": {"mode": "shades", "fixedColor": color}}],
    }


def clock(ref: str) -> Json:
    """Return an override that shows the timestamps of one query, in ms, as time of day."""
    override = colored(ref, GREY)
    override["properties"].append({"id": "unit", "value": "time:HH:mm"})
    return override


def limit(unit: str, protection: str, legend: str, *, below_zero: bool = False) -> Json:
    """Return the query of a limit that the BMS itself has; no result without its settings."""
    labels = OF.replace("{", f'{{protection="{protection}", ')
    sign = "-" if below_zero else ""
    return query(f"{sign}bms_protection_threshold_{unit}{labels}", f"{{{{battery}}}} {legend}")


def limit_line(ref: str, color: str = RED) -> Json:
    """Return an override that draws the series of one query as a thin dashed line."""
    override = colored(ref, color)
    override["properties"] += [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
        {"id": "custom.lineWidth", "value": 1},
        {"id": "custom.fillOpacity", "value": 0},
    ]
    return override


def states(*meanings: tuple[str, str]) -> list[Json]:
    """Return the mappings that name and colour the values 0, 1, ..."""
    return [
        {
            "type": "value",
            "options": {
                str(n): {"text": text, "color": color, "index": n}
                for n, (text, color) in enumerate(meanings)
            },
        }
    ]


ON_OFF: Final = {"min": 0, "max": 1, "mappings": states(("off", GREY), ("on", GREEN))}


NAME: Final = "{{bank}}{{battery}}"


def _answers(board: Board) -> None:
    """Place what an owner asks first: until morning, how much, how long, what is wrong."""
    board.panel(
        "stat",
        "Enough until morning?",
        "What is left in the morning if tonight is like last night: remaining Ah minus the mean night current until then. Green: yes. Orange: yes, but then the battery is low. Red: no. A bank stands for its batteries. Morning, night and thresholds are those of the exporter's configuration.",
        AH,
        [
            query(f"{MORNING_AH} >= {LOW_AH}", f"{NAME}: yes, with", now=True),
            query(f"{MORNING_AH} >= {CRITICAL_AH} < {LOW_AH}", f"{NAME}: just, with", now=True),
            query(f"{MORNING_AH} < {CRITICAL_AH}", f"{NAME}: no, with", now=True),
        ],
        size=(6, 8),
        defaults={"decimals": 0, "thresholds": levels(GREY)},
        overrides=[colored("A", GREEN), colored("B", ORANGE), colored("C", RED)],
        options={"textMode": "value_and_name", "text": TEXT},
        no_value="Not known before the first night",
    )
    left = with_text(
        with_text(f"{REMAINING_AH} / ({NOMINAL_AH} > 0)", "left", f"round({REMAINING_AH})"),
        "nominal",
        f"round({NOMINAL_AH})",
    )
    legend = f"{NAME}: {{{{left}}}} of {{{{nominal}}}} Ah"
    board.panel(
        "bargauge",
        "Remaining",
        "Ampere-hours left of the nominal capacity, as the BMS counts them. Orange below the threshold for low, red below that for critical.",
        "percentunit",
        [
            query(f"{left} and {EACH} {REMAINING_AH} >= {LOW_AH}", legend, now=True),
            query(
                f"{left} and {EACH} ({REMAINING_AH} < {LOW_AH} >= {CRITICAL_AH})", legend, now=True
            ),
            query(f"{left} and {EACH} {REMAINING_AH} < {CRITICAL_AH}", legend, now=True),
        ],
        size=(6, 8),
        defaults={"decimals": 0, "min": 0, "max": 1, "thresholds": levels(GREY)},
        overrides=[colored("A", GREEN), colored("B", ORANGE), colored("C", RED)],
        no_value="Not reached",
    )
    board.panel(
        "stat",
        "Empty or full",
        "When the battery is empty or full at the mean current of the past half hour. Red below 4 hours to empty, orange below 12. At rest there is no such time.",
        "s",
        [
            query(TOTAL_EMPTY_S, f"{NAME}: empty in", now=True),
            query(f"1000 * (time() + ({TOTAL_EMPTY_S} < 86400))", f"{NAME}: empty about", now=True),
            query(TOTAL_FULL_S, f"{NAME}: full in", now=True),
            query(f"1000 * (time() + ({TOTAL_FULL_S} < 86400))", f"{NAME}: full about", now=True),
        ],
        size=(6, 8),
        defaults={
            "decimals": 1,
            "thresholds": levels(GREY, (0, RED), (4 * 3600, ORANGE), (12 * 3600, GREEN)),
        },
        overrides=[clock("B"), colored("C", GREEN), clock("D")],
        options={"textMode": "value_and_name", "text": TEXT},
        no_value="Neither charged nor discharged, full, or not reached",
    )
    board.panel(
        "stat",
        "What is wrong",
        "Batteries that are blocked by their BMS, low or not reached, and banks that are charged unequally or without all their batteries.",
        "none",
        [
            query(in_words(usual=False), "{{battery}}: {{problem}}", now=True),
            query(
                f"bms_remaining_capacity_amperehours{OF} < bms_critical_threshold_amperehours{OF}",
                "{{battery}}: nearly empty, charge now",
                now=True,
            ),
            query(in_words(usual=True), "{{battery}}: {{problem}}", now=True),
            query(
                f"bms_remaining_capacity_amperehours{OF} < bms_low_threshold_amperehours{OF} >= bms_critical_threshold_amperehours{OF}",
                "{{battery}}: low",
                now=True,
            ),
            query(
                f"bms_up{OF} == 0 unless bms_paused{OF} == 1",
                "{{battery}}: not reached",
                now=True,
            ),
            query(f"bms_paused{OF} == 1", "{{battery}}: left to the phone app", now=True),
            query(
                f"bms_bank_batteries_read{EXPORTERS} < bms_bank_batteries{EXPORTERS} {BANKS}",
                "{{bank}}: not all batteries are read",
                now=True,
            ),
            query(
                f"bms_bank_state_of_charge_difference_ratio{EXPORTERS} > 0.1 {BANKS}",
                "{{bank}}: its batteries are charged unequally",
                now=True,
            ),
            query(f"absent(bms_polls_total{OF})", "no data: is the exporter scraped?", now=True),
        ],
        size=(6, 8),
        overrides=[
            *(colored(ref, RED) for ref in "AB"),
            *(colored(ref, ORANGE) for ref in "CDEGHI"),
            colored("F", GREY),
        ],
        options={"textMode": "name", "text": {"valueSize": 18}},  # else lines overlap if it is wide
        no_value="Nothing",
        defaults={"color": {"mode": "thresholds"}, "thresholds": levels(GREEN)},
    )


def _now(board: Board) -> None:
    """Place the numbers of this moment."""
    power = f"({VOLTAGE_V} * {CURRENT_A})"
    for title, unit, expr, idle, decimals in (
        ("Current", AMPERES, CURRENT_A, 0.05, 1),
        ("Power", WATTS, power, 0.5, 0),
    ):
        board.panel(
            "stat",
            title,
            "Green while charging, blue while discharging.",
            unit,
            [
                query(f"{expr} > {idle}", f"{NAME} charging", now=True),
                query(f"-{expr} > {idle}", f"{NAME} discharging", now=True),
                query(f"0 * (abs{expr} <= {idle})", f"{NAME} at rest", now=True),
            ],
            size=(6, 6),
            defaults={"decimals": decimals, "thresholds": levels(GREY)},
            overrides=[colored("A", GREEN), colored("B", BLUE), colored("C", GREY)],
            options={"textMode": "value_and_name", "text": TEXT},
            no_value="Not reached",
        )
    board.panel(
        "stat",
        "Voltage",
        "The voltage of the whole battery. LiFePO4 is flat: between 20 and 90 % a 12 V battery always shows 13.0 to 13.3 V.",
        VOLTS,
        [query(VOLTAGE_V, NAME, now=True)],
        size=(6, 6),
        defaults={"decimals": 2, "thresholds": levels(GREY)},
        options={"text": TEXT},
        no_value="Not reached",
    )
    board.panel(
        "stat",
        "Age of the last reading",
        "Time since the battery was last read. Orange after 3 minutes, red after 15.",
        DURATION,
        [
            query(
                f"floor(time() - last_over_time(bms_last_poll_success_timestamp_seconds{OF}[1d]))",
                now=True,
            )
        ],
        size=(6, 6),
        defaults={"decimals": 0, "thresholds": AGE},
        options={"text": {"titleSize": 16, "valueSize": 20}},
        no_value="Never read yet",
    )


def _day(board: Board, ah: str, rsoc: str) -> None:
    """Place charge and energy over time."""
    board.row("The day")
    board.panel(
        "timeseries",
        "Remaining capacity",
        "Ampere-hours left. In a gap the battery was not reached. The dashed lines are the thresholds for low and critical.",
        AH,
        [
            query(ah),
            query(f"bms_low_threshold_amperehours{OF}", "{{battery}} low"),
            query(f"bms_critical_threshold_amperehours{OF}", "{{battery}} critical"),
        ],
        size=(12, 8),
        defaults={"min": 0, "decimals": 0},
        overrides=[limit_line("B", ORANGE), limit_line("C")],
    )
    board.panel(
        "timeseries",
        "State of charge",
        "As the BMS reports it.",
        "percentunit",
        [query(rsoc)],
        size=(12, 8),
        defaults={"min": 0, "max": 1, "decimals": 0},
    )
    for title, unit, expr, step in (
        ("Current", AMPERES, f"bms_current_amperes{OF}", 1),
        ("Power", WATTS, f"({POWER})", 10),
    ):
        board.panel(
            "timeseries",
            title,
            "Green and above zero while charging, blue and below zero while discharging. Each line up is ten times as much, so that a small load is readable beside a coffee machine.",
            unit,
            [
                query(f"clamp_min({expr}, 0)", "{{battery}} charging"),
                query(f"clamp_max({expr}, 0)", "{{battery}} discharging"),
            ],
            size=(12, 8),
            defaults={
                "decimals": 0,
                "custom": {
                    "axisCenteredZero": True,
                    "fillOpacity": 25,
                    "lineWidth": 1,
                    "scaleDistribution": {"type": "symlog", "log": 10, "linearThreshold": step},
                },
            },
            overrides=[shades("A", GREEN), shades("B", BLUE)],
        )
    board.panel(
        "timeseries",
        "Energy of the last seven days and today",
        "From midnight to midnight, local time of the exporter: charged above zero, discharged below. The last bar is today so far. Gaps longer than max_age add nothing.",
        WH,
        [
            query(of_each_day("bms_charged_watthours_total"), "{{battery}} charged"),
            query(f"-({of_each_day('bms_discharged_watthours_total')})", "{{battery}} discharged"),
        ],
        size=(12, 8),
        # Grafana inserts nulls after each step of 15 minutes, which is then the width of a bar.
        defaults={"decimals": 0, "custom": BARS | {"barAlignment": 1, "insertNulls": 25 * HOUR_MS}},
        overrides=[shades("A", GREEN), shades("B", BLUE)],
        no_value="No midnight has passed yet",
        interval="15m",
        maxDataPoints=800,
        timeFrom="8d",
    )
    board.panel(
        "timeseries",
        "Night consumption",
        "Discharged in the night hours of the 24 hours before each point. The exporter's configuration says when the night is.",
        WH,
        [query(NIGHT_WH)],
        size=(12, 8),
        defaults={"min": 0, "decimals": 0, "custom": BARS},
        overrides=[shades("A", BLUE)],
        no_value="No night has passed yet",
        interval="1h",
    )


def camper() -> Json:
    """Return the dashboard of the battery in the camper."""
    board = Board()
    ah = f"bms_remaining_capacity_amperehours{OF}"
    rsoc = f"bms_state_of_charge_ratio{OF}"
    _answers(board)
    _now(board)
    _day(board, ah, rsoc)

    board.row("The pack")
    board.panel(
        "timeseries",
        "Cell voltages",
        "Lines at 2.8 V (nearly empty), at 3.65 V (the end of charging), and at the limits of the BMS where its settings are known.",
        VOLTS,
        [
            query(f"bms_cell_voltage_volts{OF}", "{{battery}} {{cell}}"),
            limit("volts", "cell_undervoltage", "discharging stops"),
            limit("volts", "cell_overvoltage", "charging stops"),
        ],
        size=(12, 8),
        overrides=[limit_line("B"), limit_line("C")],
        defaults={
            "decimals": 3,
            "thresholds": CELL,
            "custom": {"thresholdsStyle": {"mode": "dashed"}, "fillOpacity": 0, "lineWidth": 1},
        },
    )
    board.panel(
        "timeseries",
        "Spread of the cells",
        "Highest minus lowest cell. Above 0.1 V at rest, the imbalance costs capacity.",
        VOLTS,
        [query(SPREAD)],
        size=(12, 8),
        defaults={
            "decimals": 3,
            "min": 0,
            "thresholds": SPREAD_LEVELS,
            "custom": {"thresholdsStyle": {"mode": "dashed"}},
        },
    )
    board.panel(
        "timeseries",
        "Temperatures",
        "Lines at 0 degrees, below which LiFePO4 must not be charged, at 5, where it should be heated, and at the limits of the BMS where its settings are known. Sockets without a sensor are not shown.",
        "celsius",
        [
            query(f"bms_temperature_celsius{OF} > -29", "{{battery}} {{sensor}}"),
            limit("celsius", "charge_undertemperature", "charging stops below"),
            limit("celsius", "charge_overtemperature", "charging stops above"),
        ],
        size=(12, 8),
        overrides=[limit_line("B"), limit_line("C")],
        defaults={
            "decimals": 1,
            "thresholds": TEMPERATURE,
            "custom": {"thresholdsStyle": {"mode": "dashed"}, "fillOpacity": 0},
        },
    )
    board.panel(
        "timeseries",
        "Current and its limits",
        "Above zero the battery is charged, below zero discharged. At the lines the BMS switches off.",
        AMPERES,
        [
            query(
                f"bms_current_amperes{OF} and on (job, instance, vehicle, battery) bms_protection_threshold_amperes{OF}"
            ),
            limit("amperes", "discharge_overcurrent", "discharging stops", below_zero=True),
            limit("amperes", "charge_overcurrent", "charging stops"),
        ],
        size=(12, 8),
        defaults={"decimals": 1, "custom": {"axisCenteredZero": True, "fillOpacity": 0}},
        overrides=[limit_line("B"), limit_line("C")],
        no_value="The limits are not known: they need settings: daily of the battery",
    )
    board.panel(
        "state-timeline",
        "Balancing",
        "Cells that the BMS is discharging to level the pack.",
        "none",
        [query(f"bms_cell_balancing{OF}", "{{battery}} {{cell}}")],
        size=(8, 8),
        defaults={"min": 0, "max": 1, "mappings": states(("idle", GREY), ("balancing", BLUE))},
    )
    board.panel(
        "state-timeline",
        "MOSFETs and heater",
        "Whether the battery can be charged and discharged, and whether its heater is on.",
        "none",
        [
            query(f"bms_charge_mosfet_on{OF}", "{{battery}} charge"),
            query(f"bms_discharge_mosfet_on{OF}", "{{battery}} discharge"),
            query(f"bms_heater_on{OF}", "{{battery}} heater"),
        ],
        size=(8, 8),
        defaults=ON_OFF,
    )
    board.panel(
        "state-timeline",
        "Protections",
        "Protections that were active in this time.",
        "none",
        [
            query(
                f"max_over_time(bms_protection_active{OF}[$__rate_interval]) and max_over_time(bms_protection_active{OF}[$__range]) == 1",
                "{{battery}} {{protection}}",
            )
        ],
        size=(8, 8),
        defaults={"min": 0, "max": 1, "mappings": states(("-", GREY), ("active", RED))},
        no_value="None was active in this time",
    )

    board.row("The link")
    board.panel(
        "state-timeline",
        "Reached",
        "Whether the last poll of the battery succeeded. In a gap, no poll has finished since the exporter started.",
        "none",
        [query(f"bms_up{OF}")],
        size=(12, 6),
        defaults={
            "min": 0,
            "max": 1,
            "mappings": states(("not reached", ORANGE), ("reached", GREEN)),
        },
    )
    board.panel(
        "timeseries",
        "Failed polls per hour",
        "By reason. not_found means away, switched off, or connected to the phone app.",
        "none",
        [
            query(
                f"3600 * rate(bms_poll_failures_total{OF}[$__rate_interval]) > 0",
                "{{battery}} {{reason}}",
            )
        ],
        size=(12, 6),
        defaults={
            "min": 0,
            "decimals": 1,
            "custom": BARS,
        },
        no_value="No poll has failed in this time",
    )
    board.panel(
        "state-timeline",
        "Route",
        "How the battery was reached: over the kernel (direct) or bluetoothd (bluez), fast or gently, and over which adapter. "
        "A new line is a change of route; the exporter's log says why.",
        "none",
        [query(f"bms_route_info{OF}", "{{battery}} {{transport}} {{style}} {{adapter}}")],
        size=(24, 5),
        defaults={"mappings": states(("", GREY), ("used", GREEN))},
        no_value="No connection in this time",
    )
    board.panel(
        "timeseries",
        "Duration of a poll",
        "From the start of looking for the battery to its reading.",
        "s",
        [query(f"bms_poll_duration_seconds{OF}")],
        size=(8, 7),
        defaults={"min": 0},
    )
    board.panel(
        "timeseries",
        "Held per poll",
        "How long each poll held the connection, which keeps the phone app out.",
        "s",
        [
            query(
                f"rate(bms_connection_held_seconds_total{OF}[$__rate_interval]) / ({PER_POLL} > 0)"
            )
        ],
        size=(8, 7),
        defaults={"min": 0},
        no_value=TOO_FEW,
    )
    board.panel(
        "timeseries",
        "Requests sent again, per poll",
        "One is usual for a BMS that sleeps; more means a weak link.",
        "none",
        [query(f"rate(bms_request_resends_total{OF}[$__rate_interval]) / ({PER_POLL} > 0)")],
        size=(8, 7),
        defaults={"min": 0, "decimals": 1},
        no_value=TOO_FEW,
    )
    board.panel(
        "timeseries",
        "Signal strength",
        "RSSI of the last advertisement. Below -90 dBm polls start to fail.",
        "dBm",
        [query(f"bms_rssi_dbm{OF}")],
        size=(12, 7),
        defaults={
            "thresholds": levels(RED, (-90, ORANGE), (-80, GREEN)),
            "custom": {"thresholdsStyle": {"mode": "dashed"}, "fillOpacity": 0},
        },
        no_value="The direct link measures none: see management.rssi in config.example.yaml",
    )
    board.panel(
        "timeseries",
        "Readings that coalescing saved",
        "Scrapes per hour that shared a poll which another scrape had started.",
        "none",
        [query(f"3600 * rate(bms_readings_coalesced_total{OF}[$__rate_interval])")],
        size=(12, 7),
        defaults={"min": 0, "decimals": 1},
    )
    return dashboard(
        "bms-camper-energy",
        "Camper energy",
        "Remaining ampere-hours and everything else that the BMS of a LiFePO4 battery reports.",
        board,
        now="now-24h",
        variables=[SOURCE_VARIABLE, *(variable(*one) for one in VARIABLES)],
        links=[
            {
                "type": "link",
                "title": "All batteries",
                "url": "/d/bms-fleet",
                "icon": "dashboard",
                "keepTime": True,
                "includeVars": False,
                "asDropdown": False,
                "targetBlank": False,
                "tags": [],
                "tooltip": "",
            }
        ],
    )


def fleet() -> Json:
    """Return the dashboard of many batteries."""
    board = Board()
    up, rsoc = f"bms_up{OF}", f"bms_state_of_charge_ratio{OF}"
    known = f"last_over_time(bms_polls_total{OF}[1d])"
    unread = f"(bms_polls_total{OF} == 0)"  # no poll has finished since the exporter started
    missed = f"({known} unless {up} == 1 unless {unread})"
    blocked = f"max without (protection) ({protections(usual=False)})"
    usually_blocked = f"max without (protection) ({protections(usual=True)})"
    counts = (
        ("in all", f"count({known})", levels(GREY)),
        ("not reached", f"count{missed} or vector(0)", levels(GREEN, (1, ORANGE))),
        ("low", f"count(last_over_time(bms_remaining_capacity_amperehours{OF}[1d]) < last_over_time(bms_low_threshold_amperehours{OF}[1d])) or vector(0)", levels(GREEN, (1, ORANGE))),
        ("blocked", f"count(max without (protection) (bms_protection_active{OF}) == 1) or vector(0)", levels(GREEN, (1, ORANGE))),
    )  # fmt: skip
    # One panel: on a phone, four would fill the screen above the table.
    board.panel(
        "stat",
        "How many",
        "Seen in the past day; not reached: their last poll failed, or they are not scraped any more; low: below their threshold at the last reading of the past day; blocked: their BMS has switched charging or the output off.",
        "none",
        [query(expr, title, now=True) for title, expr, _ in counts],
        size=(24, 4),
        defaults={"decimals": 0},
        overrides=[
            {
                "matcher": {"id": "byFrameRefID", "options": chr(ord("A") + n)},
                "properties": [{"id": "thresholds", "value": color}],
            }
            for n, (_, _, color) in enumerate(counts)
        ],
        options={
            "orientation": "vertical",
            "justifyMode": "center",
            "textMode": "value_and_name",
            "text": {"titleSize": 14, "valueSize": 36},
        },
    )
    nothing = f"0 * {known}"
    # Not reached 8, blocked 4 or usually 2, low 1, not read yet -1: the worst has the highest sum.
    state = (
        f"((0 * {missed} + 8) or {unread} - 1 or {nothing})"
        f" + 4 * ({blocked} or {nothing}) + 2 * ({usually_blocked} or {nothing}) + ((bms_remaining_capacity_amperehours{OF} < bool bms_low_threshold_amperehours{OF}) or {nothing})"
    )
    columns = (
        ("State", state, "none"),
        ("Remaining", f"bms_remaining_capacity_amperehours{OF}", AH),
        ("Charge", rsoc, "percentunit"),
        ("Current", f"bms_current_amperes{OF}", AMPERES),
        ("Empty in", EMPTY_S, "s"),
        ("Coldest", f"min without (sensor) (bms_temperature_celsius{OF} > -29)", "celsius"),
        ("Cells apart", SPREAD, VOLTS),
        ("Last read", f"floor(time() - last_over_time(bms_last_poll_success_timestamp_seconds{OF}[1d]))", DURATION),
    )  # fmt: skip
    looks: dict[str, list[Json]] = {
        "State": [
            {"id": "mappings", "value": [
                {"type": "value", "options": {"-1": {"text": "not read yet", "color": GREY, "index": 4},
                                              "0": {"text": "ok", "color": GREEN, "index": 0},
                                              "1": {"text": "low", "color": ORANGE, "index": 1}}},
                {"type": "range", "options": {"from": 2, "to": 3, "result": {"text": "blocked", "color": ORANGE, "index": 2}}},
                {"type": "range", "options": {"from": 4, "to": 7, "result": {"text": "blocked", "color": RED, "index": 5}}},
                {"type": "range", "options": {"from": 8, "to": 99, "result": {"text": "not reached", "color": ORANGE, "index": 3}}},
            ]},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ],
        "Coldest": [{"id": "thresholds", "value": grey_below(-100, TEMPERATURE)}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Cells apart": [{"id": "thresholds", "value": SPREAD_LEVELS}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Last read": [{"id": "thresholds", "value": AGE}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Battery": [{"id": "links", "value": [{
            "title": "Open this battery",
            "url": "/d/bms-camper-energy?var-datasource=${datasource}&var-job=${__data.fields.Job}"
                   "&var-instance=${__data.fields.Instance}&var-vehicle=${__data.fields.Vehicle}&var-battery=${__data.fields.Battery}&${__url_time_range}",
        }]}],
    }  # fmt: skip
    decimals = {"Remaining": 1, "Charge": 0, "Current": 1, "Empty in": 1,
                "Coldest": 1, "Cells apart": 3, "Last read": 0}  # fmt: skip
    # On a phone, the first four fit; on a tablet, all but the last.
    widths = {"Battery": 90, "State": 98, "Remaining": 85, "Charge": 60}
    least = {"Current": 60, "Empty in": 82, "Coldest": 65, "Cells apart": 86, "Last read": 90}
    shown = ["Battery", *(title for title, _, _ in columns), "Vehicle", "Instance", "Job"]
    labels = {"battery": "Battery", "vehicle": "Vehicle", "instance": "Instance", "job": "Job"}
    overrides = [
        {
            "matcher": {"id": "byName", "options": title},
            "properties": [
                *([{"id": "unit", "value": unit}] if unit else []),
                *([{"id": "decimals", "value": decimals[title]}] if title in decimals else []),
                *looks.get(title, []),
                *([{"id": "custom.width", "value": width}] if (width := widths.get(title)) else []),
                *([{"id": "custom.minWidth", "value": px}] if (px := least.get(title)) else []),
            ],
        }
        for title, unit in [("Battery", ""), *((title, unit) for title, _, unit in columns)]
    ]
    overrides += [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [
                {"id": "custom.hidden", "value": True},  # Grafana up to 11
                {
                    "id": "custom.hideFrom",
                    "value": {"legend": False, "tooltip": False, "viz": True},
                },
            ],
        }
        for name in ("Instance", "Job")
    ]
    board.panel(
        "table",
        "Batteries, the worst first",
        "The order is: not reached, blocked, low, ok, not read yet. A click on a battery opens it.",
        "none",
        [
            query(f'label_replace(({expr}) * 1, "column", "{title}", "", "")', title, now=True)
            for title, expr, _ in columns
        ],
        size=(24, 9),
        no_value="-",
        overrides=overrides,
        transformations=[
            {"id": "labelsToFields", "options": {"mode": "columns", "valueLabel": "column"}},
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": {"Time": True, "__name__": True},
                "renameByName": labels,
                "indexByName": {name: shown.index(labels.get(name, name)) for name in [*labels, *shown]
                                if name in labels or name not in labels.values()},
            }},
            {"id": "sortBy", "options": {"sort": [{"field": "State", "desc": True}]}},
        ],
    )  # fmt: skip
    board.row("Over time")
    board.panel(
        "timeseries",
        "The ten lowest states of charge",
        "Of all selected batteries, at each moment.",
        "percentunit",
        [query(f"bottomk(10, {rsoc})", "{{battery}} ({{instance}})")],
        size=(12, 9),
        defaults={"min": 0, "max": 1, "decimals": 0, "custom": {"fillOpacity": 0}},
    )  # fmt: skip
    board.panel(
        "timeseries",
        "Failed polls per hour",
        "By reason, of all selected batteries together. not_found means away, switched off, or connected to the phone app.",
        "none",
        [
            query(
                f"3600 * sum by (reason) (rate(bms_poll_failures_total{OF}[$__rate_interval])) > 0",
                "{{reason}}",
            )
        ],
        size=(12, 9),
        defaults={"min": 0, "decimals": 1, "custom": BARS},
        no_value="No poll has failed in this time",
    )
    return dashboard(
        "bms-fleet",
        "Batteries",
        "Many batteries at a glance, the worst first.",
        board,
        now="now-24h",
        variables=[SOURCE_VARIABLE, *(variable(*one) for one in VARIABLES)],
        links=[],
    )


SOURCE_VARIABLE: Final[Json] = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "current": {"selected": True, "text": "default", "value": "default"},
    "hide": 0,
    "includeAll": False,
    "multi": False,
    "refresh": 1,
    "regex": "",
    "options": [],
}
VARIABLES: Final = (
    ("job", "Job", "label_values(bms_polls_total, job)"),
    ("instance", "Exporter", 'label_values(bms_polls_total{job=~"$job"}, instance)'),
    (
        "vehicle",
        "Vehicle",
        'label_values(bms_polls_total{job=~"$job", instance=~"$instance"}, vehicle)',
    ),
    (
        "battery",
        "Battery",
        'label_values(bms_polls_total{job=~"$job", instance=~"$instance", vehicle=~"$vehicle"}, battery)',
    ),
)


def variable(name: str, label: str, values: str) -> Json:
    """Return a variable with all values selected by default."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": values, "refId": "variable"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "includeAll": True,
        "allValue": ".*" if name == "vehicle" else ".+",  # without an agent there is no such label
        "multi": True,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "regex": "",
        "options": [],
        "skipUrlSync": False,
    }


def dashboard(  # noqa: PLR0913 - what a dashboard has
    uid: str,
    title: str,
    about: str,
    board: Board,
    *,
    now: str,
    variables: list[Json],
    links: list[Json],
) -> Json:
    """Return the dashboard's JSON model."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["bms", "battery", "LiFePO4"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": now, "to": "now"},
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "links": links,
        "annotations": {"list": []},
        "templating": {"list": variables},
        "panels": board.panels,
    }


DASHBOARDS: Final = {"camper-energy.json": camper, "fleet.json": fleet}


def text(name: str) -> str:
    """Return the text of one dashboard file."""
    return json.dumps(DASHBOARDS[name](), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for file in DASHBOARDS:
        (Path(sys.argv[1]) / file).write_text(text(file), encoding="utf-8")
