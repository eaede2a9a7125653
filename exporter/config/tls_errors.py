"""Says in plain words why OpenSSL refuses a certificate or a key; imported after a refusal only."""

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from exporter.config.files import read_small

NO_CERTIFICATE: Final = "expected a certificate in PEM format (-----BEGIN CERTIFICATE-----)"
NO_KEY: Final = "expected a private key in PEM format (-----BEGIN PRIVATE KEY-----)"
ENCRYPTED: Final = (
    "the key is encrypted: openssl pkey -in FILE -out NEW_FILE writes it in the clear"
)
DAMAGED: Final = "one of both files is damaged or incomplete: copy them again"
SMALL: Final = "the key is too small: make one with 2048 bits for RSA, or with 256 for ECDSA"
OTHERS_KEY: Final = "the key does not belong to the certificate of cert_file"


def explain_pair(error: Exception, cert_file: Path, key_file: Path) -> tuple[str, str]:
    """Return the key of the setting that is wrong, and why: of a certificate and its key."""
    certificate, key = _content(cert_file), _content(key_file)
    if b"CERTIFICATE-----" not in certificate:
        return "cert_file", f"{cert_file}: {NO_CERTIFICATE}"
    if b"ENCRYPTED" in key:
        return "key_file", f"{key_file}: {ENCRYPTED}"
    if b"PRIVATE KEY-----" not in key:
        return "key_file", f"{key_file}: {NO_KEY}"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "key_file", f"{key_file}: {OTHERS_KEY}"
    if getattr(error, "reason", None) is None:  # the text in one of them is not base64
        return "cert_file", f"{cert_file}, {key_file}: {DAMAGED}"
    return "cert_file", f"{cert_file}: {explain(error)}"


def explain(error: Exception) -> str:
    """Return OpenSSL's reason in its own words; Python's errors have no `reason`."""
    reason = getattr(error, "reason", None) or (error.args[-1] if error.args else "")
    if str(reason).endswith("KEY_TOO_SMALL"):
        return SMALL
    words = str(reason).replace("_", " ").rstrip(".")
    return f"OpenSSL refuses it: {words.lower() if isinstance(error, ssl.SSLError) else words}"


def _content(path: Path) -> bytes:
    with suppress(OSError):  # it was read before; it may be gone since
        return read_small(path)
    return b""
