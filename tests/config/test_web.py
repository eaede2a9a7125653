"""The web configuration file in the format of Prometheus' exporter-toolkit."""

import os
import ssl
from pathlib import Path

import pytest

from exporter.config.web import WebConfig, WebConfigFile, load, parse
from exporter.errors import ConfigError

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
    assert config.headers == (("Strict-Transport-Security", "max-age=31536000"),)
    assert config.users == (("alice", HASH),)
    assert (config.rate_interval_s, config.rate_burst) == (1.0, 20)


def test_inline_key_is_not_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("tls_server_config: {cert: a, key: topsecret}\n", HERE)

    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n"])
def test_empty_file_is_the_default_configuration(text: str) -> None:
    assert parse(text, HERE) == WebConfig()


@pytest.mark.parametrize("value", ["0", "1; mode=block", '"1"'])
def test_header_value_is_the_text_as_written(value: str) -> None:
    config = parse(f"http_server_config: {{headers: {{X-XSS-Protection: {value}}}}}", HERE)

    assert config.headers == (("X-XSS-Protection", value.strip('"')),)


def test_header_with_an_empty_value_is_not_sent() -> None:
    assert parse('http_server_config: {headers: {X-Frame-Options: ""}}', HERE).headers == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tls_server: {}", "web.yml:1: tls_server: unknown key, did you mean tls_server_config?"),
        ("tls_server_config:\n", "expected cert_file"),
        ("tls_server_config: {}", "expected cert_file"),
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
            "expected a name like TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, got 'TLS_RSA_WITH_RC4_",
        ),
        (TLS + "max_version: TLS11}", "max_version: expected at least min_version (TLS12, the"),
        (TLS + "curve_preferences: [P-256]}", "CurveP521, X25519, got 'P-256'"),
        (
            TLS + "curve_preferences: [X25519, CurveP256]}",
            "takes one curve",
        ),
        (
            TLS + "client_ca_file: a, client_ca: b}",
            "client_ca_file is given too: remove",
        ),
        (
            "tls_server_config: {cert: a, key_file: b}",
            "its name as cert_file",
        ),
        (
            "tls_server_config: {cert_file: a, key: b}",
            "its name as key_file",
        ),
        ("tls_server_config: {key_file: b}", "expected cert_file"),
        ("http_server_config: {headers: {Server: x}}", "expected one of Content-Security-Policy"),
        (
            'http_server_config: {headers: {X-Frame-Options: "a\\r\\nb"}}',
            "expected printable ASCII",
        ),
        ("http_server_config: {http2: maybe}", "expected true or false"),
        ("http_server_config: {http2: true}", "HTTP/2 is not served"),
        ("basic_auth_users: {alice: hunter2}", "expected a bcrypt hash"),
        ("basic_auth_users:\n", "it names no user: add one, or remove this line"),
        ("basic_auth_users: {}", "it names no user: add one, or remove this line"),
        (f"basic_auth_users: {{alice: {HASH.replace('$10$', '$31$')}}}", "a cost of at most 18"),
        (f"basic_auth_users: {{'a:b': '{HASH}'}}", "expected a name without a colon"),
        (TLS + "cipher_suites: [1]}", "cipher_suites: expected a list of names"),
        (TLS + "curve_preferences: x}", "curve_preferences: expected a list of names"),
        ("basic_auth_users: {alice: 1}", "basic_auth_users.alice: expected a bcrypt hash"),
        ("basic_auth_users: {alice: }", "basic_auth_users.alice: expected a bcrypt hash"),
        (
            f"basic_auth_users:\n  alice:{HASH}\n",
            "basic_auth_users: a blank is missing after the colon below it",
        ),
        ("basic_auth_users: [alice]", "basic_auth_users: expected lines like name: value below it"),
        ("rate_limit: {interval: 1s}", "expected 1 or more requests"),
        ("rate_limit: {interval: soon, burst: 1}", "expected a duration"),
        (f"rate_limit: {{interval: 1s, burst: {'9' * 400}}}", "expected a number, got '999"),
        (f"rate_limit: {{interval: 1s, burst: 0x{'f' * 5000}}}", "expected a number, got '0xff"),
        ('tls_server_config: {key_file: a, cert: "\\ud800"}', "half a character"),
        ("- x", "web.yml:1: expected lines like tls_server_config: ..., got a list"),
    ],
)
def test_wrong_or_impossible_setting_is_refused_with_its_key(text: str, complaint: str) -> None:
    assert complaint in "\n".join(problems(text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "tls_server_config: {cert_fil: a, key_file: b}",
            "web.yml:1: tls_server_config.cert_fil: unknown key, did you mean cert_file?",
        ),
        (
            "rate_limit: {interval: 1s, burst: five}",
            "web.yml:1: rate_limit.burst: expected a number, got 'five'",
        ),
    ],
)
def test_one_mistake_brings_no_second_complaint(text: str, complaint: str) -> None:
    assert problems(text) == [complaint]


def test_key_in_place_of_its_file_is_not_quoted() -> None:
    text = TLS.replace("key_file: b", 'key_file: "-----BEGIN PRIVATE KEY----- topsecret"') + "}"

    assert problems(text) == [
        "web.yml:1: tls_server_config.key_file: write it into a file, and the name of the file here"
    ]


@pytest.mark.parametrize("key", ["key", "cert", "client_ca"])
def test_secret_of_the_wrong_kind_is_not_quoted(key: str) -> None:
    text = f"tls_server_config: {{{key}: [topsecret]}}"

    assert "topsecret" not in "\n".join(problems(text))


def test_pipe_as_web_configuration_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web.yml")

    with pytest.raises(ConfigError, match=r"web.yml: it cannot be read: not a regular file"):
        load(tmp_path / "web.yml")


def test_web_configuration_of_gigabytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "web.yml").open("wb") as file:
        file.truncate(1 << 32)

    with pytest.raises(ConfigError, match=r"web.yml: it cannot be read: more than a megabyte"):
        load(tmp_path / "web.yml")


def test_missing_web_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web.yml: there is no such file"):
        load(tmp_path / "web.yml")


USERS = f"basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\n"
CLIENTS = """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "web.yml"
    path.write_text(text)
    return path


def is_accepted(folder: Path, before: str, after: str) -> bool:
    """Whether a change of the file takes effect; if not, check that nothing has changed."""
    path = write(folder, before)
    file = WebConfigFile(path)
    running = file.current()

    path.write_text(after)

    if file.current() == parse(after, folder):
        return True
    assert file.current() == running
    return False


class TestChanges:
    def test_changed_file_is_read_again_and_a_wrong_one_is_ignored(self, folder: Path) -> None:
        path = write(folder, USERS)
        file = WebConfigFile(path)

        path.write_text(USERS.replace("bob", "carol"))
        assert [name for name, _ in file.current().users] == ["alice", "carol"]
        path.write_text("basic_auth_users: {alice: hunter2}\n")
        assert [name for name, _ in file.current().users] == ["alice", "carol"]

    @pytest.mark.parametrize(
        "after",
        [
            pytest.param(f"basic_auth_users: {{carol: {HASH}}}\n", id="exchanged"),
            pytest.param(USERS.rpartition("  bob")[0], id="removed while one stays"),
            pytest.param(f"{USERS}  carol: {HASH}\n", id="added"),
            pytest.param(f"{USERS}rate_limit: {{interval: 1s, burst: 5}}\n", id="limited"),
        ],
    )
    def test_users_may_change_while_at_least_one_stays(self, after: str, folder: Path) -> None:
        assert is_accepted(folder, USERS, after)

    @pytest.mark.parametrize(
        "after",
        [
            pytest.param(CLIENTS.replace("[prometheus]", "[grafana]"), id="other names"),
            pytest.param(CLIENTS.replace("ca.crt", "new.crt"), id="another authority"),
            pytest.param(CLIENTS + "  min_version: TLS13\n", id="newest version"),
            pytest.param(CLIENTS + USERS, id="users added"),
        ],
    )
    def test_settings_of_client_certificates_may_change_while_required(
        self, after: str, folder: Path
    ) -> None:
        assert is_accepted(folder, CLIENTS, after)

    def test_optional_client_certificates_may_become_required(self, folder: Path) -> None:
        optional = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")

        assert is_accepted(folder, optional, CLIENTS)

    def test_headers_rate_limit_and_min_version_may_be_removed(self, folder: Path) -> None:
        more = (
            "  min_version: TLS13\nrate_limit: {interval: 1s, burst: 5}\n"
            "http_server_config: {headers: {X-Frame-Options: deny}}\n"
        )

        assert is_accepted(folder, CLIENTS + more, CLIENTS)

    @pytest.mark.parametrize(
        ("before", "after", "complaint"),
        [
            (USERS, "", "the file is empty"),
            (USERS, "# half saved\n", "the file is empty"),
            (USERS, "rate_limit: {interval: 1s, burst: 5}\n", "basic_auth_users: users are req"),
            (CLIENTS + USERS, CLIENTS, "basic_auth_users: users are required"),
            (CLIENTS + USERS, USERS, "tls_server_config: TLS is required until a restart"),
            (USERS, CLIENTS + USERS, "tls_server_config: TLS starts only with a restart"),
            (
                CLIENTS,
                CLIENTS.partition("  client_auth_type")[0],
                "tls_server_config.client_auth_type: it cannot be weakened",
            ),
            (
                CLIENTS,
                CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
                "tls_server_config.client_auth_type: it cannot be weakened",
            ),
            (
                CLIENTS,
                CLIENTS.partition("  client_allowed_sans")[0],
                "tls_server_config.client_allowed_sans: names are required",
            ),
            (
                CLIENTS,
                CLIENTS.replace("[prometheus]", "[]"),
                "tls_server_config.client_allowed_sans: names are required",
            ),
            (
                CLIENTS,
                CLIENTS.replace("  client_ca_file: ca.crt\n", ""),
                "tls_server_config.client_ca_file: it is required",
            ),
        ],
    )
    def test_weaker_file_is_reported_and_changes_nothing(
        self,
        before: str,
        after: str,
        complaint: str,
        folder: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        assert not is_accepted(folder, before, after)
        assert complaint in "\n".join(str(getattr(r, "error", "")) for r in caplog.records)

    @pytest.mark.parametrize("whole", [WHOLE, CLIENTS + USERS, USERS + CLIENTS])
    def test_no_beginning_of_a_file_is_weaker_than_the_whole(
        self, whole: str, folder: Path
    ) -> None:
        whole = whole.replace("/secret/", "")
        path = write(folder, whole)
        file = WebConfigFile(path)
        required = file.current()
        assert required.tls is not None

        for length in range(len(whole)):
            path.write_text(whole[:length])
            config = file.current()
            assert config.users
            assert config.tls is not None
            assert config.tls.client_auth is ssl.CERT_REQUIRED
            assert config.tls.allowed_sans
            assert config.tls.has_client_ca

    def test_inline_client_ca_may_replace_client_ca_file(self, folder: Path) -> None:
        assert is_accepted(folder, CLIENTS, CLIENTS.replace("client_ca_file", "client_ca"))

    def test_users_added_by_a_change_are_required_too(self, folder: Path) -> None:
        path = write(folder, "rate_limit: {interval: 1s, burst: 5}\n")
        file = WebConfigFile(path)
        path.write_text(USERS)
        assert file.current().users

        path.write_text("rate_limit: {interval: 1s, burst: 5}\n")

        assert [name for name, _ in file.current().users] == ["alice", "bob"]

    def test_file_that_is_missing_for_a_moment_changes_nothing(self, folder: Path) -> None:
        path = write(folder, USERS)
        file = WebConfigFile(path)

        path.unlink()
        assert file.current().users
        path.symlink_to(folder / "target")
        assert file.current().users
        (folder / "target").write_text(USERS.replace("bob", "carol"))
        assert [name for name, _ in file.current().users] == ["alice", "carol"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "tls_server_config: yes",
            "tls_server_config: expected lines like cert_file: ..., got true",
        ),
        (
            "tls_server_config: {cert_file: 5, key_file: b}",
            "tls_server_config.cert_file: expected text, got 5",
        ),
        (
            TLS + "min_version: 1.2}",
            "tls_server_config.min_version: expected one of TLS10, TLS11, TLS12, TLS13, got 1.2",
        ),
        (
            TLS + "client_auth_type: [x]}",
            (
                "tls_server_config.client_auth_type: expected one of NoClientCert, "
                "VerifyClientCertIfGiven, RequireAndVerifyClientCert, got a list"
            ),
        ),
        (
            "users: {alice: secret}",
            (
                "users: unknown key: expected one of tls_server_config, http_server_config, "
                "basic_auth_users, rate_limit"
            ),
        ),
        ("basic_auth_users:\n\talice: x", "a tab: indent with spaces"),
    ],
)
def test_one_mistake_gets_one_sentence(text: str, complaint: str) -> None:
    line = text.count("\n") + 1

    assert problems(text) == [f"web.yml:{line}: {complaint}"]


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users:\n  joe hunter2:\n",
        "basic_auth_users:\n  joe:hunter2:\n",
        "basic_auth_users joe hunter2:\n",
        "basic_auth_users=hunter2\n",
        "tls_server_config:\n  key hunter2:\n",
        "tls_server_config:\n  key:hunter2\n",
    ],
)
def test_secret_after_a_forgotten_colon_is_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path())

    assert "hunter2" not in str(caught.value)
