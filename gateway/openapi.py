"""Rank 5: the OpenAPI 3.1 document, made from the route table and the schemas alone."""

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.examples import EXAMPLES
from gateway.middleware import PROBLEM_TYPE, PROBLEMS
from gateway.routes.bodies import BodySpec
from gateway.routes.context import REQUEST_ID_HEADER
from gateway.routes.route import Bodies, Route
from gateway.routes.uploads import Fields
from gateway.schemas import ProblemOut

Json = dict[str, Any]

_ANYWHERE: Final = ("internal",)
_COMES_BACK: Final = frozenset(
    {"rate_limited", "inference_unavailable", "jobs_unavailable", "storage_unavailable"}
)
"""Codes whose answers carry `Retry-After`."""
_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"{(\w+)}")


def build_document(routes: Sequence[Route], *, version: str) -> Json:
    """Describe the routes."""
    shapes: list[type[BaseModel]] = [ProblemOut]
    for route in routes:
        shapes += [shape for shape in route.answers.values() if shape and shape not in shapes]
    _, definitions = models_json_schema(
        [(shape, "serialization") for shape in shapes]
        + [(shape, "validation") for shape in _body_shapes(routes)],
        ref_template=_REF,
    )
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Aurum",
            "version": version,
            "description": "Faces in photos: where they are, who they are, how a head rates them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }


def _operation(route: Route) -> Json:
    operation: Json = {
        "tags": [route.tag],
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": route.description,
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.options)],
        "responses": {},
    }
    if isinstance(route.fields, BodySpec):
        operation["requestBody"] = {"required": True, "content": _spec_bodies(route.fields)}
    elif isinstance(route.fields, Bodies):
        operation["requestBody"] = {"required": True, "content": _own_bodies(route.fields)}
    elif route.fields is not None:
        operation["requestBody"] = {"required": True, "content": _bodies(route.fields)}
    for status, shape in route.answers.items():
        operation["responses"][str(status)] = _answer(route, status, shape)
    for status, codes in _by_status((*route.errors, *_ANYWHERE)).items():
        if str(status) not in operation["responses"]:
            operation["responses"][str(status)] = _problems(status, codes)
    return operation


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(options: type[BaseModel]) -> list[Json]:
    schema = options.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": described.pop("description", ""),
            "schema": described,
            # include=embedding,crop
            **({"style": "form", "explode": False} if described.get("type") == "array" else {}),
        }
        for name, described in schema.get("properties", {}).items()
    ]


def _bodies(fields: Fields) -> Json:
    binary = {"type": "string", "contentMediaType": "image/*"}
    base64 = {"type": "string", "contentEncoding": "base64", "description": "or a data URI"}
    number = {"type": "number", "minimum": -1, "maximum": 1}
    bodies: Json = {}
    for media, image in (("multipart/form-data", binary), ("application/json", base64)):
        properties = {name: image for name in fields.images} | {n: number for n in fields.texts}
        bodies[media] = {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(fields.images),
                "additionalProperties": False,
            }
        }
    if len(fields.images) == 1:
        bodies["image/*"] = {"schema": binary}
    return bodies


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


def _spec_bodies(spec: BodySpec) -> Json:
    shape = {"$ref": _REF.format(model=spec.shape.__name__)}
    if spec.images == "none":
        return {"application/json": {"schema": shape}}
    binary = {"type": "string", "contentMediaType": "image/*"}
    base64 = {"type": "string", "contentEncoding": "base64", "description": "or a data URI"}
    bodies: Json = {"image/*": {"schema": binary}}
    for media, image in (("multipart/form-data", binary), ("application/json", base64)):
        images: Json = {"image": image}
        if spec.images == "many":
            images["images"] = {"type": "array", "items": image}
        described = spec.shape.model_json_schema(ref_template=_REF)
        described.pop("$defs", None)
        described["properties"] = images | described["properties"]
        bodies[media] = {"schema": described}
    return bodies


def _answer(route: Route, status: int, shape: type[BaseModel] | None) -> Json:
    headers = {REQUEST_ID_HEADER: {"schema": {"type": "string"}}}
    answer: Json = {"description": "Done." if status < 400 else "Not ready.", "headers": headers}
    if shape is not None:
        content: Json = {"schema": {"$ref": _REF.format(model=shape.__name__)}}
        example = EXAMPLES.get((route.method, route.path, status))
        if example is not None:
            content["example"] = example
        answer["content"] = {route.media: content} | {media: {} for media in route.more_media}
    elif status < 300:
        answer["content"] = {route.media: {}}
    return answer


def _by_status(codes: Sequence[str]) -> dict[int, list[str]]:
    grouped: dict[int, list[str]] = {}
    for code in codes:
        grouped.setdefault(PROBLEMS[code].status, []).append(code)
    return grouped


def _problems(status: int, codes: list[str]) -> Json:
    examples = {
        code: {
            "value": {
                "type": f"urn:aurum:problem:{code}",
                "title": PROBLEMS[code].title,
                "status": status,
                "detail": PROBLEMS[code].title,
                "code": code,
                "request_id": "0f8fad5bd9cb469fa16570867728950e",
            }
        }
        for code in codes
    }
    headers: Json = {REQUEST_ID_HEADER: {"schema": {"type": "string"}}}
    if any(code in _COMES_BACK for code in codes):
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
