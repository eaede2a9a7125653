"""Listening sockets and the addresses that are shown for them."""

import re

import pytest

from exporter.errors import ConfigError
from exporter.web.sockets import listen, with_port


@pytest.mark.parametrize("host", ["127.0.0.1", "", "[::1]"])
def test_port_that_the_kernel_chose_is_shown_for_port_0(host: str) -> None:
    with listen(f"{host}:0") as sock:
        port = sock.getsockname()[1]

        assert port > 0
        assert with_port(f"{host}:0", sock) == f"{host}:{port}"


def test_port_that_was_asked_for_is_shown_as_it_is() -> None:
    with listen("127.0.0.1:0") as sock:
        address = with_port("127.0.0.1:0", sock)

    with listen(address) as sock:
        assert with_port(address, sock) == address


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("12200", "with a port up to 65535, got '12200', did you mean :12200?"),
        (":65536", "expected HOST:PORT or :PORT, with a port up to 65535, got ':65536'"),
        (":http", "expected HOST:PORT"),
        ("192.0.2.1:0", "cannot listen on 192.0.2.1:0: this machine does not have this address: "),
        ("[::1", "cannot listen on [::1: this host name cannot be resolved: use an IP address"),
        ("http://localhost:0", "expected HOST:PORT or :PORT"),
        (f"{'a' * 64}.invalid:0", "this host name cannot be resolved: use an IP address"),
    ],
)
def test_address_that_cannot_be_listened_on_is_named(address: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as raised:
        listen(address)

    assert "attempting to bind" not in str(raised.value)
