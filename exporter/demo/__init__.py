"""Virtual batteries behind a virtual radio, for `bms-exporter demo` and for the tests."""
