"""TLS contexts made from settings and certificate files, with handshakes in memory."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from exporter.config.tls import TlsConfig, make_tls, names_in
from exporter.config.tls_errors import explain_pair
from exporter.config.web import WebConfigFile
from exporter.errors import ConfigError
from tests.support.web_config import TLS, USERS, write_certificate


def settings(folder: Path, **others: Any) -> TlsConfig:
    files = {"cert_file": folder / "server.crt", "key_file": folder / "server.key"}
    return TlsConfig(**(files | others))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Any, ssl.SSLObject]:
    """Return both sides of a connection. Raises SSLError when one refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname="camper")
    for side in (asking, serving, asking, serving):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return serving, asking


def make_client(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return a client that shows a certificate with these names, or none."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if names:
        authority.issue_cert(*names).configure_cert(context)
    return context


class TestContext:
    def test_ciphers_curve_and_version_are_those_configured(
        self, authority: trustme.CA, folder: Path
    ) -> None:
        tls = settings(
            folder,
            max_version=ssl.TLSVersion.TLSv1_2,
            ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256",),
            curve="prime256v1",
        )
        context, _ = make_tls(tls)

        serving, _ = shake_hands(context, make_client(authority))

        assert serving.cipher()[:2] == ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2")

    @pytest.mark.parametrize("prefer", [True, False])
    def test_server_prefers_its_own_ciphers_as_configured(self, prefer: bool, folder: Path) -> None:
        context, _ = make_tls(settings(folder, prefer_server_ciphers=prefer))

        assert bool(context.options & ssl.OP_CIPHER_SERVER_PREFERENCE) is prefer

    @pytest.mark.parametrize("is_inline", [True, False])
    def test_client_certificate_of_another_authority_is_refused(
        self, is_inline: bool, authority: trustme.CA, folder: Path
    ) -> None:
        text = authority.cert_pem.bytes().decode()
        where = {"client_ca": text} if is_inline else {"client_ca_file": folder / "ca.crt"}
        context, _ = make_tls(settings(folder, client_auth=ssl.CERT_REQUIRED, **where))
        stranger = make_client(authority)
        trustme.CA().issue_cert("prometheus").configure_cert(stranger)

        shake_hands(context, make_client(authority, "prometheus"))
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(context, stranger)

    def test_without_client_ca_the_authorities_of_the_machine_count(
        self, authority: trustme.CA, folder: Path
    ) -> None:
        context, _ = make_tls(settings(folder, client_auth=ssl.CERT_REQUIRED))

        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(context, make_client(authority, "prometheus"))

    @pytest.mark.parametrize(
        ("others", "complaint"),
        [
            (
                {"cert_file": Path("a\0b")},
                r"cert_file: 'a\\x00b': this cannot be the name",
            ),
            (
                {"key_file": Path("/none")},
                "tls_server_config.key_file: /none: there is no",
            ),
            (
                {"key_file": Path(__file__)},
                "key_file: .*test_tls.py: expected a private key",
            ),
            (
                {"ciphers": ("bogus",)},
                "cipher_suites: .* refuses it: no cipher can be selected$",
            ),
            (
                {"curve": "bogus"},
                "curve_preferences: .* refuses it: unknown elliptic curve",
            ),
            (
                {"client_auth": ssl.CERT_REQUIRED, "client_ca": "ä"},
                "client_ca: expected a cert",
            ),
            (
                {"client_auth": ssl.CERT_REQUIRED, "client_ca": "x"},
                "client_ca: expected a cert",
            ),
            (
                {"cert_file": Path(__file__)},
                "cert_file: .*test_tls.py: expected a cert",
            ),
        ],
    )
    def test_settings_that_openssl_refuses_are_named(
        self, others: dict[str, Any], complaint: str, folder: Path
    ) -> None:
        with pytest.raises(ConfigError, match=complaint):
            make_tls(settings(folder, **others))

    def test_key_of_another_certificate_is_named(self, folder: Path) -> None:
        trustme.CA().issue_cert("camper").private_key_pem.write_to_path(folder / "other.key")

        with pytest.raises(ConfigError, match=r"key_file: .*other.key: the key does not belong"):
            make_tls(settings(folder, key_file=folder / "other.key"))

    def test_encrypted_key_is_named_with_the_command_that_decrypts_it(self, folder: Path) -> None:
        key = load_pem_private_key((folder / "server.key").read_bytes(), None)
        pkcs8, password = PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        (folder / "closed.key").write_bytes(key.private_bytes(Encoding.PEM, pkcs8, password))

        with pytest.raises(ConfigError, match=r"closed.key: the key is encrypted: openssl pkey"):
            make_tls(settings(folder, key_file=folder / "closed.key"))

    def test_place_of_a_wrong_setting_is_named(self, folder: Path) -> None:
        path = folder / "web.yml"
        path.write_text(TLS.replace("server.crt", "none.crt"))

        with pytest.raises(ConfigError) as caught:
            WebConfigFile(path)

        assert caught.value.problems == (
            f"{path}:2: tls_server_config.cert_file: {folder}/none.crt: there is no such file",
        )

    def test_other_reason_is_given_in_the_words_of_openssl(self, folder: Path) -> None:
        error = ssl.SSLError(1, "[SSL: CA_MD_TOO_WEAK] ca md too weak")
        error.reason = "CA_MD_TOO_WEAK"
        certificate, key = folder / "server.crt", folder / "server.key"

        wrong = explain_pair(error, certificate, key)

        assert wrong == ("cert_file", f"{certificate}: OpenSSL refuses it: ca md too weak")

    def test_small_key_is_named_with_the_size_that_is_needed(self, folder: Path) -> None:
        error = ssl.SSLError(1, "[SSL: EE_KEY_TOO_SMALL] ee key too small")
        error.reason = "EE_KEY_TOO_SMALL"

        _, text = explain_pair(error, folder / "server.crt", folder / "server.key")

        assert text.endswith("server.crt: the key is too small: make one with 2048 bits for RSA, "
                             "or with 256 for ECDSA")  # fmt: skip

    def test_damaged_certificate_is_reported_without_the_words_of_openssl(
        self, folder: Path
    ) -> None:
        text = (folder / "server.crt").read_text()
        (folder / "cut.crt").write_text(text[: len(text) // 2])

        with pytest.raises(ConfigError, match=r"cut.crt, .*server.key: one of both files is dama"):
            make_tls(settings(folder, cert_file=folder / "cut.crt"))

    def test_certificate_that_is_gone_since_it_was_read_is_named(self, folder: Path) -> None:
        key, text = explain_pair(OSError(), folder / "none.crt", folder / "server.key")

        assert (key, text.partition(":")[0]) == ("cert_file", f"{folder}/none.crt")


class TestAllowedNames:
    @pytest.mark.parametrize(
        ("names", "is_admitted"),
        [
            (["prometheus.example"], True),
            (["10.0.0.7"], True),
            (["grafana.example", "owner@example.org"], True),
            (["grafana.example"], False),
            ([], True),  # the context decides whether a certificate is required
        ],
    )
    def test_client_certificate_must_have_an_allowed_name(
        self,
        names: list[str],
        is_admitted: bool,
        authority: trustme.CA,
        folder: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        tls = settings(
            folder,
            client_auth=ssl.CERT_OPTIONAL,
            client_ca_file=folder / "ca.crt",
            allowed_sans=("prometheus.example", "10.0.0.7", "owner@example.org"),
        )
        context, admit = make_tls(tls)
        serving, _ = shake_hands(context, make_client(authority, *names))

        assert admit(serving) is is_admitted
        assert ("client certificate refused" in caplog.text) is not is_admitted

    def test_any_name_is_allowed_when_none_is_configured(
        self, authority: trustme.CA, folder: Path
    ) -> None:
        tls = settings(folder, client_auth=ssl.CERT_REQUIRED, client_ca_file=folder / "ca.crt")
        context, admit = make_tls(tls)
        serving, _ = shake_hands(context, make_client(authority, "anybody.example"))

        assert admit(serving)

    def test_malformed_address_in_a_certificate_is_no_name(self) -> None:
        names = (
            ("IP Address", "<invalid>"),
            ("IP Address", "0:0:0:0:0:0:0:1"),
            ("DNS", "camper"),
            ("DirName", "x"),
        )

        assert names_in({"subjectAltName": names}) == {"::1", "camper"}


class TestChanges:
    def names_served(self, file: WebConfigFile, authority: trustme.CA) -> set[str]:
        tls = file.current_tls()
        assert tls is not None
        client = make_client(authority)
        client.check_hostname = False
        _, asking = shake_hands(tls[0], client)
        certificate = asking.getpeercert()
        assert certificate is not None
        return names_in(certificate)

    def test_without_tls_in_the_file_there_is_no_context(self, folder: Path) -> None:
        (folder / "web.yml").write_text(USERS)

        assert WebConfigFile(folder / "web.yml").current_tls() is None

    def test_context_stays_the_same_while_no_file_changes(self, folder: Path) -> None:
        (folder / "web.yml").write_text(TLS)
        file = WebConfigFile(folder / "web.yml")

        assert file.current_tls() is file.current_tls()

    def test_renewed_certificate_is_used(
        self, authority: trustme.CA, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        (folder / "web.yml").write_text(TLS)
        file = WebConfigFile(folder / "web.yml")
        assert self.names_served(file, authority) == {"camper"}

        write_certificate(authority, folder, "renewed")

        assert self.names_served(file, authority) == {"renewed"}
        assert "certificates read again" in caplog.text

    def test_broken_certificate_is_reported_and_the_old_one_stays(
        self, authority: trustme.CA, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder / "web.yml").write_text(TLS)
        file = WebConfigFile(folder / "web.yml")

        (folder / "server.crt").write_text("half")

        assert self.names_served(file, authority) == {"camper"}
        assert "certificates not read again, the old ones stay" in caplog.text

    def test_changed_settings_make_a_new_context(self, folder: Path) -> None:
        (folder / "web.yml").write_text(TLS)
        file = WebConfigFile(folder / "web.yml")
        before = file.current_tls()

        (folder / "web.yml").write_text(f"{TLS}  min_version: TLS13\n")

        after = file.current_tls()
        assert before is not None
        assert after is not None
        assert before[0].minimum_version is ssl.TLSVersion.TLSv1_2
        assert after[0].minimum_version is ssl.TLSVersion.TLSv1_3
