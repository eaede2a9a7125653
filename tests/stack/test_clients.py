"""Clients of an exporter with TLS and a password: Prometheus, curl, openssl."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bcrypt
import pytest
import trustme
from servers import demo, program, prometheus, wait_for

PASSWORD = "hunter2"  # noqa: S105 - a test's


@dataclass(frozen=True, slots=True)
class Secured:
    """A demo with TLS and a password, which also checks client certificates."""

    folder: Path
    port: int

    def curl(self, *arguments: str, path: str = "/metrics") -> subprocess.CompletedProcess[str]:
        url = f"https://localhost:{self.port}{path}"
        return self.run("curl", "--silent", "--show-error", *arguments, url)

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program(name), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    for name, file in (("localhost", "server"), ("prometheus.example", "client")):
        certificate = authority.issue_cert(name)
        certificate.private_key_pem.write_to_path(folder / f"{file}.key")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{file}.crt")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    (folder / "web.yml").write_text(
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt,"
        " client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [prometheus.example]}\n"
        f"basic_auth_users: {{alice: '{hashed}'}}\n"
        "http_server_config: {headers: {X-Content-Type-Options: nosniff}}\n"
    )
    with demo(folder, "--web.config.file", str(folder / "web.yml"), answers=False) as exporter:
        here = Secured(folder, exporter.port)
        wait_for(
            lambda: here.curl("--cacert", "ca.crt", path="/-/healthy").returncode == 0,
            timeout_s=30,
            what="TLS",
        )
        yield here


def test_prometheus_scrapes_with_a_certificate_and_a_password(
    secured: Secured, tmp_path: Path
) -> None:
    folder = secured.folder
    config = (
        "global: {scrape_interval: 5s, scrape_timeout: 5s}\n"
        "scrape_configs:\n  - job_name: bms\n    scheme: https\n"
        f"    tls_config: {{ca_file: {folder}/ca.crt, cert_file: {folder}/client.crt,"
        f" key_file: {folder}/client.key, server_name: localhost}}\n"
        f"    basic_auth: {{username: alice, password: {PASSWORD}}}\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{secured.port}']}}]\n"
    )
    with prometheus(tmp_path, config) as server:
        up = 'bms_up{battery="camper"} == 1'
        wait_for(partial(server.query, up), timeout_s=60, what="a secured sample")

        assert server.value('min_over_time(up{job="bms"}[1m])') == 1.0


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_curl_reads_with_a_password(secured: Secured, http: str) -> None:
    # HTTP/1.1 is the answer to both.
    answer = secured.curl(http, "--include", "--cacert", "ca.crt", "--user", f"alice:{PASSWORD}")

    head, _, body = answer.stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    assert "x-content-type-options: nosniff" in head.lower()
    assert 'bms_up{battery="camper"}' in body


def test_curl_is_refused_without_a_password(secured: Secured) -> None:
    answer = secured.curl("--include", "--cacert", "ca.crt")

    assert " 401" in answer.stdout.partition("\n")[0]
    assert "bms_" not in answer.stdout


def test_openssl_connects_with_tls_1_2_and_1_3_but_not_1_1(secured: Secured) -> None:
    def handshake(*arguments: str) -> subprocess.CompletedProcess[str]:
        where = ["-connect", f"127.0.0.1:{secured.port}", "-servername", "localhost"]
        return secured.run("openssl", "s_client", *where, "-CAfile", "ca.crt", *arguments)

    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        answer = handshake(version)
        assert f"New, {name}" in answer.stdout.replace("TLSv1/SSLv3", "TLSv1.2"), answer.stdout
        assert "Verify return code: 0 (ok)" in answer.stdout
    assert handshake("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0").returncode != 0
