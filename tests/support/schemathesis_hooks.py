"""What OpenAPI cannot say of a valid request, done to those that schemathesis makes.

Only to requests that are meant to be valid; those meant to be wrong are sent as they are.
"""

import base64
import io
import json
import zipfile
from typing import Any

import schemathesis
from PIL import Image

from gateway.collections.names import subject_name
from tests.support.fake_inference import DIMENSION, SPACE, photo
from triton_python_backend.self_test import PORTRAIT as FILE

_IMAGES = {"image", "image_a", "image_b"}
_MOST_IMAGES = 1
"""In each of the four fields that an enrolment may have: an image, its URL, and lists of both."""
_LISTS = {"images", "image_urls"}
_BATCH = "/api/ml/score/batch"
_ARCHIVES = {"application/zip", "application/x-tar", "application/gzip"}
_ENROL = {"subject", "subject_from", "faces", "quality", "metadata", "consent", "purpose"}
_NAMES = {"subject", "display_name", "external_id", "q", "purpose", "reason"}
_ONE_PERSON = ("/subjects/find", "/do-not-enrol")
"""Ends of paths that take an image or a subject."""
_CONSENT = {"reference": "form 1", "given_at": "2026-01-01T12:00:00Z"}


def _portrait() -> bytes:
    """Encode the portrait with the mark of one face, which the fake engine reads."""
    image = Image.open(FILE).convert("RGB")
    mark: Any = Image.open(io.BytesIO(photo(faces=1))).getpixel((0, 0))
    image.putpixel((0, 0), mark)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


PORTRAIT = _portrait()
PACKED = base64.b64encode(PORTRAIT).decode()


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: Any
) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    body: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
    query: dict[str, Any] = case.query if isinstance(case.query, dict) else {}
    # what is not seen in a name is refused by Unicode's categories, of which no pattern knows
    given = body.get("embeddings") or ()
    embeddings = given if isinstance(given, list) else ()
    for fields in (query, body, *embeddings, *(body.get("people") or ())):
        for name in _NAMES & set(fields):
            fields[name] = _seen(fields[name])
        # no format tells years that exist from others, nor the past from the future
        if isinstance(fields.get("consent"), dict):
            fields["consent"] = _CONSENT
    # a cursor comes from an answer, a false match rate from a calibration with enough pairs, nobody
    # works on a job, and a field comes in the query or in the body, not in both
    for name in {"cursor", "target_fmr", "wait", *body} & set(query):
        del query[name]
    if case.path.endswith(_ONE_PERSON) and case.method.upper() == "POST":
        _fit_person(case, query, body)
    if case.path == _BATCH:
        _fit_batch(case, query, kwargs)
    elif case.media_type == "application/json":
        for each in (body, *embeddings):
            if each.get("embedding"):
                each["embedding"] = _vector(each["embedding"])
        if body.get("space"):
            body["space"] = SPACE
        body.pop("target_fmr", None)
        for name in _IMAGES & set(body):
            body[name] = PACKED
        if "images" in body:
            body["images"] = [PACKED] * _MOST_IMAGES
        if "image_urls" in body:
            body["image_urls"] = body["image_urls"][:_MOST_IMAGES]
    # schemathesis takes bytes that a hook puts into a case for invalid: they are sent beside it
    elif case.media_type == "multipart/form-data":
        kwargs["files"] = [field for name in body for field in _form_fields(name, body[name])]
        kwargs["data"] = None
    elif case.media_type and case.media_type.startswith("image/"):
        kwargs["data"] = PORTRAIT


def _fit_person(case: schemathesis.Case[Any], query: dict[str, Any], body: dict[str, Any]) -> None:
    """Send an image or a subject."""
    if "image" in body or (case.media_type or "").startswith("image/"):
        body.pop("subject", None)
        query.pop("subject", None)
    elif not body.get("subject"):
        body.pop("subject", None)
        query["subject"] = "ada"


def _fit_batch(case: schemathesis.Case[Any], query: dict[str, Any], kwargs: Any) -> None:
    """Leave out options of other operations, and send archives and files."""
    # nobody works on the job, and no webhook may be sent
    for name in {"wait", "webhook", "collection", *(_ENROL | {"operation"})} & set(query):
        del query[name]
    if case.media_type == "multipart/form-data":
        kwargs["files"] = [("images", ("photo.png", PORTRAIT))] * 2
        kwargs["data"] = None
    elif case.media_type in _ARCHIVES:
        kwargs["data"] = _archive()


def _archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("photo.png", PORTRAIT)
    return target.getvalue()


def _seen(text: Any) -> Any:
    """Give a name, or a plain one of the same length in the place of one that is refused."""
    if not isinstance(text, str) or not text:
        return text
    try:
        return subject_name(text)
    except ValueError:
        return "x" * len(text)


def _vector(numbers: list[float]) -> list[float]:
    """Give a vector a direction, and the dimension of its space."""
    rest = [min(max(number, -10.0), 10.0) for number in numbers]
    return [1.0, *rest, *[0.0] * DIMENSION][:DIMENSION]


def _form_fields(name: str, value: Any) -> list[tuple[str, tuple[str | None, str | bytes]]]:
    """Say how `requests` sends a field: (name, (file name, content))."""
    if name == "target_fmr":
        return []
    if name in _LISTS:
        value = value[:_MOST_IMAGES]
    if name in _IMAGES or name == "images":
        return [(name, ("photo.png", PORTRAIT))] * _MOST_IMAGES
    if name == "image_urls":
        return [(name, (None, each)) for each in value]
    if name == "embedding":
        value = _vector(value)
    if name == "embeddings":
        value = [{**each, "embedding": _vector(each["embedding"])} for each in value]
    if name == "space":
        value = SPACE
    return [(name, (None, value if isinstance(value, str) else json.dumps(value)))]
