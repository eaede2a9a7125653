"""deploy/compose.yaml: valid by the schema of Compose, closed to other machines, no surprises."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from exporter.cli.arguments import parse_arguments
from tests.support.json_schema import check_schema
from tests.support.paths import PROJECT

FILE: Final = PROJECT / "deploy" / "compose.yaml"
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load(FILE.read_text())["services"]
BINDS: Final = [
    volume
    for service in SERVICES.values()
    for volume in service.get("volumes", [])
    if not isinstance(volume, str)
]
OF_THE_MACHINE: Final = {"../config.yaml", "/run/dbus/system_bus_socket"}


def test_compose_file_is_valid_by_the_schema_of_compose() -> None:
    result = check_schema(FILE, "vendor.compose-spec")

    assert result.returncode == 0, result.stdout + result.stderr


def test_compose_file_with_an_unknown_key_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(FILE.read_text().replace("create_host_path", "make_host_path"))

    assert check_schema(path, "vendor.compose-spec").returncode != 0


def test_missing_file_stops_compose_instead_of_becoming_a_folder() -> None:
    short = [
        volume
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    ]

    assert BINDS
    assert {volume["bind"]["create_host_path"] for volume in BINDS} == {False}
    assert [volume for volume in short if volume[0] in "./~"] == []  # volumes with a name only


def test_mounted_files_of_the_project_exist() -> None:
    sources = {volume["source"] for volume in BINDS}

    assert sources >= OF_THE_MACHINE
    for source in sources - OF_THE_MACHINE:
        assert (FILE.parent / source).exists(), source


@pytest.mark.parametrize("name", SERVICES)
def test_service_listens_on_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    words = [*service.get("command", []), *service.get("environment", {}).values()]

    assert "ports" not in service
    assert any(word.rpartition("=")[2].startswith("127.0.0.1") for word in words)
    assert not any("0.0.0.0" in word for word in words)  # noqa: S104 - looked for


def test_nobody_can_log_in_to_grafana_with_a_known_password() -> None:
    settings = SERVICES["grafana"]["environment"]

    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert "GF_AUTH_ANONYMOUS_ORG_ROLE" not in settings  # Viewer


@pytest.mark.parametrize("name", ["exporter", "exporter-demo"])
def test_exporter_accepts_its_arguments(name: str) -> None:
    parse_arguments(SERVICES[name]["command"])
