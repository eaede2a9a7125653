"""The counters of one battery's link."""

import pytest

from exporter.link_stats import LinkStats


@pytest.mark.parametrize(
    ("read_over", "heard_over", "rssi_dbm"),
    [
        ("hci0", "hci0", -60),
        ("hci0", "garage", -50),
        ("garage", "hci0", -50),
        (None, "hci0", -60),
        ("hci0", None, -60),
    ],
)
def test_signal_strength_is_that_at_the_adapter_over_which_the_battery_is_read(
    read_over: str | None, heard_over: str | None, rssi_dbm: int
) -> None:
    stats = LinkStats(adapter=read_over, missed=2)
    stats.record_rssi(-50, 1.0)

    stats.record_advertisement(-60, 2.0, heard_over)

    assert (stats.rssi_dbm, stats.rssi_at_s) == (rssi_dbm, 2.0 if rssi_dbm == -60 else 1.0)
    assert (stats.seen_at_s, stats.missed) == (2.0, 0)
