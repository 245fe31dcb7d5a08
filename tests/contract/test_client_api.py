"""The Python client and the OpenAPI document: every route, option and field."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
import pytest
from aurum_client import AsyncAurumClient, AurumClient, JobEvent
from aurum_client._async import jobs, people
from aurum_client.errors import FAMILIES, ProblemError
from aurum_client.results.base import EXTRA

from gateway.api.table import ROUTES
from gateway.app import DOCUMENT, create_app
from gateway.error_policy import POLICIES
from gateway.settings import Settings

KSERVE = "Triton's own clients ask KServe"
ADMIN = "for an administrator: `aurum keys`, or HTTP"
LEFT_OUT = {
    "create_key": ADMIN,
    "list_keys": ADMIN,
    "rotate_key": ADMIN,
    "revoke_key": ADMIN,
    "show_audit": ADMIN,
    "show_webhook_secret": ADMIN,
    "server_metadata": KSERVE,
    "server_live": KSERVE,
    "server_ready": KSERVE,
    "model_metadata": KSERVE,
    "version_metadata": KSERVE,
    "model_ready": KSERVE,
    "version_ready": KSERVE,
    "model_config": KSERVE,
    "version_config": KSERVE,
    "model_infer": KSERVE,
    "version_infer": KSERVE,
    "document": "for generators of clients",
    "page": "a page for people",
    "asset": "a part of that page",
    "root": "leads to that page",
}
"""Operations without a method, and why."""
NAMES = {
    "enrol_faces": ("enrol", "enrol_embeddings"),
    "search_faces": ("search", "search_embedding"),
    "create_job": ("jobs.submit",),
    "list_jobs": ("jobs.page", "jobs.list"),
    "show_job": ("jobs.get", "jobs.wait"),
    "show_results": ("jobs.results_page", "jobs.results", "jobs.download_results"),
    "follow_job": ("jobs.events",),
    "cancel_job": ("jobs.cancel",),
    "retry_job": ("jobs.retry",),
    "pause_job": ("jobs.pause",),
    "resume_job": ("jobs.resume",),
}
"""Operations whose methods have other names than `VERBS` gives them."""
VERBS = {"show": "get", "change": "update", "forget": "delete"}
ARGUMENTS = {
    "image": "image or images",
    "image_url": "image or images",
    "image_urls": "images",
    "image_a_url": "image_a",
    "image_b_url": "image_b",
    "embedding": "embedding or embeddings",
}
"""Fields that are given as one of these arguments."""
DOCUMENTED = orjson.loads(create_app(Settings())[DOCUMENT])
OPERATIONS = {
    operation["operationId"]: (path, operation)
    for path, methods in DOCUMENTED["paths"].items()
    for operation in methods.values()
}
CALLED = sorted(OPERATIONS.keys() - LEFT_OUT.keys())


def methods_of(operation: str) -> tuple[str, ...]:
    verb, _, rest = operation.partition("_")
    usual = f"{VERBS.get(verb, verb)}_{rest}" if rest else verb
    return NAMES.get(operation, (usual,))


def fields_of(operation: Mapping[str, Any]) -> set[str]:
    """Names of all query parameters and body fields."""
    names = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        names |= set(resolved(content.get("schema", {})).get("properties", {}))
    return names


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return DOCUMENTED["components"]["schemas"][name] if name else schema


def method(client: type, name: str) -> Any:
    """Find a method; `jobs.get` is a method of what the property `jobs` returns."""
    group, _, rest = name.rpartition(".")
    if not group:
        return getattr(client, name)
    return getattr(get_type_hints(getattr(client, group).fget)["return"], rest)


def returned(operation: str) -> Any:
    return get_type_hints(method(AurumClient, methods_of(operation)[0]))["return"]


def test_what_is_left_out_exists():
    assert LEFT_OUT.keys() <= OPERATIONS.keys()


@pytest.mark.parametrize("operation", CALLED)
def test_every_operation_has_a_method_with_all_its_options(operation):
    path, described = OPERATIONS[operation]
    for kind in (AurumClient, AsyncAurumClient):
        arguments: set[str] = set()
        for name in methods_of(operation):
            arguments |= set(inspect.signature(method(kind, name)).parameters)
        missing = {
            field
            for field in fields_of(described)
            if not arguments & set(ARGUMENTS.get(field, field).split(" or "))
        }
        assert missing == set(), f"{operation}: {missing}"
        needed = len(re.findall("{", path))
        assert len(arguments) > needed


@pytest.mark.parametrize("operation", CALLED)
def test_every_field_of_an_answer_is_a_field_of_the_result(operation):
    _, described = OPERATIONS[operation]
    for status, answer in described["responses"].items():
        content = answer.get("content", {}).get("application/json")
        if content is not None:
            compare(content["schema"], returned(operation), f"{operation} {status}")
        elif "text/event-stream" in answer.get("content", {}):
            assert returned(operation) == Iterator[JobEvent]
        elif int(status) < 300 and answer.get("content"):
            assert returned(operation) in (bytes, str)


def compare(schema: Mapping[str, Any], hint: Any, where: str) -> None:
    """Compare a schema with an annotation, and what is within them."""
    schema = resolved(schema)
    if "anyOf" in schema:
        kinds = [each for each in schema["anyOf"] if each != {"type": "null"}]
        assert get_origin(hint) is Union, where
        assert type(None) in get_args(hint), where
        inner = [each for each in get_args(hint) if each is not type(None)]
        for kind, each in zip(kinds, inner, strict=True):
            compare(kind, each, where)
        return
    if get_origin(hint) is Union:
        # absent where it was not asked for
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    kind = schema.get("type")
    if "properties" in schema:
        compare_fields(schema, hint, where)
    elif kind == "array":
        compare_items(schema, hint, where)
    elif kind == "object":
        assert get_origin(hint) is not None, where
        values = schema.get("additionalProperties", True)
        if isinstance(values, Mapping):
            compare(values, get_args(hint)[1], where)
    else:
        fits = {
            "string": (str, datetime),
            "integer": (int,),
            "number": (float,),
            "boolean": (bool,),
        }
        assert hint in fits[kind], f"{where}: {hint} is not {kind}"


def compare_fields(schema: Mapping[str, Any], hint: Any, where: str) -> None:
    assert dataclasses.is_dataclass(hint), where
    hints = get_type_hints(hint)
    known = {each.name: each for each in dataclasses.fields(hint)}
    missing = schema["properties"].keys() - known.keys()
    assert missing == set(), f"{where}: {hint.__name__} lacks {missing}"
    for name, each in schema["properties"].items():
        compare(each, hints[name], f"{where}.{name}")
    needed = {
        name
        for name, each in known.items()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    assert needed <= set(schema.get("required", ())), f"{where}: may be absent"
    assert known.keys() - schema["properties"].keys() <= {EXTRA, "request_id"}, where


def compare_items(schema: Mapping[str, Any], hint: Any, where: str) -> None:
    assert get_origin(hint) is tuple, where
    inner = get_args(hint)
    if "prefixItems" in schema:
        assert len(inner) == len(schema["prefixItems"])
        for each, kind in zip(schema["prefixItems"], inner, strict=True):
            compare(each, kind, where)
    else:
        assert inner[1:] == (Ellipsis,), where
        compare(schema["items"], inner[0], where)


def test_both_clients_have_the_same_methods():
    def described(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(each).parameters)
            for name, each in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert described(AurumClient) == described(AsyncAurumClient)
    assert described(type(AurumClient().jobs)) == described(jobs.AsyncJobs)


def test_every_code_of_the_service_has_a_family():
    assert set(FAMILIES) == set(POLICIES)
    assert ProblemError not in FAMILIES.values()


def test_a_key_is_sent_where_the_service_honours_it():
    honouring = {route.handler.__name__ for route in ROUTES if route.idempotency is not None}
    # elsewhere a repeated change would look like a second one
    assert honouring == {"enrol_faces"}
    for name in methods_of("enrol_faces"):
        assert "new_key()" in inspect.getsource(getattr(people.AsyncPeople, name))
    # this route reads its key itself, as it compares what has arrived
    assert "new_key()" in inspect.getsource(jobs.AsyncJobs.submit)
