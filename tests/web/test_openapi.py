"""The OpenAPI description of /api/v1, its index, and the document with the same in words."""

import re
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from exporter import __version__
from exporter.config.schema import Wiring
from exporter.errors import FailureReason
from exporter.reading import Protection
from exporter.web.app import make_app
from exporter.web.routing import NAME, App
from exporter.web.subscribers import Subscribers
from tests.support.api_schema import DESCRIPTION, PUBLISHED, check, operations
from tests.support.http_client import make_client
from tests.support.paths import PROJECT

DOCUMENT: Final = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
SCHEMAS: Final[dict[str, Any]] = DESCRIPTION["components"]["schemas"]
NOT_IN_THE_DOCUMENT: Final = {"Index", "Error"}  # they explain themselves


@pytest.fixture
def app(tasks: Any) -> App:
    return make_app(batteries={}, subscribers=Subscribers({}, tasks))


@pytest.fixture
def client(app: App) -> httpx.AsyncClient:
    return make_client(app)


def keys_of(schema: Any) -> Iterator[str]:
    """Yield every key of the objects that a schema describes."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from keys_of(part)


class TestDescription:
    def test_every_route_is_described_and_the_other_way_round(self, app: App) -> None:
        routes = {path for path in app._routes if path.startswith("/api/")}
        described = {path.replace("{NAME}", NAME) for _, path, _ in operations()}

        assert described == routes - {"/api/v1"}  # the same as /api/v1/

    @pytest.mark.parametrize(
        ("values", "members"),
        [
            (SCHEMAS["FailureReason"]["enum"], FailureReason),
            (SCHEMAS["Protection"]["enum"], Protection),
            (SCHEMAS["Bank"]["properties"]["wiring"]["enum"], Wiring),
        ],
        ids=["reasons", "protections", "wirings"],
    )
    def test_closed_set_is_that_of_the_code(self, values: list[str], members: type) -> None:
        assert values == list(members)  # type: ignore[call-overload] # an enum

    def test_every_key_of_an_object_is_required(self) -> None:
        for name, schema in SCHEMAS.items():
            if schema["type"] == "object":
                assert schema["required"] == list(schema["properties"]), name

    async def test_served_description_is_the_file(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/v1/openapi.json")

        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == PUBLISHED

    def test_key_that_is_not_described_is_found(self) -> None:
        with pytest.raises(AssertionError, match="new_key"):
            check("AliveEvent", {"now_unix_s": 1.0, "new_key": 1})


class TestIndex:
    @pytest.mark.parametrize("path", ["/api/v1", "/api/v1/"])
    async def test_index_lists_every_request(self, path: str, client: httpx.AsyncClient) -> None:
        index = (await client.get(path)).json()

        check("Index", index)
        assert index["exporter"] == __version__
        assert [(one["method"], one["path"]) for one in index["requests"]] == [
            (method, path) for method, path, _ in operations()
        ]


class TestDocument:
    def test_every_request_is_in_the_document_and_the_other_way_round(self) -> None:
        rows = re.findall(r"^\| `([A-Z]+) (/api/v1[^?`]*)", DOCUMENT, re.MULTILINE)

        assert sorted(rows) == sorted(
            (method, path.replace("{NAME}", NAME)) for method, path, _ in operations()
        )

    def test_every_key_is_in_the_document(self) -> None:
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL))
        words = set(re.findall(r"\w+", " ".join(spans)))

        for name in SCHEMAS.keys() - NOT_IN_THE_DOCUMENT:
            assert set(keys_of(SCHEMAS[name])) - words == set(), name

    def test_every_key_of_the_document_is_described(self) -> None:
        cells = re.findall(
            r"^\| (`\w[^|]*`) \|", DOCUMENT.partition("## `Battery`")[2], re.MULTILINE
        )
        named = {word for cell in cells for word in re.findall(r"\w+", cell)}

        assert len(named) > 40
        assert named - {key for schema in SCHEMAS.values() for key in keys_of(schema)} == set()


class TestNothingHere:
    async def test_404_names_three_useful_paths_as_text(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/metric")

        assert (answer.status_code, answer.headers["content-type"]) == (
            404,
            "text/plain; charset=utf-8",
        )
        assert answer.text == "There is nothing here. Try one of: / /metrics /api/v1\n"
        for path in answer.text.rpartition(": ")[2].split():
            assert (await client.get(path)).status_code == 200

    async def test_404_of_an_exporter_without_a_page_names_other_paths(self) -> None:
        client = make_client(make_app(batteries={}, telemetry_path="/m"))

        answer = await client.get("/")

        assert answer.text.endswith("Try one of: /m /probe?target=NAME /-/healthy\n")

    @pytest.mark.parametrize("path", ["/api/", "/api/v2/batteries", "/api/v1/battery", "/%61pi/x"])
    async def test_404_below_api_is_json(self, path: str, client: httpx.AsyncClient) -> None:
        answer = await client.get(path)

        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
        check("Error", answer.json())
        assert "/api/v1" in answer.json()["error"]

    @pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/api/v1"])
    async def test_head_has_the_headers_of_get_and_no_body(
        self, path: str, client: httpx.AsyncClient
    ) -> None:
        head, get = await client.head(path), await client.get(path)

        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers == get.headers
        assert int(head.headers["content-length"]) == len(get.content) > 0

    async def test_other_errors_below_api_are_json_too(self, client: httpx.AsyncClient) -> None:
        for answer in (
            await client.post("/api/v1/batteries"),
            await client.request("BREW", "/api/v1/batteries"),
        ):
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
            check("Error", answer.json())
