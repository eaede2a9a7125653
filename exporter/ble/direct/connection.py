"""An open connection over the direct transport: the battery's profiles, and links through them."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from exporter.ble.direct.att import AttError, checked, write_command, write_request
from exporter.ble.direct.channel import AttChannel, NoAnswerError
from exporter.ble.direct.discovery import Handles, Table, discover
from exporter.ble.gatt import choose_profiles
from exporter.ble.notifications import Notifications
from exporter.ble.timeouts import FULL_LOOKS
from exporter.ble.transport import Target
from exporter.errors import Cause, LinkLostError, PairingError, ProfileError
from exporter.protocol.profiles import PROFILES

log = logging.getLogger(__name__)

DOUBTS_IN: Final = 4  # short looks, of which one tries the other type of the address
SUBSCRIBE: Final = b"\x01\x00"


@dataclass(slots=True)
class Memory:
    """What earlier connections to one battery have found, each use verifies it; its style."""

    address_types: Sequence[int]  # the likelier one first
    is_type_known: bool = False  # the battery was heard with it
    table: Table | None = None
    is_gentle: bool = False  # the next connection

    def describe(self) -> dict[str, Any]:
        """Return types and table as JSON has them, for recordings."""
        return {
            "types": list(self.address_types),
            "is_type_known": self.is_type_known,
            "table": None if self.table is None else asdict(self.table),
        }

    def learn_type(self, address_type: int) -> None:
        """Record the type with which the battery was heard."""
        self.address_types = sorted(self.address_types, key=lambda one: one != address_type)
        self.is_type_known = True

    def choose_types(self, missed: int) -> Sequence[int]:
        """Return the types of the address to wait with, in this order, after so many misses.

        A short look has the time for one of them. What is known may be wrong by now.
        """
        if missed >= FULL_LOOKS:
            turns = DOUBTS_IN if self.is_type_known else len(self.address_types)
            other = missed % turns == turns - 1
            return [self.address_types[other]]
        if missed == 0:
            return self.address_types[:1] if self.is_type_known else self.address_types
        # The look may end early: what came last before is first now.
        return self.address_types if self.is_type_known else self.address_types[::-1]


async def read_table(channel: AttChannel, memory: Memory) -> Table:
    """Discover the GATT table of a battery, and remember it.

    Raises:
        PairingError: The battery wants pairing.
        LinkLostError: The connection ended, or the battery refused.
    """
    memory.table = await channel.run(discover(PROFILES))
    log.debug("discovered", extra={"address": channel.address, "table": memory.table})
    return memory.table


class DirectConnection:
    """Implements `Connection`."""

    def __init__(
        self,
        channel: AttChannel,
        table: Table,
        memory: Memory,
        target: Target,
    ) -> None:
        """Choose among the profiles in a GATT table, which may be one from `memory`.

        The caller closes the channel. `memory` keeps a table that is discovered again.

        Raises:
            ProfileError: The table holds no profile, or not the configured one.
        """
        self._channel = channel
        self._memory = memory
        self._stats = target.stats
        self._table = table
        self.adapter = channel.adapter
        try:
            self.profiles = tuple(choose_profiles(table.profiles, table.services, target.profile))
        except ProfileError:
            memory.table = None  # an incomplete table may be a passing fault
            raise

    async def open(
        self, profile: str, early: bytes = b"", *, other_write: bool = False
    ) -> "DirectLink":
        """Subscribe to the notifications of one profile; see `Connection`.

        If the battery refuses remembered handles, they are discovered again.
        """
        link = DirectLink(
            self._channel,
            self._table.profiles[profile],
            is_gentle=self._memory.is_gentle,
            other_write=other_write,
        )
        if early and not link.is_gentle and link.writes_at_once:
            self._stats.requests += 1
            await link.write(early)
            link.early_sent = True
        try:
            try:
                await self._subscribe(link)
            except AttError as error:
                log.debug("handles are discovered again", extra={"error": str(error)})
                link.handles = await self._rediscover(profile)
                await self._subscribe(link)
        except LinkLostError as error:
            raise LinkLostError(f"subscribe: {error}", error.cause) from error
        return link

    async def _subscribe(self, link: "DirectLink") -> None:
        has_notified = False

        def notified(value: bytes) -> None:
            nonlocal has_notified
            has_notified = True
            self._memory.table = self._table
            link.notifications.add(value)

        self._channel.listen(link.handles.notify, notified)
        request = write_request(link.handles.subscription, SUBSCRIBE)
        try:
            checked(await self._channel.request(request))
        except NoAnswerError:
            self._memory.table = None
            raise
        if not has_notified:  # without a notification the remembered handles may be stale
            self._memory.table = None

    async def _rediscover(self, profile: str) -> Handles:
        self._table = await read_table(self._channel, self._memory)
        if profile not in self._table.profiles:
            raise LinkLostError(f"profile {profile} is not there any more", Cause.GATT)
        return self._table.profiles[profile]


class DirectLink:
    """Implements `Link`."""

    def __init__(
        self, channel: AttChannel, handles: Handles, *, is_gentle: bool, other_write: bool
    ) -> None:
        self._channel = channel
        self.handles = handles
        self._other_write = other_write
        self.is_gentle = is_gentle
        self.early_sent = False
        self.notifications = Notifications()
        self.receive = self.notifications.receive
        channel.on_lost.append(self.notifications.end)

    @property
    def writes_at_once(self) -> bool:
        """Whether a write needs no response."""
        return self.handles.can_write_command is not self._other_write

    async def write(self, data: bytes) -> None:
        """Send one request, without response where that is offered, or else `other_write`.

        Raises:
            LinkLostError: The connection ended, or the battery refused.
        """
        try:
            if self.writes_at_once:
                await self._channel.send(write_command(self.handles.write, data))
            else:
                checked(await self._channel.request(write_request(self.handles.write, data)))
        except (LinkLostError, PairingError) as error:
            raise LinkLostError(f"write: {error}", error.cause) from error
