"""Which clients count as one, and how many connections this process may have."""

import resource

import pytest

from exporter.web.limits import RESERVED_FDS, client_key, limits_here


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
    ],
    ids=["IPv4", "IPv4 in IPv6", "IPv6", "UNIX socket"],
)
def test_clients_of_one_address_or_network_share_a_key(address: str, key: str) -> None:
    assert client_key(address) == key


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised_to"),
    [
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, 500, None, id="no limit"),
        pytest.param(4096, 4096, 500, None, id="enough"),
        pytest.param(200, resource.RLIM_INFINITY, 500, 500 + 2 * RESERVED_FDS, id="raised"),
        pytest.param(200, 300, 300 - RESERVED_FDS, 300, id="raised to the hard limit"),
    ],
)
def test_soft_limit_of_open_files_is_raised_as_far_as_needed(
    soft: int,
    hard: int,
    connections: int,
    raised_to: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: raised.append(limits))

    assert limits_here(500).connections == connections
    assert raised == ([] if raised_to is None else [(raised_to, hard)])
