"""Waits until the kernel has connected to a battery, and explains a wait without a result."""

import asyncio
from dataclasses import dataclass, field
from socket import socket
from typing import Final

from exporter.ble.adapter_health import AdapterHealth
from exporter.ble.direct.connect_errors import ASK_SETTINGS, explain, explain_silence
from exporter.ble.direct.connection import Memory
from exporter.ble.direct.kernel import Kernel, Turns
from exporter.ble.direct.management import Management
from exporter.ble.direct.other_scans import OtherScans
from exporter.ble.direct.settings import Setting, open_channel, read_settings
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.wedge import Evidence, WedgeError
from exporter.ble.transport import Target
from exporter.errors import AdapterError, Cause

CANCEL_S: Final = 0.1  # for the kernel to cancel an attempt to connect


@dataclass(slots=True)
class Waiting:
    """The waits of one transport; the kernel connects to one battery at a time."""

    kernel: Kernel
    management: Management
    _turns: Turns = field(default_factory=Turns)

    async def wait(
        self, target: Target, memory: Memory, timeout_s: float, scans: OtherScans
    ) -> socket | None:
        """Return a connected socket; None: the battery did not advertise in time.

        `scans` names the adapter, and learns what these waits show of other programs' scans.

        Raises:
            AdapterError: The adapter cannot connect.
            ConnectError: The battery was there, and the connection failed.
            PairingError: The battery wants pairing.
        """
        address, adapter = target.address, scans.before
        types = memory.choose_types(target.stats.missed)
        command = self.management.command
        now = asyncio.get_running_loop().time
        wait_s = timeout_s / len(types)
        for address_type in types:
            began_s = now()
            target.stats.record_event("open", kind=address_type)
            try:
                with scans.note_wait(wait_s):
                    async with self._turns.wait(wait_s):
                        sock = await open_channel(
                            self.kernel, command, adapter, address, address_type
                        )
            except OSError as error:
                target.stats.record_event("failed", errno=error.errno)  # null: our own timeout
                if isinstance(error, TimeoutError) and error.errno is None:  # not the kernel's
                    await asyncio.sleep(CANCEL_S)
                    continue
                elapsed_s = now() - began_s
                asks = error.errno in ASK_SETTINGS
                failed = explain(
                    error,
                    address,
                    adapter=adapter.name,
                    is_up=self.kernel.is_up(adapter.name),
                    elapsed_s=elapsed_s,
                    settings=await self._read_settings(target, adapter) if asks else None,
                )
                if failed.cause is Cause.RADIO:  # it was heard, so its type is right
                    memory.learn_type(address_type)
                raise failed from None
            if target.stats.recorder is not None:
                target.stats.recorder.connected()
            memory.learn_type(address_type)
            return sock
        return None

    async def explain(
        self, target: Target, adapter: Adapter, evidence: Evidence | None
    ) -> AdapterError | None:
        """Return why the adapter received nothing; None: nothing says that it is to blame."""
        settings = await self._read_settings(target, adapter)
        if error := explain_silence(settings, adapter.name, target.address):
            return error
        if evidence is None:
            return None
        target.stats.record_event("stuck", reason=evidence.reason)
        return WedgeError(adapter.name, evidence)

    def find_evidence(
        self, before: Adapter, health: AdapterHealth, *, needs_scan: bool
    ) -> Evidence | None:
        """Return what shows that the adapter is stuck, from its counters since `before`."""
        try:
            (after,) = (one for one in self.kernel.adapters() if one.name == before.name)
            connections = self.kernel.connections(after.index)
        except (OSError, ValueError):  # pulled out: the next attempt reports it
            return None
        return health.find_evidence(before, after, connections, needs_scan=needs_scan)

    async def _read_settings(self, target: Target, adapter: Adapter) -> Setting | None:
        settings = await read_settings(self.management.command, adapter.index)
        if settings is not None:
            target.stats.record_event("settings", bits=settings.value)
        return settings
