"""A fake bluetoothd: the part of its D-Bus interface that bleak uses, with faults to inject.

control.py controls it like the virtual machine. It answers as bluetoothd 5.66 was observed to.
"""

import argparse
import asyncio
import json
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

from batteries import make_all_batteries
from control import Control, serve
from exporter.demo.battery import Delivery, VirtualBattery

ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
OBJECTS, PROPERTIES = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"
DBUS: Final = "org.freedesktop.DBus"
FAILED: Final = "org.bluez.Error.Failed"
SIGNATURES: Final = {
    bool: "b",
    str: "s",
    int: "n",
    list: "as",
    bytes: "ay",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Durations in seconds; the defaults are those of bluetoothd 5.66."""

    connect_s: float = 0.7
    disconnect_s: float = 2.0
    advertise_every_s: float = 1.0
    forget_s: float = 30.0  # until the object of an unpaired, unseen device disappears
    abandon_s: float = 40.0  # until Connect to a battery that does not answer fails
    subscribe_s: float = 0.05
    scan_s: float = 10.0  # of a discovery that goes on, at a time; each battery is reported once
    scan_pause_s: float = 5.0  # between two of them

    def faster(self, factor: float) -> "Times":
        """Return all times divided by a factor."""
        return Times(**{one.name: getattr(self, one.name) / factor for one in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFaults:
    """Faults of bluetoothd with one battery; a number is how often the fault happens."""

    connect_errors: Sequence[tuple[str, str]] = ()  # name and text, one for each Connect
    abort_by_local: int = 0  # connected, then dropped at once
    expires: bool = False  # the object disappears at the first Connect
    connect_hangs: bool = False
    never_resolved: bool = False
    forgets_table: bool = False  # the objects of its services disappear at each Connect
    subscribe_error: tuple[str, str] | None = None
    write_error: tuple[str, str] | None = None
    disconnect_error: tuple[str, str] | None = None
    disconnect_hangs: bool = False


@dataclass(slots=True)
class Connection:
    """The connection of one battery."""

    path: str  # of the device
    since_s: float
    subscribed: bool = False
    pending: set[asyncio.TimerHandle] = field(default_factory=set)  # notifications


class Refusal(Exception):  # noqa: N818 - a response, not a bug
    """A D-Bus error response: name and text."""


class FakeBluetoothd:
    """One bluetoothd, its adapters, and the batteries in their range."""

    def __init__(
        self,
        batteries: Sequence[VirtualBattery],
        bus_address: str,
        *,
        times: Times | None = None,
        adapters: Sequence[str] = ("hci0",),
    ) -> None:
        self.batteries = list(batteries)
        self.times = times or Times()
        self.daemon_faults: dict[str, DaemonFaults] = {}  # by the battery's address
        self.scan_errors: list[tuple[str, str]] = []  # one for each StartDiscovery
        self.stuck: set[str] = set()  # adapters that refuse every scan until they are switched off
        self.mute = False  # accepts calls without answering
        self._bus_address = bus_address
        self._adapters = dict.fromkeys(adapters, True)  # switched on
        self._bus: MessageBus | None = None
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._scanning: dict[str, set[str]] = {}  # clients by adapter
        self._foreign_s: dict[str, float] = {}  # when another client's scan began, by adapter
        self._reported: dict[str, int] = {}  # in which of its scans, by path
        self._connections: dict[str, Connection] = {}  # by the battery's address
        self._held_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}  # by path
        self._connecting: dict[str, set[asyncio.Future[None]]] = {}  # by path
        self._tasks: set[asyncio.Task[Any]] = set()
        self._advertising: asyncio.Task[None] | None = None

    # ---- start and stop

    async def start(self) -> None:
        """Connect to the bus and take the name org.bluez."""
        if self._bus is not None:
            return
        bus = MessageBus(bus_address=self._bus_address, bus_type=BusType.SYSTEM)
        await bus.connect()
        bus.add_message_handler(self._handle)
        watch = f"type='signal',sender='{DBUS}',member='NameOwnerChanged'"
        await bus.call(self._to_daemon("AddMatch", "s", [watch]))
        self._objects = {}
        for adapter, powered in self._adapters.items():
            self._objects[f"/org/bluez/{adapter}"] = self._adapter(adapter, powered=powered)
        self._bus = bus
        await bus.request_name("org.bluez")
        self._advertising = asyncio.create_task(self._advertise())

    async def stop(self) -> None:
        """Release the name and drop the connections, as after SIGTERM."""
        if self._advertising is not None:
            self._advertising.cancel()
        for address in list(self._connections):
            self._end(address)
        self._scanning.clear()
        bus, self._bus = self._bus, None
        for task in [*self._tasks, *(one for some in self._connecting.values() for one in some)]:
            task.cancel()
        if bus is not None:
            with suppress(Exception):
                bus.disconnect()
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def kill(self) -> None:
        """Leave the bus first, so that no client learns that the connections ended."""
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect()
        await self.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    # ---- the adapter

    def power(self, adapter: str, *, on: bool) -> None:
        """Switch an adapter on or off."""
        self._adapters[adapter] = on
        self._change(f"/org/bluez/{adapter}", ADAPTER, Powered=on)
        if not on:
            self.stuck.discard(adapter)
            self._drop_all(adapter)

    def unplug(self, adapter: str) -> None:
        """Remove an adapter and all of its devices."""
        self._drop_all(adapter)
        self._adapters.pop(adapter, None)
        for path in [one for one in self._objects if one.startswith(f"/org/bluez/{adapter}")]:
            self._remove(path)

    def plug(self, adapter: str) -> None:
        """Add the adapter again."""
        self._adapters[adapter] = True
        self._add(f"/org/bluez/{adapter}", self._adapter(adapter, powered=True))

    def _drop_all(self, adapter: str) -> None:
        self._scanning.pop(adapter, None)
        self._foreign_s.pop(adapter, None)
        self._note_scans()
        for battery in self.batteries:
            path = self._path(adapter, battery)
            for connecting in self._connecting.get(path, ()):
                connecting.cancel()
            if self._objects.get(path, {}).get(DEVICE, {}).get("Connected"):
                self._end(battery.address)

    # ---- control.Air

    def changed(self, battery: VirtualBattery) -> None:
        """Drop the connection of a battery that is gone."""
        if battery.faults.gone:
            self._end(battery.address)

    def drop(self, battery: VirtualBattery) -> None:
        """End the connection from the battery's side."""
        self._end(battery.address)

    def is_connected(self, battery: VirtualBattery) -> bool:
        return battery.address in self._connections

    def is_connecting(self, battery: VirtualBattery) -> bool:
        return any(
            connecting and self._battery(path) is battery
            for path, connecting in self._connecting.items()
        )

    def held_s(self, battery: VirtualBattery) -> float:
        """Return the connected time so far in seconds."""
        connection = self._connections.get(battery.address)
        now_s = asyncio.get_running_loop().time()
        running_s = 0.0 if connection is None else now_s - connection.since_s
        return self._held_s.get(battery.address, 0.0) + running_s

    def change_adapter(self, name: str, **changed: Any) -> None:
        self._change(f"/org/bluez/{name}", ADAPTER, **changed)

    def hold(self, battery: VirtualBattery, adapter: str = "hci0") -> None:
        """Connect to a battery for another client, which keeps the connection."""
        path = self._path(adapter, battery)
        if path not in self._objects:
            self._add(path, self._device(adapter, battery))
        self._begin(path, battery)
        self._resolve(path, battery)

    def scan(self, adapter: str, ago_s: float = 0.0) -> None:
        """Scan for another client, which goes on; it has reported the batteries `ago_s` ago."""
        self._foreign_s[adapter] = asyncio.get_running_loop().time() - ago_s
        self._reported = {self._path(adapter, one): 0 for one in self.batteries}
        self._scanning.setdefault(adapter, set()).add("another client")
        self._note_scans()

    def _foreign_scan(self, adapter: str) -> tuple[int, float]:
        """Return the number of another client's scan, and the seconds for which it goes on."""
        if adapter not in self._foreign_s:
            return 0, 0.0
        since_s = asyncio.get_running_loop().time() - self._foreign_s[adapter]
        number, at_s = divmod(since_s, self.times.scan_s + self.times.scan_pause_s)
        return int(number), max(0.0, self.times.scan_s - at_s)

    # ---- objects

    def _adapter(self, name: str, *, powered: bool) -> dict[str, dict[str, Any]]:
        number = int(name.removeprefix("hci"))
        return {
            ADAPTER: {
                "Address": f"00:1B:DC:0F:AA:{number + 1:02X}",
                "Name": "camper",
                "Alias": "camper",
                "Powered": powered,
                "Discovering": False,
                "Roles": ["central", "peripheral"],
                "UUIDs": [],
            }
        }

    def _device(self, adapter: str, battery: VirtualBattery) -> dict[str, dict[str, Any]]:
        return {
            DEVICE: {
                "Adapter": f"/org/bluez/{adapter}",
                "Address": battery.address,
                "AddressType": "public",
                "Name": battery.name,
                "Alias": battery.name,
                "Paired": False,
                "Trusted": False,
                "Blocked": False,
                "Connected": False,
                "ServicesResolved": False,
                "UUIDs": list(battery.advertises),
                "RSSI": battery.rssi_dbm,
            }
        }

    @staticmethod
    def _path(adapter: str, battery: VirtualBattery) -> str:
        return f"/org/bluez/{adapter}/dev_{battery.address.replace(':', '_')}"

    def _battery(self, path: str) -> VirtualBattery:
        address = path.split("/")[4].removeprefix("dev_").replace("_", ":")
        return next(one for one in self.batteries if one.address == address)

    def _add(self, path: str, interfaces: dict[str, dict[str, Any]]) -> None:
        self._objects[path] = interfaces
        self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, variants(interfaces)])

    def _remove(self, path: str) -> None:
        interfaces = list(self._objects.pop(path, {}))
        self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [path, interfaces])

    def _change(self, path: str, interface: str, **changed: Any) -> None:
        if path in self._objects:
            self._objects[path][interface].update(changed)
            body = [interface, variant_map(changed), []]
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    def _signal(self, path: str, interface: str, member: str, signature: str, body: Any) -> None:
        if self._bus is not None and self._bus.connected and not self.mute:
            with suppress(OSError):  # the bus has just gone
                self._bus.send(Message.new_signal(path, interface, member, signature, body))

    # ---- advertising

    async def _advertise(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.times.advertise_every_s)
            for adapter, powered in list(self._adapters.items()):
                if powered and self._scanning.get(adapter):
                    self._hear(adapter, loop.time())
            for path, seen_s in list(self._seen_s.items()):
                known = self._objects.get(path)
                if known is None:
                    del self._seen_s[path]
                elif loop.time() - seen_s > self.times.forget_s and not known[DEVICE]["Connected"]:
                    self._forget(path)

    def _hear(self, adapter: str, now_s: float) -> None:
        for battery in self.batteries:
            if not battery.advertising or battery.address in self._connections:
                continue
            path = self._path(adapter, battery)
            if adapter in self._foreign_s:
                number, left_s = self._foreign_scan(adapter)
                if not left_s or self._reported.get(path) == number:
                    continue
                self._reported[path] = number
            self._seen_s[path] = now_s
            if path in self._objects:
                self._change(path, DEVICE, RSSI=battery.rssi_dbm)
            else:
                self._add(path, self._device(adapter, battery))

    def _forget(self, path: str) -> None:
        self._seen_s.pop(path, None)
        for one in sorted((o for o in self._objects if o.startswith(path)), reverse=True):
            self._remove(one)

    # ---- method calls

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL and message.member == "NameOwnerChanged":
            name, _, new = message.body
            if not new:  # a client has left: its scans end, its connections stay
                for clients in self._scanning.values():
                    clients.discard(name)
                self._note_scans()
            return None
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.destination not in ("org.bluez", self._bus and self._bus.unique_name):
            return None
        self._spawn(self._answer(message))
        return True

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message) -> None:
        if self.mute:
            return
        try:
            signature, body = await self._call(message)
            reply = Message.new_method_return(message, signature, body)
        except Refusal as refusal:
            reply = Message.new_error(message, *refusal.args)
        if self._bus is not None and self._bus.connected and not self.mute:
            with suppress(OSError):
                self._bus.send(reply)

    async def _call(self, message: Message) -> tuple[str, list[Any]]:  # noqa: C901, PLR0912 - one a method
        path, member, sender = message.path or "", message.member, message.sender or ""
        if member == "GetManagedObjects":
            known = {path: variants(interfaces) for path, interfaces in self._objects.items()}
            return "a{oa{sa{sv}}}", [known]
        if path not in self._objects:
            raise Refusal(f"{DBUS}.Error.UnknownObject", f"Method {member} with no object {path}")
        match member:
            case "SetDiscoveryFilter":
                pass
            case "StartDiscovery":
                self._start_discovery(path, sender)
            case "StopDiscovery":
                self._scanning.get(path.split("/")[3], set()).discard(sender)
                self._note_scans()
            case "Connect":
                connecting = asyncio.ensure_future(self._connect(path))
                self._connecting.setdefault(path, set()).add(connecting)
                try:
                    await asyncio.wait([connecting])
                finally:
                    self._connecting[path].discard(connecting)
                if connecting.cancelled():
                    raise Refusal(FAILED, "Operation already in progress")
                connecting.result()
            case "Disconnect":
                await self._disconnect(path)
            case "StartNotify":
                await self._subscribe(path)
            case "WriteValue":
                self._write(path, bytes(message.body[0]))
            case "Get":
                interface, name = message.body
                return "v", [variant(self._objects[path][interface][name])]
            case _:
                raise Refusal(f"{DBUS}.Error.UnknownMethod", f"no method {member}")
        return "", []

    def _start_discovery(self, path: str, sender: str) -> None:
        if self.scan_errors:
            raise Refusal(*self.scan_errors.pop(0))
        adapter = path.split("/")[3]
        if not self._adapters[adapter]:
            raise Refusal("org.bluez.Error.NotReady", "Resource Not Ready")
        clients = self._scanning.setdefault(adapter, set())
        if sender in clients or adapter in self.stuck:
            raise Refusal("org.bluez.Error.InProgress", "Operation already in progress")
        clients.add(sender)
        self._note_scans()

    def _note_scans(self) -> None:
        """Publish `Discovering` of each adapter where it has changed."""
        for adapter in self._adapters:
            path, is_scanning = f"/org/bluez/{adapter}", bool(self._scanning.get(adapter))
            if self._objects.get(path, {}).get(ADAPTER, {}).get("Discovering") != is_scanning:
                self._change(path, ADAPTER, Discovering=is_scanning)

    async def _connect(self, path: str) -> None:  # noqa: C901 - a list of faults
        battery = self._battery(path)
        daemon_faults = self.daemon_faults.get(battery.address, DaemonFaults())
        if self._objects[path][DEVICE]["Connected"]:
            return
        if battery.choose_faults is not None:
            battery.faults = battery.choose_faults()
        if daemon_faults.connect_errors:
            first, *rest = daemon_faults.connect_errors
            self.daemon_faults[battery.address] = replace(daemon_faults, connect_errors=tuple(rest))
            raise Refusal(*first)
        if daemon_faults.expires:
            self.daemon_faults[battery.address] = replace(daemon_faults, expires=False)
            self._forget(path)
            raise Refusal(f"{DBUS}.Error.UnknownObject", f"Method Connect with no object {path}")
        if daemon_faults.connect_hangs:
            await asyncio.Event().wait()
        _, scans_s = self._foreign_scan(path.split("/")[3])
        await asyncio.sleep(scans_s + self.times.connect_s)
        if battery.faults.refuses:
            raise Refusal(FAILED, "Software caused connection abort")
        is_stuck = path.split("/")[3] in self.stuck
        if is_stuck or not battery.advertising or battery.address in self._connections:
            await asyncio.sleep(self.times.abandon_s)
            raise Refusal(FAILED, "le-connection-abort-by-local")
        self._begin(path, battery)
        if daemon_faults.abort_by_local:
            left = daemon_faults.abort_by_local - 1
            self.daemon_faults[battery.address] = replace(daemon_faults, abort_by_local=left)
            self._end(battery.address)
            raise Refusal(FAILED, "le-connection-abort-by-local")
        if daemon_faults.forgets_table:
            self._forget_table(path)
        if daemon_faults.never_resolved:
            return
        self._resolve(path, battery)

    def _forget_table(self, path: str) -> None:
        for one in [known for known in self._objects if known.startswith(f"{path}/")]:
            self._remove(one)

    def _resolve(self, path: str, battery: VirtualBattery) -> None:
        for number, profile in enumerate(battery.gatt):
            service = f"{path}/service{16 * number + 16:04x}"
            self._add(
                service, {SERVICE: {"UUID": profile.service, "Primary": True, "Device": path}}
            )
            for offset, uuid, flags in (
                (2, profile.notify, ["notify"]),
                (5, profile.write, list(battery.write_properties)),
            ):
                self._add(
                    f"{service}/char{16 * number + 16 + offset:04x}",
                    {
                        CHARACTERISTIC: {
                            "UUID": uuid,
                            "Service": service,
                            "Flags": flags,
                            "Notifying": False,
                            "MTU": 23,
                        }
                    },
                )
        self._change(path, DEVICE, ServicesResolved=True)

    def _begin(self, path: str, battery: VirtualBattery) -> None:
        now_s = asyncio.get_running_loop().time()
        self._connections[battery.address] = Connection(path, now_s)
        self._change(path, DEVICE, Connected=True)
        self._deliver(battery, battery.connected())

    async def _disconnect(self, path: str) -> None:
        battery = self._battery(path)
        daemon_faults = self.daemon_faults.get(battery.address, DaemonFaults())
        if connecting := self._connecting.get(path):
            for one in connecting:  # Disconnect cancels every pending Connect
                one.cancel()
            return
        if not self._objects[path][DEVICE]["Connected"]:
            raise Refusal("org.bluez.Error.NotConnected", "Not Connected")
        if daemon_faults.disconnect_error:
            raise Refusal(*daemon_faults.disconnect_error)
        if daemon_faults.disconnect_hangs:
            await asyncio.Event().wait()
        connection = self._connections.get(battery.address)
        await asyncio.sleep(self.times.disconnect_s)
        if self._connections.get(battery.address) is connection:
            self._end(battery.address)

    def _end(self, address: str) -> None:
        connection = self._connections.pop(address, None)
        if connection is None:
            return
        for handle in connection.pending:
            handle.cancel()
        now_s = asyncio.get_running_loop().time()
        self._held_s[address] = self._held_s.get(address, 0.0) + now_s - connection.since_s
        battery = next(one for one in self.batteries if one.address == address)
        battery.disconnects += 1
        for adapter in self._adapters:
            path = self._path(adapter, battery)
            if self._objects.get(path, {}).get(DEVICE, {}).get("Connected"):
                self._seen_s[path] = now_s
                self._change(path, DEVICE, ServicesResolved=False, Connected=False)

    async def _subscribe(self, path: str) -> None:
        device = path.rpartition("/service")[0]
        battery = self._battery(path)
        daemon_faults = self.daemon_faults.get(battery.address, DaemonFaults())
        if daemon_faults.subscribe_error:
            raise Refusal(*daemon_faults.subscribe_error)
        await asyncio.sleep(self.times.subscribe_s)
        connection = self._connections.get(battery.address)
        if connection is None or device not in self._objects:
            raise Refusal("org.bluez.Error.NotConnected", "Not Connected")
        if self._objects[path][CHARACTERISTIC]["UUID"] == battery.speaks.notify:
            connection.subscribed = True

    def _write(self, path: str, data: bytes) -> None:
        battery = self._battery(path)
        daemon_faults = self.daemon_faults.get(battery.address, DaemonFaults())
        if daemon_faults.write_error:
            raise Refusal(*daemon_faults.write_error)
        if battery.address not in self._connections:
            raise Refusal("org.bluez.Error.NotConnected", "Not Connected")
        if self._objects[path][CHARACTERISTIC]["UUID"] == battery.speaks.write:
            self._deliver(battery, battery.request(data, asyncio.get_running_loop().time()))

    def _deliver(self, battery: VirtualBattery, notifications: Sequence[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        connection = self._connections[battery.address]
        for one in notifications:
            handle = loop.call_later(one.after_s, self._notify, battery, connection, one.data)
            connection.pending.add(handle)

    def _notify(self, battery: VirtualBattery, connection: Connection, data: bytes | None) -> None:
        if self._connections.get(battery.address) is not connection:
            return
        if data is None:
            self._end(battery.address)
        elif connection.subscribed:
            for path, interfaces in self._objects.items():
                uuid = interfaces.get(CHARACTERISTIC, {}).get("UUID")
                if uuid == battery.speaks.notify and path.startswith(connection.path):
                    self._change(path, CHARACTERISTIC, Value=data)
                    return

    def _to_daemon(self, member: str, signature: str, body: list[Any]) -> Message:
        return Message(
            destination=DBUS,
            path="/org/freedesktop/DBus",
            interface=DBUS,
            member=member,
            signature=signature,
            body=body,
        )


def variant(value: Any) -> Variant:
    """Wrap a property in the type that bluetoothd uses."""
    return Variant(SIGNATURES[type(value)], value)


def variant_map(properties: dict[str, Any]) -> dict[str, Variant]:
    """Wrap several properties; paths are object paths, and the MTU is unsigned."""
    paths = ("Adapter", "Device", "Service")
    return {
        name: Variant("o", value)
        if name in paths
        else Variant("q", value)
        if name == "MTU"
        else variant(value)
        for name, value in properties.items()
    }


def variants(interfaces: dict[str, dict[str, Any]]) -> dict[str, dict[str, Variant]]:
    return {name: variant_map(properties) for name, properties in interfaces.items()}


class BusControl(Control):
    """Carries out the requests of control.py, and those to bluetoothd and its adapter."""

    def __init__(self, fake: FakeBluetoothd) -> None:
        super().__init__(fake)
        self._fake = fake

    async def answer_later(self, line: bytes) -> bytes:
        request = json.loads(line)
        match request["do"]:
            case "bluetoothd":
                action = request["action"]
                await getattr(self._fake, action)()
            case "adapter":
                name = "hci0"
                match request["action"]:
                    case "unplug":
                        self._fake.unplug(name)
                    case "plug":
                        self._fake.plug(name)
                    case action:
                        self._fake.power(name, on=action == "on")
            case "daemon_faults":
                battery = self._fake.batteries[request["battery"]]
                self._fake.daemon_faults[battery.address] = DaemonFaults(**request["set"])
            case _:
                return self.answer(line)
        return b"{}\n"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bus", required=True, help="the D-Bus address")
    parser.add_argument("--control", required=True, help="Unix socket for requests")
    parser.add_argument("--faster", type=float, default=1.0, help="divide all times")
    options = parser.parse_args()
    fake = FakeBluetoothd(make_all_batteries(), options.bus, times=Times().faster(options.faster))
    with suppress(DBusFastError, OSError):
        await fake.start()
    await serve(BusControl(fake), options.control)
    while True:  # a test may restart the bus
        await asyncio.sleep(0.05)
        bus = fake._bus
        if bus is not None and not bus.connected:
            with suppress(Exception):
                await fake.restart()


if __name__ == "__main__":
    asyncio.run(main())
