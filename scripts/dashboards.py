"""Write the dashboards: scripts/dashboards.py FOLDER (`make docs` writes grafana/dashboards)."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

OF: Final = '{job=~"$job", instance=~"$instance", vehicle=~"$vehicle", battery=~"$battery"}'
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
WIDE: Final = 24  # columns of Grafana's grid

CHARGE, DISCHARGE = f"bms_current_amperes{OF} > 0.05", f"bms_current_amperes{OF} < -0.05"
POWER = f"bms_voltage_volts{OF} * bms_current_amperes{OF}"
MEAN_A = f"avg_over_time(bms_current_amperes{OF}[30m])"
# The rule of docs/metrics.md, Time to empty and to full.
EMPTY_S = (
    f"3600 * bms_remaining_capacity_amperehours{OF} / -({MEAN_A} <= -0.05) <= 2592000"
    f" unless bms_current_amperes{OF} > 0"
)
FULL_S = (
    f"3600 * ((bms_full_capacity_amperehours{OF} > 0 or bms_nominal_capacity_amperehours{OF})"
    f" - bms_remaining_capacity_amperehours{OF} >= 0) / ({MEAN_A} >= 0.05) <= 2592000"
    f" unless bms_state_of_charge_ratio{OF} >= 1 unless bms_current_amperes{OF} < 0"
)

# Local hours, from the metrics of each exporter.
EXPORTERS: Final = '{job=~"$job", instance=~"$instance", vehicle=~"$vehicle"}'
HERE: Final = "on (job, instance, vehicle)"
LOCAL = f"(time() + bms_exporter_utc_offset_seconds{EXPORTERS})"
NIGHT_START, NIGHT_END, MORNING = (
    f"bms_exporter_{name}_seconds{EXPORTERS}" for name in ("night_start", "night_end", "morning")
)
BY_NIGHT = f"({LOCAL} - {NIGHT_START}) % 86400 < (86400 + {NIGHT_END} - {NIGHT_START}) % 86400"
# Before the night begins, only the hours from its start on count.
UNTIL_MORNING_S = (
    f"(86400 - ({LOCAL} - {MORNING}) % 86400 < (86400 + {MORNING} - {NIGHT_START}) % 86400"
    f" or (86400 + {MORNING} - {NIGHT_START}) % 86400)"
)
# Each minute adds the increase of five minutes.
NIGHT_WH = (
    f"sum_over_time((increase(bms_discharged_watthours_total{OF}[5m])"
    f" and {HERE} {BY_NIGHT})[24h:1m]) / 5"
)
NIGHT_A = f"avg_over_time((clamp_min(-bms_current_amperes{OF}, 0) and {HERE} {BY_NIGHT})[24h:5m])"
LEFT_IN_THE_MORNING = (
    f"clamp_min((bms_remaining_capacity_amperehours{OF}"
    f" - {NIGHT_A} * {HERE} group_left () {UNTIL_MORNING_S} / 3600)"
    f" / bms_nominal_capacity_amperehours{OF}, 0)"
)
SPREAD = f"max without (cell) (bms_cell_voltage_volts{OF}) - min without (cell) (bms_cell_voltage_volts{OF})"
PER_POLL = f"rate(bms_polls_total{OF}[$__rate_interval])"
TOO_FEW: Final = "Not enough polls yet"


def levels(base: str, *steps: tuple[float, str]) -> Json:
    """Return thresholds: the colour below all steps, and the colour from each value on."""
    shown = [{"color": base, "value": None}]
    return {
        "mode": "absolute",
        "steps": [*shown, *({"color": color, "value": value} for value, color in steps)],
    }


# The voltage of LiFePO4 is flat between 20 and 90 %, so only RSOC shows the charge. Below 20 % the
# voltage drops within the hour; 10 % may not last for the night's lights.
RSOC: Final = levels(RED, (0.1, ORANGE), (0.2, GREEN))
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
    "fillOpacity": 10,
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
    "state-timeline": "thresholds",
    "table": "thresholds",
}
OF_NOW: Final = ("stat", "table")  # short steps, whatever the dashboard's range is
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


def limit(unit: str, protection: str, legend: str, *, below_zero: bool = False) -> Json:
    """Return the query of a limit that the BMS itself has; no result without its settings."""
    labels = OF.replace("{", f'{{protection="{protection}", ')
    sign = "-" if below_zero else ""
    return query(f"{sign}bms_protection_threshold_{unit}{labels}", f"{{{{battery}}}} {legend}")


def limit_line(ref: str) -> Json:
    """Return an override that draws the series of one query as a thin dashed line."""
    override = colored(ref, RED)
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


def camper() -> Json:
    """Return the dashboard of the battery in the camper."""
    board = Board()
    ah = f"bms_remaining_capacity_amperehours{OF}"
    rsoc = f"bms_state_of_charge_ratio{OF}"
    board.panel(
        "stat",
        "Remaining",
        "Ampere-hours left, as the BMS counts them. Green from 20 % of the state of charge on, orange from 10 % on, red below: it may not last for the night.",
        "amph",
        [
            query(f"{ah} and {rsoc} >= 0.2", now=True),
            query(f"{ah} and ({rsoc} >= 0.1 < 0.2)", now=True),
            query(f"{ah} and {rsoc} < 0.1", now=True),
        ],
        size=(6, 7),
        defaults={"decimals": 1, "min": 0, "thresholds": levels(GREY)},
        overrides=[colored("A", GREEN), colored("B", ORANGE), colored("C", RED)],
        options={"colorMode": "background"},
        no_value="Not known: the battery was not reached",
    )
    board.panel(
        "stat",
        "State of charge",
        "The BMS's own RSOC. Below 20 % the voltage of LiFePO4 falls quickly; below 10 % the BMS is about to switch off.",
        "percentunit",
        [query(rsoc, now=True)],
        size=(6, 7),
        defaults={"decimals": 0, "thresholds": RSOC},
        no_value="Not known: the battery was not reached",
    )
    board.panel(
        "stat",
        "Left in the morning",
        "What will be left if tonight is like last night: remaining Ah minus the mean night current until morning. The exporter's configuration says when that is. Green is enough for coffee and light. Red is below 10 %.",
        "percentunit",
        [query(LEFT_IN_THE_MORNING, now=True)],
        size=(6, 7),
        defaults={"decimals": 0, "thresholds": RSOC},
        no_value="Not known before the first night",
    )
    board.panel(
        "stat",
        "Current",
        "Positive and green while charging, negative and blue while discharging.",
        "amp",
        [
            query(CHARGE, "{{battery}} charging", now=True),
            query(DISCHARGE, "{{battery}} discharging", now=True),
            query(f"abs(bms_current_amperes{OF}) <= 0.05", "{{battery}} idle", now=True),
        ],
        size=(6, 7),
        defaults={"decimals": 1, "thresholds": levels(GREY)},
        overrides=[colored("A", GREEN), colored("B", BLUE), colored("C", GREY)],
        options={"textMode": "value_and_name"},
        no_value="Not known: the battery was not reached",
    )
    board.panel(
        "stat",
        "Time to empty or full",
        "At the mean current of the past half hour. Red below 4 hours to empty, orange below 12. At 100 % there is no time to full.",
        "s",
        [
            query(EMPTY_S, "{{battery}} empty in", now=True),
            query(FULL_S, "{{battery}} full in", now=True),
        ],
        size=(6, 6),
        defaults={
            "decimals": 1,
            "thresholds": levels(RED, (4 * 3600, ORANGE), (12 * 3600, GREEN)),
        },
        overrides=[colored("B", GREEN)],
        options={"textMode": "value_and_name"},
        no_value="Neither charged nor discharged, full, or not reached",
    )
    board.panel(
        "stat",
        "Voltage",
        "The voltage of the whole battery. LiFePO4 is flat: between 20 and 90 % a 12 V battery always shows 13.0 to 13.3 V.",
        "volt",
        [query(f"bms_voltage_volts{OF}", now=True)],
        size=(6, 6),
        defaults={"decimals": 2, "thresholds": levels(GREY)},
        no_value="Not known: the battery was not reached",
    )
    board.panel(
        "stat",
        "What is wrong",
        "Protections for which the BMS keeps a MOSFET open, and batteries that are not reached.",
        "none",
        [
            query(f"bms_protection_active{OF} == 1", "{{battery}}: {{protection}}", now=True),
            query(f"bms_up{OF} == 0", "{{battery}}: not reached", now=True),
            query(
                f"bms_up{OF} == 1 unless on (job, instance, vehicle, battery) bms_protection_active{OF} == 1",
                "{{battery}}: well",
                now=True,
            ),
            query(f"bms_polls_total{OF} == 0", "{{battery}}: not read yet", now=True),
            query(f"absent(bms_polls_total{OF})", "no data: is the exporter scraped?", now=True),
        ],
        size=(6, 6),
        overrides=[
            colored("A", RED),
            colored("B", ORANGE),
            colored("C", GREEN),
            colored("D", GREY),
            colored("E", ORANGE),
        ],
        options={"textMode": "name"},
    )
    board.panel(
        "stat",
        "Age of the last reading",
        "Seconds since the battery was last read. Orange after 3 minutes, red after 15.",
        "s",
        [
            query(
                f"time() - last_over_time(bms_last_poll_success_timestamp_seconds{OF}[1d])",
                now=True,
            )
        ],
        size=(6, 6),
        defaults={"decimals": 0, "thresholds": AGE},
        no_value="Never read yet",
    )

    board.row("The day")
    board.panel(
        "timeseries",
        "Remaining capacity",
        "Ampere-hours left. In a gap the battery was not reached.",
        "amph",
        [query(ah)],
        size=(12, 8),
        defaults={"min": 0},
    )
    board.panel(
        "timeseries",
        "State of charge",
        "The BMS's own RSOC, with the lines at 10 and 20 %.",
        "percentunit",
        [query(rsoc)],
        size=(12, 8),
        defaults={
            "min": 0,
            "max": 1,
            "thresholds": RSOC,
            "custom": {"thresholdsStyle": {"mode": "dashed"}},
        },
    )
    for title, unit, expr in (
        ("Current", "amp", f"bms_current_amperes{OF}"),
        ("Power", "watt", POWER),
    ):
        board.panel(
            "timeseries",
            title,
            "Above zero the battery is charged, below zero discharged.",
            unit,
            [query(expr)],
            size=(12, 8),
            defaults={"custom": {"axisCenteredZero": True, "fillOpacity": 25}},
        )
    board.panel(
        "timeseries",
        "Energy in and out per day",
        "Energy of the 24 hours before each point: charged above zero, discharged below. Gaps longer than max_age add nothing.",
        "watth",
        [
            query(f"increase(bms_charged_watthours_total{OF}[24h])", "{{battery}} in"),
            query(f"-increase(bms_discharged_watthours_total{OF}[24h])", "{{battery}} out"),
        ],
        size=(12, 8),
        defaults={"custom": BARS},
        interval="1h",
    )
    board.panel(
        "timeseries",
        "Night consumption",
        "Discharged in the night hours of the 24 hours before each point. The exporter's configuration says when the night is.",
        "watth",
        [query(NIGHT_WH)],
        size=(12, 8),
        defaults={
            "min": 0,
            "custom": BARS,
        },
        no_value="No night has passed yet",
        interval="1h",
    )

    board.row("The pack")
    board.panel(
        "timeseries",
        "Cell voltages",
        "Lines at 2.8 V (nearly empty), at 3.65 V (the end of charging), and at the limits of the BMS where its settings are known.",
        "volt",
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
        "volt",
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
        "amp",
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
        defaults={"min": 0, "max": 1, "mappings": states(("not reached", RED), ("reached", GREEN))},
    )
    board.panel(
        "timeseries",
        "Failed polls by reason",
        "Per hour. not_found means away, switched off, or connected to the phone app.",
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
            "custom": {
                "drawStyle": "bars",
                "fillOpacity": 60,
                "stacking": {"mode": "normal", "group": "A"},
            },
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
    tripped = f"max without (protection) (bms_protection_active{OF})"
    for title, about, expr, color in (
        ("Batteries", "Seen in the past day.", f"count({known})", levels(GREY)),
        ("Not reached", "Their last poll failed, or they are not scraped any more.",
         f"count{missed} or vector(0)", levels(GREEN, (1, ORANGE))),
        ("Low", "Below 20 % of the state of charge at the last reading of the past day.",
         f"count(last_over_time({rsoc}[1d]) < 0.2) or vector(0)", levels(GREEN, (1, RED))),
        ("Protected", "Their BMS keeps a MOSFET open.",
         f"count({tripped} == 1) or vector(0)", levels(GREEN, (1, RED))),
    ):  # fmt: skip
        board.panel(
            "stat", title, about, "none", [query(expr, title, now=True)], size=(6, 4),
            defaults={"decimals": 0, "thresholds": color},
        )  # fmt: skip
    nothing = f"0 * {known}"
    # Not reached 4, protected 2, low 1, not read yet -1: the worst has the highest sum.
    state = (
        f"((0 * {missed} + 4) or {unread} - 1 or {nothing})"
        f" + 2 * ({tripped} or {nothing}) + (({rsoc} < bool 0.2) or {nothing})"
    )
    columns = (
        ("State", state, "none"),
        ("Remaining", f"bms_remaining_capacity_amperehours{OF}", "amph"),
        ("RSOC", rsoc, "percentunit"),
        ("Voltage", f"bms_voltage_volts{OF}", "volt"),
        ("Current", f"bms_current_amperes{OF}", "amp"),
        ("Power", POWER, "watt"),
        ("Empty in", EMPTY_S, "s"),
        ("Coldest", f"min without (sensor) (bms_temperature_celsius{OF} > -29)", "celsius"),
        ("Spread", SPREAD, "volt"),
        ("Failed polls, 1 h", f"sum without (reason) (increase(bms_poll_failures_total{OF}[1h]))", "none"),
        ("Age", f"time() - last_over_time(bms_last_poll_success_timestamp_seconds{OF}[1d])", "s"),
    )  # fmt: skip
    looks: dict[str, list[Json]] = {
        "State": [
            {"id": "mappings", "value": [
                {"type": "value", "options": {"-1": {"text": "not read yet", "color": GREY, "index": 4},
                                              "0": {"text": "well", "color": GREEN, "index": 0},
                                              "1": {"text": "low", "color": ORANGE, "index": 1}}},
                {"type": "range", "options": {"from": 2, "to": 3, "result": {"text": "protected", "color": RED, "index": 2}}},
                {"type": "range", "options": {"from": 4, "to": 99, "result": {"text": "not reached", "color": RED, "index": 3}}},
            ]},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ],
        "RSOC": [{"id": "thresholds", "value": RSOC}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Coldest": [{"id": "thresholds", "value": TEMPERATURE}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Spread": [{"id": "thresholds", "value": SPREAD_LEVELS}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Age": [{"id": "thresholds", "value": AGE}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        "Battery": [{"id": "links", "value": [{
            "title": "Open this battery",
            "url": "/d/bms-camper-energy?var-datasource=${datasource}&var-job=${__data.fields.Job}"
                   "&var-instance=${__data.fields.Instance}&var-vehicle=${__data.fields.Vehicle}&var-battery=${__data.fields.Battery}&${__url_time_range}",
        }]}],
    }  # fmt: skip
    decimals = {"Remaining": 1, "RSOC": 0, "Voltage": 2, "Current": 1, "Power": 0, "Empty in": 1,
                "Coldest": 1, "Spread": 3, "Failed polls, 1 h": 0, "Age": 0}  # fmt: skip
    shown = ["Battery", *(title for title, _, _ in columns), "Vehicle", "Instance", "Job"]
    labels = {"battery": "Battery", "vehicle": "Vehicle", "instance": "Instance", "job": "Job"}
    overrides = [
        {
            "matcher": {"id": "byName", "options": title},
            "properties": [
                *([{"id": "unit", "value": unit}] if unit else []),
                *([{"id": "decimals", "value": decimals[title]}] if title in decimals else []),
                *looks.get(title, []),
            ],
        }
        for title, unit in [("Battery", ""), *((title, unit) for title, _, unit in columns)]
    ]
    board.panel(
        "table",
        "Batteries, the worst first",
        "The order is: not reached, protected, low, well, not read yet. A click on a battery opens it.",
        "none",
        [
            query(f'label_replace(({expr}) * 1, "column", "{title}", "", "")', title, now=True)
            for title, expr, _ in columns
        ],
        size=(24, 16),
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
        defaults={"min": 0, "max": 1, "thresholds": RSOC, "custom": {"thresholdsStyle": {"mode": "dashed"}, "fillOpacity": 0}},
    )  # fmt: skip
    board.panel(
        "timeseries",
        "Failed polls by reason",
        "Per hour, of all selected batteries together.",
        "none",
        [
            query(
                f"3600 * sum by (reason) (rate(bms_poll_failures_total{OF}[$__rate_interval])) > 0",
                "{{reason}}",
            )
        ],
        size=(12, 9),
        defaults={"min": 0, "decimals": 1},
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
