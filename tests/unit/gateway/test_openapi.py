from __future__ import annotations

import json
from typing import Any

import pytest
from biosegment_gateway.contract import is_unary, public_methods
from biosegment_gateway.http.json_call import JsonCalls
from biosegment_gateway.http.openapi import OpenApi
from biosegment_gateway.http.uploads import Uploads
from biosegment_gateway.local_call import LocalCalls
from starlette.responses import Response
from starlette.routing import Mount, Route


class Others:
    """Routes that say nothing about themselves but what their code does."""

    async def tile(self, request: Any) -> Response:
        """A tile of an image.

        More about it.
        """
        return Response()

    @property
    def routes(self) -> list[Any]:
        below = [Route("/{name}/", self.tile, methods=["GET", "POST"])]
        return [Route("/tiles/{path:path}", self.tile), Mount("/more/{place}", routes=below)]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    calls = LocalCalls(1.0)
    found: dict[str, Any] = OpenApi([JsonCalls(calls), Uploads(calls), Others()]).document()
    return found


def references(item: Any) -> set[str]:
    if isinstance(item, dict):
        own = {item["$ref"]} if "$ref" in item else set()
        return own.union(*(references(value) for value in item.values()))
    return set().union(*map(references, item)) if isinstance(item, list) else set()


def test_every_method_is_there_with_what_its_proto_says(document):
    unary = [method for method in public_methods().values() if is_unary(method)]
    assert len(unary) > 80
    for method in unary:
        operation = document["paths"][f"/api/{method.containing_service.name}/{method.name}"]["post"]
        assert operation["description"], method.full_name
        assert operation["summary"]
        assert set(operation["responses"]) == {"200", "default"}


def test_all_that_is_referred_to_is_there(document):
    schemas = document["components"]["schemas"]
    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= set(schemas)
    json.dumps(document, allow_nan=False)


def test_fields_have_the_types_of_protobufs_json(document):
    schemas = document["components"]["schemas"]
    volume, job = schemas["Volume"]["properties"], schemas["Job"]["properties"]
    assert schemas["Index"]["properties"]["z"]["type"] == "string"
    assert volume["levels"]["type"] == "array"
    assert job["createTime"]["format"] == "date-time"
    assert job["metrics"]["additionalProperties"]["anyOf"][0] == {"type": "number"}
    assert "STATE_RUNNING" in schemas["Job.State"]["enum"]
    assert "Not together with `predict`" not in job["state"].get("description", "")
    assert "`predict`" in schemas["JobSpec"]["properties"]["train"]["description"]
    assert schemas["Project"]["properties"]["displayName"]["description"].startswith("For people")
    assert schemas["Volume"]["additionalProperties"] is False


def test_every_message_and_field_has_a_description(document):
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, value in schema.get("properties", {}).items()
        if not value.get("description")
    ]
    assert bare == []


def test_routes_that_describe_themselves_only_by_their_code_are_there_too(document):
    operation = document["paths"]["/tiles/{path}"]["get"]
    assert operation["summary"] == "A tile of an image."
    assert [each["name"] for each in operation["parameters"]] == ["path"]
    nested = document["paths"]["/more/{place}/{name}/"]
    assert set(nested) == {"get", "post"}
    assert [each["name"] for each in nested["get"]["parameters"]] == ["place", "name"]
    assert "/api/DatastoreService/{method}" not in document["paths"]
    assert set(document["paths"]["/api/uploads/projects/{project}/uploads/{upload}"]) == {"put"}


def test_both_ways_to_sign_in_are_named(document):
    assert {name for each in document["security"] for name in each} == set(
        document["components"]["securitySchemes"]
    )
