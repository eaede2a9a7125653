"""Prometheus exporter for LiFePO4 batteries with a JBD BMS, read over Bluetooth Low Energy.

The rooms, in the order in which data flows (imports go the same way, a test enforces it):

    files        files that users name, and whether they have changed
    document     YAML -> plain data that knows its lines
    config       plain data -> frozen dataclasses, every complaint at once
    clock  logs  the clock that ages readings; logfmt and json
    errors       the exception tree and the failure reasons
    reading      Reading and its parts: what a battery told, in SI units
    protocol/    bytes <-> facts, without I/O
    profiles     the GATT profiles
    stats        what happened on the way to a battery
    bms          the conversation: which register when, resend, give up
    direct/      batteries over the kernel's own sockets: ATT, a bleak client, the management socket
    trouble      what Bluetooth's errors mean, and what to do
    scan         one scan an adapter, shared by all who look
    within       a limit of time for what may not end when it is cancelled
    bluetoothd   what bluetoothd alone is asked; loaded when it is used
    connection   the GATT profiles of an open connection: bytes out, notifications in
    radio        find, connect, let go
    spread       several adapters: which one reads which battery
    discovery    is this advertisement a JBD battery, and why
    history      the last hours of a battery, in memory
    poller       coalescing, deadline, back-off; Snapshot
    metrics      the table of metrics; Snapshot -> metric families
    api          snapshots as JSON
    watch        the pages that are open: together one scraper
    webconfig    the file of --web.config.file
    web/         HTTP: server (connections, limits, the stop), tls, auth (passwords, rate limit),
                 handler (what all handlers share), exposition (the text of /metrics), assets,
                 page_handlers (the page and /api/v1), app (the routes)
    demo/        virtual batteries behind a virtual radio
    house        the batteries of a configuration, which a reload may change
    app          puts all of it together and runs it
    report       what `read` and `scan` print
    decoded      what `decode` prints
    cli          arguments in, exit status out
"""

from typing import Final

__version__: Final = "0.1.0"
