"""Checks the proxies of a configuration, and reads their keys."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from exporter.config.files import read_secret
from exporter.config.schema import ESPHOME_PORT, Config, ProxyConfig, TransportChoice
from exporter.config.yaml_document import Complaint, Document, shown

KEY_BYTES: Final = 32  # of the pre-shared key of Noise; base64 makes 44 characters of it


def proxy_complaints(document: Document) -> Iterator[Complaint]:
    """Find names and hosts that two proxies share, and links that name no proxy."""
    seen: dict[str, str] = {}
    proxies = document.mappings("proxies")
    for index, proxy in enumerate(proxies):
        path = f"proxies[{index}].name"
        name = proxy.get("name")
        if isinstance(name, str) and seen.setdefault(name, path) != path:
            yield document.complaint(
                path, document.describe_taken(name, seen[name], "choose another one")
            )
    yield from _host_complaints(document)
    has_names = isinstance(document.data.get("proxies", []), list) and all(
        isinstance(proxy.get("name"), str) for proxy in proxies
    )
    if "proxies" not in document.data:
        # They may be under an unknown key.
        has_names = document.data.keys() <= {field.name for field in fields(Config)}
    for index, battery in enumerate(document.mappings("batteries")):
        link = battery.get("link")
        if not isinstance(link, str) or link in list(TransportChoice):
            continue
        if link not in seen:
            if not has_names:
                continue  # the wrong name may be this one
            known = ", ".join([*TransportChoice, *seen])
            complaint = f"expected one of {known}, got {shown(link)}"
            yield document.complaint(f"batteries[{index}].link", complaint)
        elif battery.get("adapter") is not None:
            complaint = f"link: {link} is a proxy, which has its own adapter: remove one of them"
            yield document.complaint(f"batteries[{index}].adapter", complaint)


def _host_complaints(document: Document) -> Iterator[Complaint]:
    """Find proxies at the same host and port: they would take the ESP32 from each other."""
    seen: dict[tuple[str, object], str] = {}
    for index, proxy in enumerate(document.mappings("proxies")):
        path = f"proxies[{index}].host"
        host = proxy.get("host")
        if not isinstance(host, str):
            continue
        first = seen.setdefault((host.lower(), repr(proxy.get("port", ESPHOME_PORT))), path)
        if first != path:
            text = document.describe_taken(host, first, "one proxy serves any number of batteries")
            yield document.complaint(path, text)


def read_keys(
    proxies: tuple[ProxyConfig, ...],
    document: Document,
    folder: Path,
    complaints: list[Complaint],
) -> tuple[ProxyConfig, ...]:
    """Return the proxies with the keys from their files or variables; add to `complaints`."""
    with_keys = []
    for index, proxy in enumerate(proxies):
        try:
            with_keys.append(replace(proxy, key=_key(proxy, folder)))
        except ValueError as error:
            option = "key_file" if proxy.key_env is None else "key_env"
            complaints.append(document.complaint(f"proxies[{index}].{option}", str(error)))
    return tuple(with_keys)


def _key(proxy: ProxyConfig, folder: Path) -> str | None:
    secret = read_secret(folder, file=proxy.key_file, variable=proxy.key_env, option="key_file")
    if secret is None:
        return None
    try:
        raw = base64.b64decode(secret.strip(), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != KEY_BYTES:  # not quoted: it is the secret
        raise ValueError("expected the 44 characters that ESPHome has under api: encryption: key:")
    return secret.strip().decode("ascii")
