"""Users, passwords, headers and TLS in front of the running program."""

import asyncio
import base64
import shlex
import socket
import ssl
import subprocess
import time
from pathlib import Path

import bcrypt
import httpx
import pytest
import trustme
from tornado.httputil import HTTPHeaders

from exporter.config.web import WebConfigFile
from exporter.web.app import make_app
from exporter.web.auth import Access
from exporter.web.subscribers import ALIVE_S, Subscribers
from tests.support import http_client
from tests.support.exporter_process import command, running, running_demo, started
from tests.support.web_config import PASSWORD, TLS, USERS, serving, write_certificate


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def make_client(folder: Path, text: str) -> httpx.AsyncClient:
    file = folder / "web.yml"
    file.write_text(text)
    access = Access(WebConfigFile(file).current)
    return http_client.make_client(make_app(batteries={}, access=access))


@pytest.mark.parametrize(
    ("auth", "status"),
    [(None, 401), (("alice", PASSWORD), 200), (("alice", "wrong"), 401), (("bob", PASSWORD), 401)],
)
async def test_request_needs_the_correct_password(
    auth: tuple[str, str] | None, status: int, tmp_path: Path
) -> None:
    response = await make_client(tmp_path, USERS).get("/-/healthy", auth=auth)

    assert response.status_code == status
    assert (status == 401) == ("www-authenticate" in response.headers)


async def test_too_many_pending_password_checks_of_one_address_get_429(tmp_path: Path) -> None:
    client = make_client(tmp_path, USERS)

    answers = await asyncio.gather(
        *(client.get("/-/healthy", auth=("alice", str(n))) for n in range(25))
    )

    assert {answer.status_code for answer in answers} == {401, 429}


async def test_configured_headers_are_in_every_response(tmp_path: Path) -> None:
    text = f"{USERS}http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    client = make_client(tmp_path, text)

    for auth in (None, ("alice", PASSWORD)):
        assert (await client.get("/-/healthy", auth=auth)).headers["x-frame-options"] == "deny"


async def test_requests_beyond_the_burst_get_429(tmp_path: Path) -> None:
    client = make_client(tmp_path, "rate_limit: {interval: 1h, burst: 3}\n")

    statuses = [(await client.get("/-/healthy")).status_code for _ in range(5)]

    assert statuses == [200, 200, 200, 429, 429]


def make_client_context(
    authority: trustme.CA, certificate: trustme.LeafCert | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


class TestTls:
    def test_metrics_over_tls_use_a_renewed_certificate_without_a_restart(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        write_certificate(authority, tmp_path, "camper.example")
        with serving(tmp_path, TLS) as exporter:
            names = []
            for name in ("camper.example", "localhost"):
                write_certificate(authority, tmp_path, name)
                time.sleep(0.05)
                with httpx.Client(verify=make_client_context(authority), timeout=30.0) as client:
                    response = client.get(
                        f"https://127.0.0.1:{exporter.port}/metrics",
                        extensions={"sni_hostname": name},
                    )
                assert "bms_up" in response.text
                names.append(name)
        assert names == ["camper.example", "localhost"]

    def test_client_without_a_certificate_of_our_authority_is_refused(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        write_certificate(authority, tmp_path, "127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        text = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        with serving(tmp_path, text) as exporter:
            url = f"https://127.0.0.1:{exporter.port}/-/healthy"
            ours = authority.issue_cert("prometheus")
            theirs = trustme.CA().issue_cert("prometheus")

            assert httpx.get(url, verify=make_client_context(authority, ours)).status_code == 200
            for wrong in (None, theirs):
                with pytest.raises(httpx.TransportError):
                    httpx.get(url, verify=make_client_context(authority, wrong))

    @pytest.mark.parametrize(
        ("names", "status"),
        [
            (["prometheus.example"], 200),
            (["10.0.0.7"], 200),
            (["::1"], 200),
            (["grafana.example", "owner@example.org"], 200),
            (["grafana.example"], None),
        ],
    )
    def test_client_certificate_must_have_one_of_the_allowed_sans(
        self, names: list[str], status: int | None, authority: trustme.CA, tmp_path: Path
    ) -> None:
        write_certificate(authority, tmp_path, "127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        allowed = '["prometheus.example", "10.0.0.7", "::1", "owner@example.org"]'
        text = (
            f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n"
            f"  client_allowed_sans: {allowed}\n"
        )
        with serving(tmp_path, text) as exporter:
            url = f"https://127.0.0.1:{exporter.port}/-/healthy"
            context = make_client_context(authority, authority.issue_cert(*names))

            assert (
                httpx.get(url, verify=make_client_context(authority)).status_code == 200
            )  # no certificate
            if status is None:
                with pytest.raises(httpx.TransportError):
                    httpx.get(url, verify=context)
            else:
                assert httpx.get(url, verify=context).status_code == status

    def test_stricter_file_applies_at_once_even_to_resumed_tls_sessions(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        write_certificate(authority, tmp_path, "127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        with serving(tmp_path, TLS) as exporter:
            context = make_client_context(authority)
            address = ("127.0.0.1", exporter.port)

            def request(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
                with (
                    socket.create_connection(address) as raw,
                    context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls,
                ):
                    tls.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
                    return tls.recv(12), tls.session

            answer, session = request(None)
            assert answer == b"HTTP/1.1 200"
            (tmp_path / "web.yml").write_text(
                f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
            )

            for before in (None, session):
                try:
                    answer, _ = request(before)
                except OSError:  # a TLS alert, or a reset if the socket was closed already
                    continue
                assert answer == b""  # the server closed the connection

    @pytest.mark.parametrize("alpn", [["h2"], ["h2", "http/1.1"], None])
    def test_http_2_is_not_offered(
        self, alpn: list[str] | None, authority: trustme.CA, tmp_path: Path
    ) -> None:
        write_certificate(authority, tmp_path, "127.0.0.1")
        context = make_client_context(authority)
        if alpn:
            context.set_alpn_protocols(alpn)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        upgrade = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n"
        with serving(tmp_path, TLS) as exporter:
            for request in (preface, upgrade):
                with (
                    socket.create_connection(("127.0.0.1", exporter.port)) as raw,
                    context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
                ):
                    tls.sendall(request)
                    answer = tls.recv(100)
                    assert tls.selected_alpn_protocol() in (None, "http/1.1")
                    assert answer.startswith(b"HTTP/1.1 ")
                    assert b" 101 " not in answer

    def test_tls_version_below_min_version_is_refused(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        write_certificate(authority, tmp_path, "127.0.0.1")
        with serving(tmp_path, f"{TLS}  min_version: TLS13\n") as exporter:
            url = f"https://127.0.0.1:{exporter.port}/-/healthy"
            assert httpx.get(url, verify=make_client_context(authority)).status_code == 200
            old = make_client_context(authority)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(httpx.TransportError):
                httpx.get(url, verify=old)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (TLS, "server.crt: there is no such file"),
            ("basic_auth_users: {a: b}\n", "expected a bcrypt hash"),
            (
                "tls_server_config: {cert: nonsense, key: nonsense}\n",
                "tls_server_config.key: write it into a file, and its name as key_file",
            ),
        ],
    )
    def test_invalid_web_configuration_ends_the_start_with_a_message(
        self, text: str, words: str, tmp_path: Path
    ) -> None:
        (tmp_path / "web.yml").write_text(text)
        result = subprocess.run(
            command("demo", "--web.listen-address", "127.0.0.1:0",
                    "--web.config.file", str(tmp_path / "web.yml")),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )  # fmt: skip

        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("users", ["bob", "alice"])
async def test_stream_ends_when_its_user_is_removed_or_gets_another_password(
    tasks: asyncio.TaskGroup, tmp_path: Path, users: str
) -> None:
    file = tmp_path / "web.yml"
    file.write_text(USERS)
    subscribers = Subscribers({}, tasks)
    app = make_app(
        batteries={}, subscribers=subscribers, access=Access(WebConfigFile(file).current)
    )
    credentials = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    headers = HTTPHeaders({"Host": "camper", "Authorization": f"Basic {credentials}"})
    connection, delegate, _ = http_client.send_head(app, "GET", "/api/v1/stream", headers)
    delegate.finish()
    while not connection.body:  # noqa: ASYNC110 - bcrypt runs in a thread
        await asyncio.sleep(0.1)
    other = bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()
    file.write_text(f"basic_auth_users: {{{users}: '{other}'}}\n")

    await asyncio.sleep(ALIVE_S + 0.1)

    assert connection.finished.is_set()


def test_log_and_hint_show_the_port_that_the_kernel_chose() -> None:
    with running_demo() as exporter:
        assert exporter.get("/-/healthy").status_code == 200
        _, log = exporter.stop()

    assert f"addresses=:{exporter.port} " in log
    assert f"http://localhost:{exporter.port}/ in a browser" in log


def test_missing_listening_socket_of_systemd_ends_the_start_with_a_message() -> None:
    result = subprocess.run(
        command("demo", "--web.systemd-socket"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert result.returncode == 1
    assert "systemd has given no socket" in result.stderr


@pytest.mark.parametrize("count", ["", "0", "x", "\u00b2", "9" * 5000, "-1", "1", "3"])
def test_malformed_listen_fds_end_the_start_with_a_message(count: str) -> None:
    program = shlex.join(command("demo", "--web.systemd-socket"))
    offer = f"LISTEN_FDS={shlex.quote(count)} LISTEN_PID=$$ exec {program} 3</dev/null 4<&3"
    result = subprocess.run(
        ["/bin/bash", "-c", offer], capture_output=True, text=True, check=False, timeout=30
    )

    assert result.returncode == 1
    assert "--web.systemd-socket" in result.stderr
    assert "Traceback" not in result.stderr


def test_tcp_socket_from_systemd_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        program = shlex.join(command("demo", "--web.systemd-socket"))
        words = ["/bin/bash", "-c", f"LISTEN_FDS=1 LISTEN_PID=$$ exec {program} 3<&{number}"]
        with running(words, pass_fds=[number]) as exporter:
            assert exporter.get("/-/healthy").status_code == 200
            status, log = exporter.stop()

    assert status == 0
    assert "addresses=systemd" in log


def test_unix_socket_from_systemd_is_served(tmp_path: Path) -> None:
    path = str(tmp_path / "exporter.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        number = listening.fileno()
        program = shlex.join(command("demo", "--web.systemd-socket"))
        words = ["/bin/bash", "-c", f"LISTEN_FDS=1 LISTEN_PID=$$ exec {program} 3<&{number}"]
        with (
            started(words, pass_fds=[number]) as exporter,
            httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=30.0) as client,
        ):
            assert client.get("http://camper/-/healthy").status_code == 200
            status, _ = exporter.stop()

    assert status == 0
