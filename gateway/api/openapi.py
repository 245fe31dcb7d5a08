"""The OpenAPI 3.1 document, generated from the route table and the schemas."""

import re
from collections.abc import Sequence, Set
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.api.auth import Permission
from gateway.api.body import BodySpec
from gateway.api.context import REQUEST_ID_HEADER
from gateway.api.examples import EXAMPLES
from gateway.api.problems import PROBLEM_TYPE
from gateway.api.route import Bodies, Route
from gateway.api.shapes import ProblemOut
from gateway.error_policy import POLICIES
from gateway.outbound.urls import MAX_URL_CHARACTERS
from gateway.security.credentials import KEY_HEADER

Json = dict[str, Any]

_ANYWHERE: Final = ("forbidden", "internal")
"""Codes of every route; the first one for a host name that is not the gateway's."""
_GUARDED: Final = ("unauthorized", "rate_limited", "storage_unavailable")
"""Codes of routes that need a key; the last one where no key can be looked up."""
_LIMIT_HEADERS: Final[Json] = {
    "RateLimit-Policy": {
        "description": "The limits of the key or token, if it has any: a list of structured "
        "fields, as in draft-ietf-httpapi-ratelimit-headers-11.",
        "schema": {"type": "string"},
        "example": '"requests";q=600;w=60;aurum-burst=60',
    },
    "RateLimit": {
        "description": "What is left of each of them.",
        "schema": {"type": "string"},
        "example": '"requests";r=59;t=1',
    },
}
_OF_URLS: Final = ("image_url_refused", "image_url_failed")
"""Codes of routes that take the URL of an image."""
_SCHEMES: Final[Json] = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "An API key, `aur_…`.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a JSON Web Token of an issuer that the gateway accepts.",
    },
}
_BINARY: Final = {"type": "string", "minLength": 1, "contentMediaType": "image/*"}
_BASE64: Final = {
    "type": "string",
    "minLength": 1,
    "contentEncoding": "base64",
    "description": "Standard or URL-safe alphabet, padding optional; or a data URI.",
}
_URL: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_URL_CHARACTERS,
    "description": "http or https; instead of the image, if the service fetches URLs.",
}
_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"{(\w+)}")


def build_document(
    routes: Sequence[Route], *, version: str, public: Set[Permission], key_is_optional: bool
) -> Json:
    """Describe the routes.

    public: permissions that nobody is asked for. key_is_optional: whether all others are there
    without a key, too.
    """
    shapes: list[type[BaseModel]] = [ProblemOut]
    for route in routes:
        shapes += [shape for shape in route.responses.values() if shape and shape not in shapes]
    _, definitions = models_json_schema(
        [(shape, "serialization") for shape in shapes]
        + [(shape, "validation") for shape in _body_shapes(routes)],
        ref_template=_REF,
    )
    paths: dict[str, Json] = {}
    for route in routes:
        operation = _operation(route)
        if route.permission not in public:
            # an empty requirement: without a key, too
            optional: list[Json] = [{}] if key_is_optional else []
            operation["security"] = [*optional, *({name: []} for name in _SCHEMES)]
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Aurum",
            "version": version,
            "description": "Find, recognise and rate the faces in photos. Every path with GET "
            "answers HEAD, too; OPTIONS lists the methods of a path. `x-permission` is the role "
            "that a route needs; `docs` and `metrics` need any. `security` says whether this "
            "gateway asks for it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "headers": _LIMIT_HEADERS,
            "securitySchemes": _SCHEMES,
        },
    }


def _operation(route: Route) -> Json:
    operation: Json = {
        "tags": [route.tag],
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": route.description,
        "parameters": [*_path_parameters(route.path), *_query_parameters(route)],
        "responses": {},
        "x-permission": route.permission.value,
    }
    if isinstance(route.fields, BodySpec):
        operation["requestBody"] = _body(route.fields)
    elif isinstance(route.fields, Bodies):
        operation["requestBody"] = {"required": True, "content": _own_bodies(route.fields)}
    for status, shape in route.responses.items():
        operation["responses"][str(status)] = _answer(route, status, shape)
    for status, codes in _by_status(_codes(route)).items():
        if str(status) not in operation["responses"]:
            operation["responses"][str(status)] = _problems(status, codes)
    if route.permission is not Permission.PUBLIC:
        for answer in operation["responses"].values():
            for name in _LIMIT_HEADERS:
                answer["headers"][name] = {"$ref": f"#/components/headers/{name}"}
    return operation


def _codes(route: Route) -> list[str]:
    """List the codes of a route's problems, each once."""
    codes = [*route.errors, *_ANYWHERE]
    if route.permission is not Permission.PUBLIC:
        codes += _GUARDED
    if isinstance(route.fields, BodySpec) and route.fields.image_names:
        codes += _OF_URLS
    return list(dict.fromkeys(codes))


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(route: Route) -> list[Json]:
    schema = {} if route.options is None else route.options.model_json_schema()
    properties: Json = dict(schema.get("properties", {}))
    spec = route.fields
    if isinstance(spec, BodySpec) and spec.query_names:
        described = spec.shape.model_json_schema(ref_template=_REF)["properties"]
        properties |= {name: described[name] for name in spec.query_names}
    return [
        _query_parameter(name, described, in_body=name not in schema.get("properties", {}))
        for name, described in properties.items()
    ]


def _query_parameter(name: str, described: Json, *, in_body: bool) -> Json:
    schema = _without_null(described)
    parameter: Json = {
        "name": name,
        "in": "query",
        "required": False,
        "description": schema.pop("description", ""),
    }
    if schema.get("type") == "object" or (in_body and _is_structure(schema)):
        return parameter | {"content": {"application/json": {"schema": schema}}}
    if schema.get("type") == "array":
        # include=embedding,crop
        parameter |= {"style": "form", "explode": False}
    return parameter | {"schema": schema}


def _without_null(described: Json) -> Json:
    """Drop null, which a query or form cannot express: the field is left out instead."""
    kinds = [kind for kind in described.get("anyOf", []) if kind != {"type": "null"}]
    rest = {key: value for key, value in described.items() if key != "anyOf"}
    if rest.get("default", "") is None:
        del rest["default"]
    if not kinds:
        return rest
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _is_structure(described: Json) -> bool:
    return _without_null(described).get("type") in ("array", "object")


def _body_shapes(routes: Sequence[Route]) -> list[type[BaseModel]]:
    shapes: list[type[BaseModel] | None] = []
    for body in (route.fields for route in routes):
        if isinstance(body, BodySpec):
            shapes.append(body.shape)
        elif isinstance(body, Bodies):
            shapes += body.shapes.values()
    return list(dict.fromkeys(shape for shape in shapes if shape is not None))


def _own_bodies(bodies: Bodies) -> Json:
    return {
        media: {} if shape is None else {"schema": {"$ref": _REF.format(model=shape.__name__)}}
        for media, shape in bodies.shapes.items()
    }


def _body(spec: BodySpec) -> Json:
    shape = spec.shape.model_json_schema(ref_template=_REF)
    needed = bool(spec.image_names) or bool(shape.get("required"))
    return {"required": needed, "content": _contents(spec, shape)}


def _contents(spec: BodySpec, shape: Json) -> Json:
    if not spec.image_names:
        reference = {"$ref": _REF.format(model=spec.shape.__name__)}
        return {"application/json": {"schema": reference}}
    fields: Json = shape.get("properties", {})
    texts = {name: _without_null(field) for name, field in fields.items()}
    contents: Json = {}
    for media, image, properties in (
        ("multipart/form-data", _BINARY, texts),
        ("application/json", _BASE64, fields),
    ):
        images: Json = {
            name: {"type": "array", "items": image, "minItems": 1} if name == "images" else image
            for name in spec.image_names
        }
        urls: Json = {
            name: {"type": "array", "items": _URL, "minItems": 1} if name == "image_urls" else _URL
            for name in spec.url_names
        }
        schema: Json = {
            "type": "object",
            "properties": images | urls | properties,
            "required": shape.get("required", []),
            "additionalProperties": False,
            **_rules(spec, fields),
        }
        contents[media] = {"schema": schema}
    structures = [name for name, field in fields.items() if _is_structure(field)]
    if structures:
        encoding = {name: {"contentType": "application/json"} for name in structures}
        contents["multipart/form-data"]["encoding"] = encoding
    if spec.raw_name is not None:
        contents["image/*"] = {"schema": _BINARY}
    return contents


def _rules(spec: BodySpec, fields: Json) -> Json:
    """Describe which fields belong together or exclude each other; null counts as left out."""
    rules: Json = {}
    pairs = spec.url_names.items()
    if spec.images != "many" and pairs:
        # each image as itself or by its URL
        either = [{"oneOf": [{"required": [image]}, {"required": [url]}]} for url, image in pairs]
        both = [{"not": {"required": [image, url]}} for url, image in pairs]
        rules["allOf"] = either if spec.required else both
    if not spec.required:
        vectors = [name for name in ("embedding", "embeddings") if name in fields]
        without = {name: {"not": {"type": "array"}} for name in vectors}
        ways: list[Json] = [
            {"required": [name], "properties": without}
            for name in (*spec.image_names, *spec.url_names)
        ]
        for name in vectors:
            way = _given(**{name: "array", "space": "string"})
            others = {other: rule for other, rule in without.items() if other != name}
            way["properties"] |= others | dict.fromkeys((*spec.image_names, *spec.url_names), False)
            ways.append(way)
        rules["anyOf"] = ways
    if {"min_similarity", "target_fmr"} <= set(fields):
        rules["not"] = _given(min_similarity="number", target_fmr="number")
    return rules


def _given(**types: str) -> Json:
    """Describe an object with these fields, whose values have these types."""
    return {
        "required": list(types),
        "properties": {name: {"type": kind} for name, kind in types.items()},
    }


def _answer(route: Route, status: int, shape: type[BaseModel] | None) -> Json:
    headers = {REQUEST_ID_HEADER: {"schema": {"type": "string"}}}
    answer: Json = {"description": "Done." if status < 400 else "Not ready.", "headers": headers}
    if shape is not None:
        content: Json = {"schema": {"$ref": _REF.format(model=shape.__name__)}}
        example = EXAMPLES.get((route.method, route.path, status))
        if example is not None:
            content["example"] = example
        answer["content"] = {route.media: content} | {media: {} for media in route.more_media}
    elif status < 300 and status != 204:
        answer["content"] = {route.media: {}}
    return answer


def _by_status(codes: Sequence[str]) -> dict[int, list[str]]:
    grouped: dict[int, list[str]] = {}
    for code in codes:
        grouped.setdefault(POLICIES[code].status, []).append(code)
    return grouped


def _problems(status: int, codes: list[str]) -> Json:
    examples = {
        code: {
            "value": {
                "type": f"urn:aurum:problem:{code}",
                "title": POLICIES[code].title,
                "status": status,
                "detail": POLICIES[code].title,
                "code": code,
                "request_id": "0f8fad5bd9cb469fa16570867728950e",
            }
        }
        for code in codes
    }
    headers: Json = {REQUEST_ID_HEADER: {"schema": {"type": "string"}}}
    if "unauthorized" in codes:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    if any(POLICIES[code].retry_after != "never" for code in codes):
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": headers,
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": _REF.format(model=ProblemOut.__name__)},
                "examples": examples,
            }
        },
    }
