"""Checks responses of /api/v1 against their OpenAPI description, in which every key must be."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator

from tests.support.paths import PROJECT

ROOT: Final = "/api/v1"
PUBLISHED: Final[dict[str, Any]] = json.loads(
    (PROJECT / "exporter" / "web" / "openapi.json").read_text(encoding="utf-8")
)
EVENTS: Final = {"batteries": "State", "battery": "BatteryEvent", "alive": "AliveEvent"}


def strict(schema: Any) -> Any:
    """Return a copy that allows no further keys: clients must expect some, but none is new here."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


DESCRIPTION: Final[dict[str, Any]] = strict(PUBLISHED)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, full path and description of each request."""
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), ROOT + path, operation


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DESCRIPTION["components"]}
    )


def check(name: str, value: object) -> None:
    """Fail if a value does not match the schema of this name."""
    errors = [f"{one.json_path}: {one.message}" for one in _validator(name).iter_errors(value)]
    assert not errors, f"{name} of exporter/web/openapi.json: {errors}"


def check_response(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Fail if a response to a described request has another status, type or schema."""
    for described, template, operation in operations():
        pattern = re.escape(template).replace(r"\{NAME\}", "[^/]+")
        if described != method or not re.fullmatch(pattern, path):
            continue
        assert str(status) in operation["responses"], (method, path, status)
        response = operation["responses"][str(status)]
        if reference := response.get("$ref"):
            response = DESCRIPTION["components"]["responses"][reference.rpartition("/")[2]]
        assert content_type in response["content"], (method, path, status)
        reference = response["content"][content_type]["schema"].get("$ref")
        if reference is not None:
            check(reference.rpartition("/")[2], json.loads(body))
