"""Bluetooth sockets, and what this user may do."""

import errno
from pathlib import Path

import pytest

from exporter.doctor.check import State
from exporter.doctor.rights import Rights, check_rights, check_sockets, read_rights
from tests.support.machines import CONTAINER, FakeMachine

ALLOWED = Rights(channel_errno=None, query_errno=None, capabilities=0)


def refused(number: int) -> Rights:
    return Rights(channel_errno=number, query_errno=number, capabilities=0)


def test_each_kind_of_socket_is_tried_and_its_errno_kept(tmp_path: Path) -> None:
    def forbidden() -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    rights = read_rights(CONTAINER.write(tmp_path), lambda: None, forbidden)

    assert (rights.channel_errno, rights.query_errno) == (None, errno.EPERM)
    assert not rights.has_sockets
    assert rights.seccomp
    assert rights.capabilities == 0xA80425FB


def test_user_namespace_is_recognised(tmp_path: Path) -> None:
    machine = FakeMachine(files={"proc/self/uid_map": "         0       1000          1\n"})

    rights = read_rights(machine.write(tmp_path), lambda: None, lambda: None)

    assert rights.user_namespace


def test_sockets_that_open_allow_the_direct_link() -> None:
    check = check_sockets(ALLOWED, is_needed=True, in_container=False)

    assert check.state is State.OK


@pytest.mark.parametrize(("is_needed", "state"), [(True, State.FAIL), (False, State.NOTE)])
def test_missing_sockets_fail_only_where_the_direct_link_is_configured(
    is_needed: bool, state: State
) -> None:
    check = check_sockets(refused(errno.EAFNOSUPPORT), is_needed=is_needed, in_container=True)

    assert check.state is state
    assert check.advice is not None
    assert check.advice.startswith("run the container with the host's network: --network host")


@pytest.mark.parametrize(
    ("rights", "advice"),
    [
        (refused(errno.EAFNOSUPPORT), "modprobe bluetooth"),
        (
            Rights(
                channel_errno=errno.EAFNOSUPPORT, query_errno=None, capabilities=0, seccomp=True
            ),
            "RestrictAddressFamilies",
        ),
        (refused(errno.EPERM), "seccomp profile or a sandbox"),
        (
            Rights(
                channel_errno=errno.EACCES,
                query_errno=None,
                capabilities=0,
                confinement="docker-default (enforce)",
            ),
            "docker-default",
        ),
        (refused(errno.ENOMEM), "dmesg"),
    ],
)
def test_advice_depends_on_why_there_are_no_sockets(rights: Rights, advice: str) -> None:
    check = check_sockets(rights, is_needed=False, in_container=False)

    assert check.advice is not None
    assert advice in check.advice


@pytest.mark.parametrize(
    ("rights", "why", "state", "text"),
    [
        (ALLOWED, None, State.OK, "about 0.2 s"),
        (ALLOWED, "CAP_NET_ADMIN is not given", State.NOTE, "docs/permissions.md"),
        (
            Rights(channel_errno=None, query_errno=None, capabilities=1 << 12),
            "CAP_NET_ADMIN is not given",
            State.NOTE,
            "user namespace",
        ),
        (refused(errno.EAFNOSUPPORT), "no sockets", State.NOTE, "not needed"),
    ],
)
def test_capability_is_what_the_kernel_says(
    rights: Rights, why: str | None, state: State, text: str
) -> None:
    check = check_rights(rights, why)

    assert check.state is state
    assert text in check.text
    assert check.facts["net_admin"] is (why is None)
