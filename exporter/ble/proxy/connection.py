"""An open connection through a proxy: the battery's profiles, and links through them."""

from exporter.ble.gatt import choose_profiles
from exporter.ble.notifications import Notifications
from exporter.ble.proxy.peripheral import Peripheral
from exporter.ble.proxy.table import Handles, describe, find_profiles
from exporter.ble.transport import Target
from exporter.errors import BmsError, LinkLostError
from exporter.protocol.profiles import PROFILES


class ProxyConnection:
    """Implements `Connection`."""

    def __init__(self, peripheral: Peripheral, target: Target, *, is_gentle: bool) -> None:
        self._peripheral = peripheral
        self._target = target
        self._is_gentle = is_gentle
        self._links: list[ProxyLink] = []
        self.adapter: str = peripheral.session.name
        peripheral.on_lost.append(self._note_lost)

    async def discover(self, deadline_s: float) -> None:
        """Read the GATT table, and choose among the profiles in it.

        Raises:
            BmsError: It cannot be read, holds no profile, or not the configured one.
        """
        services = await self._peripheral.read_table(deadline_s)
        if (recorder := self._target.stats.recorder) is not None:
            recorder.services(describe(services))
        self._present = choose_profiles(
            find_profiles(services), (one.uuid for one in services), self._target.profile
        )
        self.profiles = tuple(self._present)

    async def open(
        self, profile: str, early: bytes = b"", *, other_write: bool = False
    ) -> "ProxyLink":
        """Subscribe to the notifications of one profile; see `Connection`."""
        link = ProxyLink(
            self._peripheral,
            profile,
            self._present[profile],
            self._target,
            other_write=other_write,
            is_gentle=self._is_gentle,
        )
        self._links.append(link)
        if early and link.writes_at_once and not self._is_gentle:
            self._target.stats.requests += 1
            await link.write(early)
            link.early_sent = True
        await link.subscribe()
        return link

    def end(self, why: str) -> None:
        """Let every link fail with this reason: nothing more can arrive."""
        for link in self._links:
            link.notifications.end(why)

    def _note_lost(self) -> None:
        if self._target.stats.recorder is not None:
            self._target.stats.recorder.closed("battery")
        self.end("the connection ended in mid-poll")


class ProxyLink:
    """Implements `Link`."""

    def __init__(  # noqa: PLR0913 - all that its requests need, by name
        self,
        peripheral: Peripheral,
        profile: str,
        handles: Handles,
        target: Target,
        *,
        other_write: bool,
        is_gentle: bool,
    ) -> None:
        self._peripheral = peripheral
        self._uuids = PROFILES[profile]
        self._handles = handles
        self._stats = target.stats
        self.writes_at_once = handles.can_write_command is not other_write
        self.is_gentle = is_gentle
        self.early_sent = False
        self.notifications = Notifications()
        self.receive = self.notifications.receive

    async def subscribe(self) -> None:
        """Request notifications. Raises BmsError."""
        if self._stats.recorder is not None:
            self._stats.recorder.subscribing(self._uuids.notify)
        try:
            await self._peripheral.subscribe(self._handles, self._notified)
        except BmsError as error:
            self._stats.record_event("refused", doing="subscribe", error=type(error).__name__)
            raise
        self._stats.record_event("subscribed")

    def _notified(self, data: bytes) -> None:
        if self._stats.recorder is not None:
            self._stats.recorder.notified(self._uuids.notify, data)
        self.notifications.add(data)

    async def write(self, data: bytes) -> None:
        """Send one request, without response if possible. Raises LinkLostError if that failed."""
        response = not self.writes_at_once
        if self._stats.recorder is not None:
            self._stats.recorder.written(self._uuids.write, data, response=response)
        try:
            await self._peripheral.write(self._handles.write, data, response=response)
        except BmsError as error:
            self._stats.record_event("refused", doing="write", error=type(error).__name__)
            raise LinkLostError(str(error), error.cause) from error
        if response:
            self._stats.record_event("confirmed")
