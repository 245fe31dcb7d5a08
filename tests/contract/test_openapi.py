"""The OpenAPI document, the route table and the running app agree."""

import re
from http import HTTPStatus

import orjson
import pytest

from gateway.api.body import BodySpec
from gateway.api.context import SERVICES
from gateway.api.examples import EXAMPLES
from gateway.api.table import ROUTES
from gateway.app import DOCUMENT, create_app
from gateway.error_policy import POLICIES
from gateway.settings import Settings
from gateway.types import Quality, QualityLimits
from tests.support import json_schemas
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, serving


@pytest.fixture(scope="module")
def document():
    return orjson.loads(create_app(Settings())[DOCUMENT])


def validator(document, schema):
    return json_schemas.validator(schema | {"components": document["components"]})


def body_schema(document, path, method, status, media="application/json"):
    answer = document["paths"][path][method]["responses"][str(status)]
    return answer["content"][media]["schema"]


def test_the_document_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    json_schemas.check_document(document)


def test_the_app_answers_exactly_the_routes_of_the_document(document):
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in create_app(Settings()).router.routes()
    }
    heads = {path for method, path in served if method == "head"}
    assert heads == {path for method, path in served if method == "get"}
    served -= {("head", path) for path in heads}
    described = {(m, path) for path, item in document["paths"].items() for m in item}
    assert served == described == {(route.method.lower(), route.path) for route in ROUTES}


def test_operation_names_are_unique(document):
    names = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(names) == len(set(names))


def test_every_route_with_a_json_body_has_an_example(document):
    for route in ROUTES:
        for status, shape in route.responses.items():
            if shape is not None:
                assert (route.method, route.path, status) in EXAMPLES


@pytest.mark.parametrize(("method", "path", "status"), EXAMPLES)
def test_examples_fit_their_schemas(document, method, path, status):
    schema = body_schema(document, path, method.lower(), status)
    validator(document, schema).validate(EXAMPLES[method, path, status])


def test_examples_of_quality_are_consistent_with_the_gate():
    for example in EXAMPLES.values():
        faces = example.get("faces", [])
        for face in faces if isinstance(faces, list) else []:
            quality = dict(face["quality"])
            reasons = quality.pop("reasons")
            acceptable = quality.pop("acceptable")
            assert list(QualityLimits().reasons(Quality(**quality))) == reasons
            assert acceptable == (not reasons)


def test_every_error_status_is_described_as_a_problem(document):
    for route in ROUTES:
        responses = document["paths"][route.path][route.method.lower()]["responses"]
        for code in (*route.errors, "internal"):
            status = POLICIES[code].status
            if status not in route.responses:
                content = responses[str(status)]["content"]["application/problem+json"]
                assert code in content["examples"]
                schema = validator(document, content["schema"])
                schema.validate(content["examples"][code]["value"])


def test_bodies_accept_only_the_fields_of_their_route(document):
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert ("requestBody" in operation) == (route.fields is not None)
        if not isinstance(route.fields, BodySpec) or not route.fields.required:
            continue
        content = operation["requestBody"]["content"]
        for media in ("multipart/form-data", "application/json"):
            schema = content[media]["schema"]
            assert list(schema["properties"]) == route.fields.names
            # each image, or its URL
            pairs = [each["oneOf"] for each in schema["allOf"]]
            urls = dict(zip(route.fields.required, route.fields.url_names, strict=True))
            assert pairs == [[{"required": [a]}, {"required": [b]}] for a, b in urls.items()]
            assert schema["additionalProperties"] is False
        assert ("image/*" in content) == (len(route.fields.required) == 1)


def test_bodies_refuse_unknown_fields(document):
    specified = [
        route
        for route in ROUTES
        if isinstance(route.fields, BodySpec) and not route.fields.required
    ]
    assert specified
    for route in specified:
        content = document["paths"][route.path][route.method.lower()]["requestBody"]["content"]
        images = route.fields.image_names
        assert ("image/*" in content) == bool(images)
        for media in set(content) - {"image/*"}:
            schema = content[media]["schema"]
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rsplit("/")[-1]]
            urls = route.fields.url_names
            assert set(schema["properties"]) == {*images, *urls, *route.fields.shape.model_fields}
            assert schema["additionalProperties"] is False


def test_the_document_refers_to_no_other_host(document):
    assert not re.search(rb"https?://", orjson.dumps(document))


CASES = {
    "score": ("post", "/api/ml/score", "?include=embedding,crop", {"image": photo(faces=2)}),
    "score without face": ("post", "/api/ml/score", "", {"image": photo(faces=0)}),
    "detect": ("post", "/api/ml/detect", "", {"image": photo(faces=3)}),
    "detect without face": ("post", "/api/ml/detect", "", {"image": photo(faces=0)}),
    "detect with a wrong option": ("post", "/api/ml/detect", "?a=b", {"image": photo()}),
    "detect of a text": ("post", "/api/ml/detect", "", {"image": b"text"}),
    "embed": ("post", "/api/ml/embed", "", {"image": photo()}),
    "verify": ("post", "/api/ml/verify", "", {"image_a": photo(), "image_b": photo()}),
    "models": ("get", "/api/ml/models", "", None),
    "candidate": ("get", "/api/ml/models/candidate", "", None),
    "live": ("get", "/api/health/live", "", None),
    "ready": ("get", "/api/health/ready", "", None),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reachable", [True, False])
async def test_answers_of_the_running_app_fit_the_document(document, case, reachable):
    method, path, query, fields = CASES[case]
    fake = FakeInference()
    fake.reachable = reachable
    data = form(**fields) if fields else None
    async with (
        serving(fake) as client,
        client.request(method, path + query, data=data) as response,
    ):
        body = await response.json(content_type=None)
        assert response.content_type in ("application/json", "application/problem+json")
        schema = body_schema(document, path, method, response.status, response.content_type)
        assert "X-Request-ID" in response.headers
    validator(document, schema).validate(body)


async def test_unset_fields_are_absent_and_unknown_versions_are_null():
    async with (
        serving(FakeInference()) as client,
        client.post("/api/ml/detect", data=form(image=photo())) as response,
    ):
        assert response.status == HTTPStatus.OK
        body = await response.json()
    assert set(body["faces"][0]) == {"box", "landmarks", "confidence", "quality"}
    assert body["models"]["space"] is None


def test_services_have_a_single_app_key():
    assert SERVICES not in create_app(Settings()), "nothing is opened before the app starts"
