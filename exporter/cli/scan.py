"""`scan`: listens for batteries, and reads those that their advertisements do not prove."""

import asyncio
import shutil
import sys
from collections.abc import Sequence
from textwrap import indent
from typing import Final

from exporter.ble.machine import build_routes, resolve_adapter
from exporter.ble.proxies import Proxies
from exporter.ble.scanner import Scanner
from exporter.ble.transport import Backend, ScanningTransport
from exporter.cli.findings import Finding, limit_s, read_candidate
from exporter.cli.options import Scan
from exporter.cli.scan_output import printable, scan_table, scan_yaml
from exporter.cli.streams import complain
from exporter.config import Config, load
from exporter.config.schema import ProxyName
from exporter.errors import BmsError, ConfigError
from exporter.protocol.advertisement import Advertisement

OK: Final = 0
FAILED: Final = 1
CLEAR_LINE: Final = "\r\x1b[K"


async def run_scan(options: Scan, backend: Backend | None, config: Config | None = None) -> int:
    """Run the command; return its exit status. `config` is that of the demo.

    Raises:
        OSError: Standard output cannot be written.
        ConfigError: There is no such proxy in a valid configuration, or its library is missing.
    """
    proxies = Proxies()
    try:
        findings = await _listen(options, backend, proxies)
        if options.read:
            findings = await _read_candidates(findings, options, config, backend, proxies)
    except BmsError as error:
        complain(str(error))
        return FAILED
    finally:
        proxies.close()
    candidates = [finding for finding in findings if finding.is_candidate]
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if shown := findings if options.all else candidates:
        # In a file, the table would make the configuration below it invalid.
        print(indent(scan_table(shown, columns), "" if sys.stdout.isatty() else "# "))
    if not any(finding.is_battery for finding in candidates):
        complain(_why_no_configuration(candidates, options, devices=len(findings)))
        return FAILED
    file_name = printable(str(options.config_file))
    print(f"\n# for {file_name}\n{scan_yaml(candidates, columns)}")
    return OK


def _why_no_configuration(candidates: Sequence[Finding], options: Scan, *, devices: int) -> str:
    if not candidates:
        return (
            f"No JBD battery among {devices} devices found: is it switched on and in range, "
            "and is the phone app disconnected? --all shows every device; "
            "bms-exporter read ADDRESS tries one; bms-exporter doctor looks for the cause."
        )
    if not options.read:
        return (
            "No configuration is printed: no name and address leave no doubt. "
            "Without --no-read, scan reads these devices to find out."
        )
    return (
        "No configuration is printed: no device has proved to be a JBD battery. If one is, "
        "bms-exporter doctor ADDRESS finds out why it does not answer."
    )


async def _listen(options: Scan, backend: Backend | None, proxies: Proxies) -> list[Finding]:
    """Return the last advertisement of each device; report each new battery at once."""
    heard: dict[str, Finding] = {}

    def hear(advertisement: Advertisement) -> None:
        known = heard.get(advertisement.address)
        finding = heard[advertisement.address] = Finding(advertisement=advertisement)
        if finding.is_candidate and not (known and known.is_candidate):
            found = "found" if finding.is_battery else "perhaps a battery:"
            _report(f"{found} {_name(finding)} at {advertisement.address}")

    if options.proxy is not None:
        scanning = _proxied(options.proxy, options, proxies).advertisements(hear)
    else:
        adapter = None if options.adapter is None else resolve_adapter(options.adapter)
        scanner = Scanner(adapter, None if backend is None else backend.scanner)
        scanning = scanner.advertisements(hear)
    async with scanning as renew:
        left_s: float = options.duration_s
        while left_s > 0:
            _show(f"listening, {left_s:.0f} s left, {len(heard)} devices found")
            await asyncio.sleep(min(left_s, 1.0))
            left_s -= 1.0
            if left_s > 0:
                await renew()
    _show("")
    return list(heard.values())


def _proxied(name: str, options: Scan, proxies: Proxies) -> ScanningTransport:
    """Return the transport of a configured proxy. Raises ConfigError if there is none."""
    transports = proxies.make_transports(load(options.config_file).proxies)
    if name not in transports:
        known = ", ".join(transports) or "none"
        raise ConfigError(
            [f"scan: no proxy {name!r} in {options.config_file}; configured: {known}"]
        )
    return transports[name]


async def _read_candidates(
    findings: Sequence[Finding],
    options: Scan,
    config: Config | None,
    backend: Backend | None,
    proxies: Proxies,
) -> list[Finding]:
    """Read what may be a battery, one device after the other, the strongest first."""
    unproved = [one for one in findings if one.is_candidate and not one.is_battery]
    if not unproved:
        return list(findings)
    config = config or _configuration(options)
    try:
        routes = await build_routes(config, backend, proxies=proxies if options.proxy else None)
    except ConfigError as error:
        complain(f"nothing is read: {error}")
        return list(findings)
    read: dict[str, Finding] = {}
    unproved.sort(key=lambda finding: -finding.advertisement.rssi_dbm)
    for number, finding in enumerate(unproved, start=1):
        seen = finding.advertisement
        _report(
            f"reading {_name(finding)} at {seen.address}, {number} of {len(unproved)}, "
            f"for up to {limit_s(config):g} s"
        )
        found = read[seen.address] = await read_candidate(
            seen,
            config,
            routes,
            options.adapter,
            None if options.proxy is None else ProxyName(options.proxy),
        )
        _report(f"{_name(found)}: {printable(found.why_not)}")
    return [read.get(finding.advertisement.address, finding) for finding in findings]


def _configuration(options: Scan) -> Config:
    """Return the configuration, or an empty one: many scan before they write a valid one."""
    try:
        return load(options.config_file)
    except ConfigError:
        return Config(batteries=())


def _name(finding: Finding) -> str:
    return printable(finding.advertisement.name) or "a device without a name"


def _report(text: str) -> None:
    _show("")
    complain(text)


def _show(text: str) -> None:
    """Show on a terminal what is waited for; an empty text removes it."""
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        print(CLEAR_LINE + text[: columns - 1], end="", flush=True, file=sys.stderr)
