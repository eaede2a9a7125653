"""Which profiles of a GATT table are tried."""

import pytest

from exporter.ble.gatt import choose_profiles
from exporter.errors import ProfileError


def test_message_about_a_foreign_device_names_ten_of_its_services() -> None:
    services = [f"service-{number:02d}" for number in range(100)]

    with pytest.raises(ProfileError, match=r"got service-00, .*, service-09, 90 more$"):
        choose_profiles({}, services, None)
