"""Print docs/metrics.md from the table of metrics in exporter/metrics.py."""

from exporter.bank_metrics import BANK_ROWS, INFO, MEMBER
from exporter.metrics import INFOS, PROXY_ROWS, ROWS

HEAD = """\
# Metrics

Made by `make docs` from the tables in `exporter/metrics.py` and `exporter/bank_metrics.py`.

The metrics of a battery have the label `battery`, the configured name. A number that is not known, or older than `max_age`, is
absent, never 0. Current is positive while charging.

| metric | type | further labels | meaning |
|---|---|---|---|
"""
BANKS = """
## Banks

They have the label `bank`, and are on `/metrics` only: `/probe` shows one battery. [banks.md](banks.md) has examples.

| metric | type | further labels | meaning |
|---|---|---|---|
"""
TAIL = """
## The exporter

On `/metrics`, but not on `/probe`, the exporter adds `bms_exporter_build_info` (`version`, `python`),
`bms_exporter_config_last_reload_successful`, `bms_exporter_config_last_reload_success_timestamp_seconds`,
`bms_exporter_log_lines_lost_total` and the `process_*` metrics of the Prometheus client. Log lines are lost when no
program reads the pipe on standard error, or when the disk behind it is full. The exporter goes on and logs their number.

`/metrics` also has `bms_adapter_restarts_total` (`adapter`, `reason`): how often a stuck adapter was switched off and on.
The adapter no longer answered commands (`no_events`), or the kernel kept an attempt to connect for which no program waits
(`left_connection`). Or the kernel took a scan for running that no program had asked for (`discovery`), or began no scan
for a connect (`no_scan`).

## Energy

The exporter counts charge and energy between the readings of a battery, by the trapezoid rule. The time of a reading is
when it was read, not when it was scraped. Readings further apart than `max_age` (5 minutes with `max_age: 0`) add
nothing, except to `bms_energy_gap_seconds_total`. So scrape at least every `max_age`. The counters begin at 0 with the
first reading after a start, and `increase()` gives any period:

```
increase(bms_charged_watthours_total[1d])
```

## Local time

Prometheus knows only UTC. `/metrics` has what rules and dashboards need for local hours, from `timezone`, `morning` and
`night` of the configuration. `bms_exporter_utc_offset_seconds` changes with daylight saving time; add it to UTC.
`bms_exporter_morning_seconds`, `bms_exporter_night_start_seconds` and `bms_exporter_night_end_seconds` count from local
midnight. `bms_exporter_next_morning_timestamp_seconds` is the next morning, also across a change of daylight saving time.
This is 1 by night, for each exporter:

```
(time() + bms_exporter_utc_offset_seconds - bms_exporter_night_start_seconds) % 86400
  < bool (86400 + bms_exporter_night_end_seconds - bms_exporter_night_start_seconds) % 86400
```

## Time to empty and to full

One rule holds for `/api/v1`, the page and the rules for Prometheus (`bms:time_to_empty_seconds`,
`bms:time_to_full_seconds`):

- The current is the mean of the half hour before the last reading. Times without a reading do not count.
- Time to empty is the remaining capacity divided by that current. Time to full is the missing capacity divided by it:
  up to the full capacity where the BMS has learned one, else up to the nominal capacity.
- Both are absent at rest (a mean below 0.05 A), beyond 30 days, and while the present current has the opposite
  direction. Time to full is absent at 100 %.

## Proxies

With ESPHome proxies, `/metrics` has these with the label `proxy` ([proxies.md](proxies.md)):

| metric | type | meaning |
|---|---|---|
"""


def main() -> None:
    """Print the document."""
    rows = []
    for row in ROWS:
        kind = row.kind(row.name, row.help).type
        name = f"{row.name}_total" if kind == "counter" else row.name
        rows.append((name, kind, f"`{row.label}`" if row.label else "", row.help))
    rows += [
        (f"{info.name}_info", "info", ", ".join(f"`{x}`" for x in info.labels), info.help)
        for info in INFOS
    ]
    print(HEAD, end="")
    print_table(rows)
    print(BANKS, end="")
    banks = [(row.name, "gauge", "", row.help) for row in BANK_ROWS]
    print_table([*banks, (MEMBER[0], "gauge", "`battery`", MEMBER[1])])
    print_table([(f"{INFO[0]}_info", "info", "`wiring`", INFO[1])])
    print(TAIL, end="")
    for name, text, _ in PROXY_ROWS:
        print(f"| `{name}` | gauge | {text} |")


def print_table(rows: list[tuple[str, str, str, str]]) -> None:
    """Print the rows of a table of metrics."""
    for name, kind, labels, text in rows:
        print(f"| `{name}` | {kind} | {labels} | {text} |")


if __name__ == "__main__":
    main()
