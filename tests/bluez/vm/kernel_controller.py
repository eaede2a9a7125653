"""The controller that the kernel sees, and the link between it and the batteries' controllers."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink

from tests.support.air_faults import COLLISION, LOST, NO_RESOURCES, NOT_ESTABLISHED, AirFaults

PUBLIC: Final = hci.Address.PUBLIC_DEVICE_ADDRESS
ADAPTER: Final = hci.Address("00:1B:DC:0F:AA:01", PUBLIC)
ATT_CHANNEL: Final = b"\x04\x00"
NOTIFICATION: Final = 0x1B
MTU_REQUEST: Final = 0x02
EVENTS_UNTIL_LOST: Final = 6  # connection events without an answer, by the specification
UNIT_S: Final = 0.00125  # of connection intervals
DIRECTED: Final = 1  # high duty cycle directed advertising
DIRECTED_S: Final = 1.28


def say(*words: object) -> None:
    """Log one line."""
    print(f"[{asyncio.get_running_loop().time():10.3f}]", *words, flush=True)


def later(work: Any) -> None:
    """Start work in the background; log its exception."""
    task = asyncio.ensure_future(work)
    UNDERWAY.add(task)
    task.add_done_callback(ended)


def ended(task: asyncio.Future[Any]) -> None:
    UNDERWAY.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        say("failed:", type(error).__name__, error)


UNDERWAY: Final[set[asyncio.Future[Any]]] = set()


@dataclass(slots=True)
class Traffic:
    """The ATT PDUs to and from one battery, without the headers of the layers below."""

    pdus: Counter[int] = field(default_factory=Counter)  # by opcode
    size: int = 0  # bytes
    notified_s: float = 0.0  # when the last notification arrived, by the loop's clock

    def add(self, l2cap: bytes, arrives_s: float) -> None:
        if l2cap[2:4] == ATT_CHANNEL:
            self.pdus[l2cap[4]] += 1
            self.size += len(l2cap) - 4
            if l2cap[4] == NOTIFICATION:
                self.notified_s = arrives_s


class Link(LocalLink):
    """Bumble's link, with the time that packets take, and with fixes that Linux needs."""

    def __init__(self, *, interval_true: bool) -> None:
        super().__init__()
        self.interval_true = interval_true
        self._kernel: KernelController | None = None
        self._intervals: dict[hci.Address, tuple[float, float]] = {}  # seconds, first event
        self._last: dict[Controller, float] = {}
        self._traffic: dict[hci.Address, Traffic] = {}
        self.faults = AirFaults()
        self.failing: list[int] = []  # HCI errors of the next connections
        self._has_mtu: set[hci.Address] = set()  # the peers of connections that exchanged it

    def set_faults(self, faults: AirFaults) -> None:
        self.faults = faults
        self.failing = faults.failing()

    def lose(self, peripheral: Controller) -> None:
        """End a battery's connection on both sides, as their supervision timeouts do."""
        kernel = self._kernel
        for connection in list(kernel.le_connections.values() if kernel else ()):
            if connection.peer_address == peripheral.public_address:
                kernel.on_le_disconnected(connection, LOST)
        for connection in list(peripheral.le_connections.values()):
            peripheral.on_le_disconnected(connection, LOST)

    def _is_ignored(self, peer: hci.Address, l2cap: bytes) -> bool:
        """Return whether the battery ignores a request, as it comes before that for the MTU."""
        if not self.faults.needs_mtu or l2cap[2:4] != ATT_CHANNEL:
            return False
        if l2cap[4] == MTU_REQUEST:
            self._has_mtu.add(peer)
        return peer not in self._has_mtu

    def attach(self, kernel: "KernelController") -> None:
        self._kernel = kernel

    def note_interval(self, peer: hci.Address, units: int) -> None:
        self._intervals[peer] = (units * UNIT_S, asyncio.get_running_loop().time())

    def note_connection(self, peer: hci.Address) -> float:
        """Begin a connection; return the interval that the host chose for it, in seconds."""
        self._has_mtu.discard(peer)
        return self._intervals[peer][0]

    def interval_s(self, peer: hci.Address) -> float:
        """Return the connection interval that the host chose last, or 0 if packets do not wait."""
        return self._intervals.get(peer, (0.05, 0.0))[0] if self.interval_true else 0.0

    def traffic(self, peer: hci.Address) -> Traffic:
        return self._traffic.setdefault(peer, Traffic())

    def _delay_s(self, peer: hci.Address, now_s: float) -> float:
        """Return the time until the next connection event."""
        if not self.interval_true:
            return 0.0
        interval_s, first_s = self._intervals.get(peer, (0.05, now_s))
        return interval_s - (now_s - first_s) % interval_s

    def send_acl_data(
        self, sender_controller: Any, destination_address: Any, transport: Any, data: Any
    ) -> None:
        """Carry data with the connection's real address; Bumble's own method says random."""
        if transport != PhysicalTransport.LE:
            super().send_acl_data(sender_controller, destination_address, transport, data)
            return
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is None or receiver not in self.controllers:
            return  # out of range
        loop = asyncio.get_running_loop()
        from_kernel = sender_controller is self._kernel
        peer = destination_address if from_kernel else sender_controller.public_address
        if from_kernel and self._is_ignored(peer, data):
            return
        when_s = loop.time() + self._delay_s(peer, loop.time())
        when_s = max(when_s, self._last.get(receiver, 0.0) + 1e-4)  # keeps the order
        self._last[receiver] = when_s
        self.traffic(peer).add(data, when_s)
        loop.call_at(when_s, receiver.on_link_acl_data, connection.self_address, transport, data)

    def send_ll_control_pdu(self, sender_address: Any, receiver_address: Any, packet: Any) -> None:
        try:
            super().send_ll_control_pdu(sender_address, receiver_address, packet)
        except Exception as error:  # noqa: BLE001 - Bumble raises it if the receiver is gone
            say("lost", type(packet).__name__, error)


class Source:
    """The source of the kernel's packets for the controller."""

    sink: Any = None

    def set_packet_sink(self, sink: Any) -> None:
        self.sink = sink


class Sink:
    """The sink for the controller's own packets."""

    transport: asyncio.WriteTransport | None = None

    def on_packet(self, packet: bytes) -> None:
        if self.transport is not None:
            self.transport.write(bytes(packet))


FEATURES: Final = (
    hci.LeFeatureMask.LE_ENCRYPTION
    | hci.LeFeatureMask.CONNECTION_PARAMETERS_REQUEST_PROCEDURE
    | hci.LeFeatureMask.EXTENDED_REJECT_INDICATION
    | hci.LeFeatureMask.PERIPHERAL_INITIATED_FEATURE_EXCHANGE
    | hci.LeFeatureMask.LE_PING
    | hci.LeFeatureMask.LE_DATA_PACKET_LENGTH_EXTENSION
)


# What Linux asks a chip with classic Bluetooth, and Bumble does not know: the answers after the
# status. Voice setting, number of access codes, the general one; event filter, accept timeout.
CLASSIC_ANSWERS: Final = {
    0x0C25: bytes(2),
    0x0C38: b"\x01",
    0x0C39: b"\x01\x33\x8b\x9e",
    0x0C05: b"",
    0x0C16: b"",
}
EXTENDED_COMMANDS: Final = {
    hci.HCI_LE_SET_EXTENDED_SCAN_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_ENABLE_COMMAND,
    hci.HCI_LE_EXTENDED_CREATE_CONNECTION_COMMAND,
}


class KernelController(Controller):
    """The controller that Linux sees, with Bumble's gaps filled.

    It has Bluetooth 4.2, Low Energy only; or 5.0 and classic Bluetooth, with the commands that
    Linux then uses to scan and to connect.
    """

    le_features = FEATURES

    def __init__(self, link: Link, source: Source, sink: Sink) -> None:
        super().__init__(
            "linux", host_source=source, host_sink=sink, link=link, public_address=ADAPTER
        )
        self._air = link
        self._seen: set[tuple[bytes, bytes]] = set()
        self._asked_by_host = False
        self._failing: dict[int, int] = {}  # HCI errors of connections, by handle

    @property
    def _has_extended(self) -> bool:
        return bool(self.le_features & hci.LeFeatureMask.LE_EXTENDED_ADVERTISING)

    def become(self, chip: str) -> None:
        """Be another chip from now on; Linux asks for it when the adapter is plugged in."""
        self.le_features = FEATURES
        self.lmp_features = Controller.lmp_features
        self.supported_commands = set(Controller.supported_commands)
        if chip == "5.0":
            self.lmp_features &= ~hci.LmpFeatureMask.BR_EDR_NOT_SUPPORTED
            self.le_features |= hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
            self.supported_commands |= EXTENDED_COMMANDS

    def send_hci_packet(self, packet: Any) -> None:
        """Send a packet to Linux, which waits for another event from a chip with 5.0."""
        if self._air.faults.deaf:
            return
        if self._has_extended and isinstance(packet, hci.HCI_LE_Connection_Complete_Event):
            packet = hci.HCI_LE_Enhanced_Connection_Complete_Event(
                status=packet.status,
                connection_handle=packet.connection_handle,
                role=packet.role,
                peer_address_type=packet.peer_address_type,
                peer_address=packet.peer_address,
                local_resolvable_private_address=hci.Address.ANY,
                peer_resolvable_private_address=hci.Address.ANY,
                connection_interval=packet.connection_interval,
                peripheral_latency=packet.peripheral_latency,
                supervision_timeout=packet.supervision_timeout,
                central_clock_accuracy=packet.central_clock_accuracy,
            )
        super().send_hci_packet(packet)

    def create_le_connection(self, peer_address: Any) -> None:
        """Connect to a battery that has advertised, or let that fail without the battery."""
        loop = asyncio.get_running_loop()
        interval_s = self._air.note_connection(peer_address)
        if self._air.failing:
            self._failing[self.allocate_connection_handle()] = self._air.failing.pop(0)
        super().create_le_connection(peer_address)
        if interval_s * 1000 < self._air.faults.min_interval_ms:
            peer = self._air.find_le_controller(peer_address)
            loop.call_later(2 * EVENTS_UNTIL_LOST * interval_s, self._air.lose, peer)

    def send_advertising_pdu(self, packet: Any) -> None:
        """Send a packet unless it begins a connection that will fail."""
        connection = self.le_connections.get(getattr(packet, "advertiser_address", None))
        if connection is None or connection.handle not in self._failing:
            super().send_advertising_pdu(packet)

    def on_hci_le_read_remote_features_command(self, command: Any) -> None:
        """Ask the battery; in a connection that will fail, tell Linux so after some events."""
        connection = self.find_le_connection_by_handle(command.connection_handle)
        reason = self._failing.pop(command.connection_handle, None)
        if reason is None and connection is not None:
            peer = self._air.find_le_controller(connection.peer_address)
            if peer is not None and self.public_address not in peer.le_connections:
                reason = NOT_ESTABLISHED  # it stopped advertising in this moment
        if reason is None:
            super().on_hci_le_read_remote_features_command(command)
            return
        self._send_hci_command_status(hci.HCI_COMMAND_STATUS_PENDING, command.op_code)
        wait_s = EVENTS_UNTIL_LOST * self._air.note_connection(connection.peer_address)
        asyncio.get_running_loop().call_later(wait_s, self._fail, connection, reason)

    def _fail(self, connection: Any, reason: int) -> None:
        """End a connection as chips do: the procedure that is under way fails first."""
        if self.le_connections.get(connection.peer_address) is not connection:
            return
        say("failed to establish", connection.peer_address, f"{reason:#04x}")
        self.send_hci_packet(
            hci.HCI_LE_Read_Remote_Features_Complete_Event(
                status=reason, connection_handle=connection.handle, le_features=bytes(8)
            )
        )
        self.on_le_disconnected(connection, reason)

    def on_hci_reset_command(self, command: Any) -> Any:
        self.le_scan_enable = False
        self.pending_le_connection = None
        self._failing.clear()
        for connection in list(self.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(0x08))
        self.le_connections.clear()
        return super().on_hci_reset_command(command)

    def on_hci_disconnect_command(self, command: Any) -> Any:
        """Disconnect: this side sees 0x16 (by local host), the other one the command's reason."""
        self._asked_by_host = True
        try:
            return super().on_hci_disconnect_command(command)
        finally:
            self._asked_by_host = False

    def on_le_disconnected(self, connection: Any, reason: int) -> None:
        if self._asked_by_host:
            reason = hci.HCI_ErrorCode.CONNECTION_TERMINATED_BY_LOCAL_HOST_ERROR
        super().on_le_disconnected(connection, reason)

    def on_hci_le_set_scan_enable_command(self, command: Any) -> Any:
        self._seen = set()
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_set_extended_scan_enable_command(self, command: Any) -> Any:
        self._seen = set()
        return super().on_hci_le_set_extended_scan_enable_command(command)

    def on_advertising_pdu(self, pdu: Any) -> None:
        """Filter duplicates as a chip does, which saves time on the emulated processor."""
        if self.le_scan_enable and self.filter_duplicates and self.pending_le_connection is None:
            key = (bytes(pdu.advertiser_address), bytes(pdu.data))
            if key in self._seen:
                return
            self._seen.add(key)
        super().on_advertising_pdu(pdu)

    def on_hci_le_create_connection_command(self, command: Any) -> Any:
        if not self._is_refused(command):
            self._air.note_interval(command.peer_address, command.connection_interval_max)
            super().on_hci_le_create_connection_command(command)

    def on_hci_le_extended_create_connection_command(self, command: Any) -> Any:
        if not self._is_refused(command):
            self._air.note_interval(command.peer_address, command.connection_interval_maxs[0])
            super().on_hci_le_extended_create_connection_command(command)

    def _is_refused(self, command: Any) -> bool:
        faults = self._air.faults
        if faults.reject_second and self.pending_le_connection is not None:
            error = COLLISION
        elif faults.slots and len(self.le_connections) >= faults.slots:
            error = NO_RESOURCES
        else:
            return False
        say("refused a connection", command.peer_address, f"{error:#04x}")
        self._send_hci_command_status(error, command.op_code)
        return True

    def on_hci_le_connection_update_command(self, command: Any) -> Any:
        connection = self.find_le_connection_by_handle(command.connection_handle)
        if connection:
            self._air.note_interval(connection.peer_address, command.connection_interval_max)
        return super().on_hci_le_connection_update_command(command)

    def on_hci_command_packet(self, command: Any) -> None:
        """Answer also what Bumble leaves unanswered: Linux's queue would stall."""
        opcode = command.op_code
        if self._air.faults.deaf:
            if opcode != hci.HCI_RESET_COMMAND:
                say("deaf to", command.name)
                return
            self._air.faults = replace(self._air.faults, deaf=False)
        if opcode == hci.HCI_READ_TRANSMIT_POWER_LEVEL_COMMAND:
            answer = bytes(command.parameters[:2]) + b"\x00"
        elif opcode in CLASSIC_ANSWERS:
            answer = CLASSIC_ANSWERS[opcode]
        else:
            super().on_hci_command_packet(command)
            return
        self.send_hci_packet(
            hci.HCI_Command_Complete_Event(
                num_hci_command_packets=1,
                command_opcode=opcode,
                return_parameters=hci.HCI_GenericReturnParameters(data=b"\x00" + answer),
            )
        )

    def on_hci_le_set_advertising_enable_command(self, command: Any) -> Any:
        """Advertise; without an answer, directed advertising ends by itself."""
        advertiser = self.le_legacy_advertiser
        say("adapter advertises:", command.advertising_enable, advertiser.advertising_type)
        if command.advertising_enable and advertiser.advertising_type == DIRECTED:
            asyncio.get_running_loop().call_later(DIRECTED_S, self._end_directed, advertiser)
        return super().on_hci_le_set_advertising_enable_command(command)

    def _end_directed(self, advertiser: Any) -> None:
        say("directed advertising ends", advertiser.enabled, advertiser.peer_address)
        if advertiser.enabled:
            advertiser.stop()
            self.send_hci_packet(
                _failed_connection(
                    hci.HCI_ErrorCode.ADVERTISING_TIMEOUT_ERROR,
                    hci.Role.PERIPHERAL,
                    advertiser.peer_address,
                )
            )

    def on_hci_read_rssi_command(self, command: Any) -> Any:
        return hci.HCI_Read_RSSI_ReturnParameters(
            status=hci.HCI_ErrorCode.SUCCESS, handle=command.handle, rssi=-67
        )

    def on_hci_le_create_connection_cancel_command(self, _command: Any) -> Any:
        pending = self.pending_le_connection
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.pending_le_connection = None
        event = _failed_connection(
            hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            hci.Role.CENTRAL,
            pending.peer_address,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, event)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


def _failed_connection(status: int, role: int, peer: Any) -> Any:
    return hci.HCI_LE_Connection_Complete_Event(
        status=status,
        connection_handle=0,
        role=role,
        peer_address_type=peer.address_type,
        peer_address=peer,
        connection_interval=0,
        peripheral_latency=0,
        supervision_timeout=0,
        central_clock_accuracy=0,
    )
