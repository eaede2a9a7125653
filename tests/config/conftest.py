"""Certificates for the tests of TLS and of the web configuration."""

from pathlib import Path

import pytest
import trustme

from tests.support.web_config import write_certificate


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(authority: trustme.CA, tmp_path: Path) -> Path:
    """Return a folder with `server.crt`, `server.key` and `ca.crt`."""
    write_certificate(authority, tmp_path, "camper")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    return tmp_path
