"""A demo behind a web configuration file with a user and TLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bcrypt
import trustme

from tests.support.exporter_process import ExporterProcess, running_demo

PASSWORD: Final = "hunter2"  # noqa: S105 - a test's
HASHED: Final = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS: Final = f"basic_auth_users: {{alice: '{HASHED}'}}\n"
TLS: Final = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"


@contextmanager
def serving(folder: Path, text: str) -> Iterator[ExporterProcess]:
    """Write a web configuration file; start the demo with it."""
    (folder / "web.yml").write_text(text)
    with running_demo("--web.config.file", str(folder / "web.yml")) as exporter:
        yield exporter


def write_certificate(authority: trustme.CA, folder: Path, name: str) -> None:
    """Write the files that TLS names."""
    certificate = authority.issue_cert(name)
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
