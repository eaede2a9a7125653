"""A proxy may report anything: what no radio can have received is not believed."""

import asyncio
import gc
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from aioesphomeapi import model
from aioesphomeapi.core import APIConnectionError, HandshakeAPIError, ProtocolAPIError
from aioesphomeapi.model import BluetoothGATTService
from hypothesis import given
from hypothesis import strategies as st

from exporter.ble.proxies import Proxies
from exporter.ble.proxy.errors import explain_open, tidy
from exporter.ble.proxy.raw import format_address, is_plausible, read_raw
from exporter.ble.proxy.session import Session
from exporter.ble.proxy.table import CCCD, MAX_HANDLE, Handles, find_profiles
from exporter.config.schema import Host, Port, ProxyConfig, ProxyName
from exporter.errors import AdapterError, ConnectError
from exporter.protocol.profiles import PROFILES
from tests.support.fake_proxy import make_data
from tests.support.virtual import ADDRESS, battery

FF00 = PROFILES["ff00"]
UUIDS = st.sampled_from([FF00.service, FF00.notify, FF00.write, CCCD, "", "ff01"])
NUMBERS = st.integers(0, 2**32 - 1)
make_descriptor: Any = model.BluetoothGATTDescriptor  # mypy does not know their parameters
make_characteristic: Any = model.BluetoothGATTCharacteristic
make_service: Any = model.BluetoothGATTService
DESCRIPTORS = st.builds(make_descriptor, uuid=UUIDS, handle=NUMBERS)
CHARACTERISTICS = st.builds(
    make_characteristic,
    uuid=UUIDS,
    handle=NUMBERS,
    properties=NUMBERS,
    descriptors=st.lists(DESCRIPTORS, max_size=3),
)
SERVICES = st.builds(
    make_service,
    uuid=UUIDS,
    handle=NUMBERS,
    characteristics=st.lists(CHARACTERISTICS, max_size=4),
)


class TestAdvertisements:
    def test_advertisement_of_a_battery_is_read(self) -> None:
        advertisement = read_raw(ADDRESS, -67, 1, make_data(battery()))

        assert advertisement.name == "JBD-SP04S034"
        assert advertisement.service_uuids == {FF00.service}
        assert advertisement.address_type == "random"

    @pytest.mark.parametrize(
        ("field", "uuids"),
        [
            ("0302f0ff", {"0000fff0-0000-1000-8000-00805f9b34fb"}),
            ("05040000f0ff", {"fff00000-0000-1000-8000-00805f9b34fb"}),
            ("1107" + bytes(range(16)).hex(), {"0f0e0d0c-0b0a-0908-0706-050403020100"}),
            ("0402f0ff00", {"0000fff0-0000-1000-8000-00805f9b34fb"}),  # one and a half
            ("0502f0ff", set()),  # cut off
        ],
    )
    def test_uuids_of_each_length_are_read(self, field: str, uuids: set[str]) -> None:
        assert read_raw(ADDRESS, -67, 0, bytes.fromhex(field)).service_uuids == uuids

    def test_manufacturer_data_and_a_short_name_are_read(self) -> None:
        data = bytes.fromhex("05ff7b0002ff" + "0408") + b"abc"

        advertisement = read_raw(ADDRESS, -67, 0, data)

        assert advertisement.manufacturer_data == {123: b"\x02\xff"}
        assert advertisement.name == "abc"

    @given(data=st.binary(max_size=255), kind=NUMBERS)
    def test_any_bytes_are_an_advertisement_that_is_no_larger(self, data: bytes, kind: int) -> None:
        advertisement = read_raw(ADDRESS, -67, kind, data)

        assert len(advertisement.name) <= len(data)
        assert len(advertisement.service_uuids) <= len(data) / 2
        assert sum(map(len, advertisement.manufacturer_data.values())) <= len(data)

    @pytest.mark.parametrize(
        ("address", "rssi_dbm", "size"),
        [
            (0, -60, 31),
            (2**48, -60, 31),
            (1, 127, 31),
            (1, -(2**31), 31),
            (1, -60, 256),
        ],
    )
    def test_impossible_advertisement_is_dropped(
        self, address: int, rssi_dbm: int, size: int
    ) -> None:
        assert not is_plausible(address, rssi_dbm, bytes(size))

    @given(address=st.integers(1, 2**48 - 1))
    def test_address_has_six_bytes(self, address: int) -> None:
        assert is_plausible(address, -60, b"")
        assert bytes.fromhex(format_address(address).replace(":", "")) == address.to_bytes(6, "big")


class TestTexts:
    @given(text=st.text())
    def test_any_text_is_one_short_line_of_ascii(self, text: str) -> None:
        shown = tidy(text, 20)

        assert shown.isascii()
        assert shown.isprintable()
        assert len(shown) <= len("x" * 20 + "...")

    @pytest.mark.parametrize("kind", [HandshakeAPIError, ProtocolAPIError, APIConnectionError])
    def test_reason_of_a_hostile_proxy_is_cut(self, kind: type[APIConnectionError]) -> None:
        config = ProxyConfig(name=ProxyName("garage"), host=Host("192.168.1.40"))

        said = str(explain_open(kind("\x1b[2J" + "x" * 10_000), config))

        assert r"(\x1b[2Jxxx" in said
        assert len(said) < 300

    def test_proxy_that_answers_and_cannot_be_used_was_reached(self) -> None:
        config = ProxyConfig(name=ProxyName("garage"), host=Host("192.168.1.40"))

        said = str(explain_open(APIConnectionError("Incompatible API version"), config))

        assert "192.168.1.40 port 6053 answers, and cannot be used (Incompatible API" in said
        assert "update the exporter" in said


class TestMessages:
    @pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
    async def test_message_that_cannot_be_parsed_is_a_failure_without_a_traceback(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"\x00\x04\x02" + b"\x08\x01\x22\xff")  # a HelloResponse that is cut off
            await reader.read()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = Port(server.sockets[0].getsockname()[1])
            config = ProxyConfig(name=ProxyName("garage"), host=Host("127.0.0.1"), port=port)

            with pytest.raises(AdapterError, match="does not speak ESPHome's API"):
                await Proxies().check(config)

        assert "asyncio" not in {record.name for record in caplog.records}


class TestMonitor:
    async def test_monitor_that_is_cancelled_at_any_moment_leaves_nothing_behind(self) -> None:
        config = ProxyConfig(name=ProxyName("garage"), host=Host("192.168.1.40"))
        session = Session(config, lambda *_: None, lambda _: None)
        session._noted_s = float("-inf")
        monitor = asyncio.create_task(session.monitor())
        await asyncio.sleep(0)  # it has just decided to probe

        monitor.cancel()
        with pytest.raises(asyncio.CancelledError):
            await monitor
        gc.collect()  # would warn of a coroutine that was never awaited


class TestTables:
    @given(services=st.lists(SERVICES, max_size=5))
    def test_any_table_has_usable_handles_or_is_refused(
        self, services: list[BluetoothGATTService]
    ) -> None:
        found: Mapping[str, Handles] = {}
        with suppress(ConnectError):
            found = find_profiles(services)

        for handles in found.values():
            for handle in (handles.notify, handles.subscription, handles.write):
                assert 0 < handle <= MAX_HANDLE

    @pytest.mark.parametrize(("services", "each"), [(101, 0), (2, 251)])
    def test_table_of_a_size_that_no_battery_has_is_refused(self, services: int, each: int) -> None:
        one = make_characteristic(uuid=FF00.notify, handle=1)
        service = make_service(uuid=FF00.service, handle=1, characteristics=[one] * each)

        with pytest.raises(ConnectError, match="which no battery has"):
            find_profiles([service] * services)
