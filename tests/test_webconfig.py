"""The web configuration: what users of Prometheus' exporter-toolkit bring."""

import ssl
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.webconfig import WebConfig, load, parse

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"  # "hunter2", by htpasswd
HERE = Path("/etc/bms")
TLS = "tls_server_config: {cert_file: a, key_file: b, "
WHOLE = f"""
tls_server_config:
  cert_file: server.crt
  key_file: /secret/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: true
  curve_preferences: [CurveP256]
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  alice: {HASH}
rate_limit:
  interval: 1s
  burst: 20
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, HERE)
    return list(caught.value.problems)


def test_every_key_of_the_toolkit_is_known() -> None:
    config = parse(WHOLE, HERE)

    assert config.tls is not None
    assert config.tls.files == (HERE / "server.crt", Path("/secret/server.key"), HERE / "ca.crt")
    assert config.tls.client_auth is ssl.CERT_REQUIRED
    assert config.tls.allowed_sans == ("prometheus",)
    assert config.tls.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
    assert config.tls.curve == "prime256v1"
    assert not config.http2
    assert config.headers == (("Strict-Transport-Security", "max-age=31536000"),)
    assert config.users == (("alice", HASH),)
    assert (config.rate_interval_s, config.rate_burst) == (1.0, 20)


def test_secrets_are_not_shown() -> None:
    config = parse("tls_server_config: {cert: a, key: topsecret}\nbasic_auth_users: {}\n", HERE)

    assert "topsecret" not in repr(config)


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "basic_auth_users:\n"])
def test_an_empty_file_changes_nothing(text: str) -> None:
    assert parse(text, HERE) == WebConfig()


@pytest.mark.parametrize("value", ["0", "1; mode=block", '"1"'])
def test_a_header_is_text_as_it_is_written(value: str) -> None:
    config = parse(f"http_server_config: {{headers: {{X-XSS-Protection: {value}}}}}", HERE)

    assert config.headers == (("X-XSS-Protection", value.strip('"')),)


def test_a_header_without_a_value_is_not_sent() -> None:
    assert parse('http_server_config: {headers: {X-Frame-Options: ""}}', HERE).headers == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tls_server: {}", "line 1: tls_server: unknown key, did you mean tls_server_config?"),
        ("tls_server_config:\n", "expected cert_file (or cert)"),
        ("tls_server_config: {}", "expected cert_file (or cert)"),
        (TLS + "min_version: TLS9}", "TLS10, TLS11"),
        (
            TLS + "min_version: TLS13, max_version: TLS12}",
            "expected at most max_version",
        ),
        (
            TLS + "client_auth_type: RequestClientCert}",
            "which Python's ssl cannot do",
        ),
        (
            TLS + "client_ca_file: c}",
            "client_auth_type verifies nothing",
        ),
        (TLS + "client_allowed_sans: [x]}", "client_auth_type verifies nothing"),
        (TLS + "client_auth_type: x}", "expected one of NoClientCert, VerifyClientCertIfGiven"),
        ("http_server_config: {headers: {X-Frame-Options: no}}", "expected deny or sameorigin"),
        (
            TLS + "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}",
            "TLS_RSA_WITH_RC4_128_SHA: not known",
        ),
        (
            TLS + "curve_preferences: [X25519, CurveP256]}",
            "takes one curve",
        ),
        ("tls_server_config: {cert_file: a, cert: b, key_file: c}", "one of them is enough"),
        ("http_server_config: {headers: {Server: x}}", "expected one of Content-Security-Policy"),
        (
            'http_server_config: {headers: {X-Frame-Options: "a\\r\\nb"}}',
            "expected printable ASCII",
        ),
        ("http_server_config: {http2: maybe}", "expected true or false"),
        ("basic_auth_users: {alice: hunter2}", "expected a bcrypt hash"),
        (f"basic_auth_users: {{alice: {HASH.replace('$10$', '$31$')}}}", "a cost of at most 18"),
        ("basic_auth_users: [alice]", "expected a mapping (name: value)"),
        ("rate_limit: {interval: 1s}", "expected 1 or more requests"),
        ("rate_limit: {interval: soon, burst: 1}", "expected a duration"),
        (f"rate_limit: {{interval: 1s, burst: {'9' * 400}}}", "expected a number, got '999"),
        (f"rate_limit: {{interval: 1s, burst: 0x{'f' * 5000}}}", "expected a number, got '0xff"),
        ('tls_server_config: {key_file: a, cert: "\\ud800"}', "half a character"),
        ("- x", "expected a mapping"),
    ],
)
def test_what_is_wrong_or_cannot_be_done_is_refused_by_name(text: str, complaint: str) -> None:
    assert complaint in "\n".join(problems(text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web.yml: cannot be read: No such file"):
        load(tmp_path / "web.yml")
