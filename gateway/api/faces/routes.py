"""Score, detect, embed, verify."""

from functools import partial

from aiohttp import web

from gateway.api.body import BodySpec, read_body
from gateway.api.context import (
    context_of,
    json_answer,
    read_options,
    services_of,
)
from gateway.api.faces.schemas import FaceOptions, VerifyIn, VerifyOptions
from gateway.api.faces.serializers import faces_out, verify_out
from gateway.api.shapes import NoOptions
from gateway.errors import InvalidRequestError, NoFaceError
from gateway.pipeline import Selection
from gateway.rollout.plan import RequestIdentity
from gateway.types import Need
from triton_python_backend.needs import need_for

IMAGE_FIELDS = BodySpec(NoOptions, ("image",))


PAIR_FIELDS = BodySpec(VerifyIn, ("image_a", "image_b"))


async def score(request: web.Request) -> web.Response:
    """Rate the faces of an image; an image without one is an error."""
    scored = services_of(request).settings.scoring == "on"
    need = Need.SCORE if scored else Need.NOTHING_MORE
    return await _answer_faces(request, need, must_show_face=True)


async def detect(request: web.Request) -> web.Response:
    """Find the faces of an image."""
    return await _answer_faces(request, Need.NOTHING_MORE)


async def embed(request: web.Request) -> web.Response:
    """Embed the faces of an image."""
    return await _answer_faces(request, Need.EMBEDDING)


async def verify(request: web.Request) -> web.Response:
    """Compare the largest faces of two images, or the most alike."""
    context, services = context_of(request), services_of(request)
    options = read_options(request, VerifyOptions)
    body = await read_body(request, PAIR_FIELDS, VerifyIn)
    image_a, image_b = body.images
    threshold = _threshold(options.threshold, body.fields.threshold)
    if threshold is not None and options.target_fmr is not None:
        raise InvalidRequestError("threshold and target_fmr are given; send one")
    comparison = await services.pipeline.compare(
        image_a=image_a.data,
        image_b=image_b.data,
        selection=Selection(
            1 if options.faces == "largest" else options.max_faces,
            options.min_confidence,
            options.rotation,
            options.detail,
        ),
        deadline=context.deadline,
        tenant=context.caller.tenant,
        identity=RequestIdentity(context.request_id, context.caller.tenant),
    )
    if threshold is None:
        embedding = comparison.a.analysis.embedding
        threshold = services.calibrations.threshold(
            "" if embedding is None else embedding.id,
            target_fmr=options.target_fmr,
            otherwise=services.settings.match_threshold,
        )
    answer = verify_out(
        comparison,
        request_id=context.request_id,
        threshold=threshold,
        total_ms=context.elapsed_ms(),
    )
    return json_answer(answer)


async def _answer_faces(
    request: web.Request, need: Need, *, must_show_face: bool = False
) -> web.Response:
    context, services = context_of(request), services_of(request)
    options = read_options(request, FaceOptions)
    body = await read_body(request, IMAGE_FIELDS, NoOptions)
    need |= need_for(options.include)
    result = await services.pipeline.run(
        body.images[0].data,
        need=need,
        selection=Selection(
            options.max_faces, options.min_confidence, options.rotation, options.detail
        ),
        deadline=context.deadline,
        tenant=context.caller.tenant,
        identity=RequestIdentity(context.request_id, context.caller.tenant),
    )
    if must_show_face and not result.analysis.faces:
        raise NoFaceError("the image shows no face")
    shape = partial(
        faces_out,
        result,
        request_id=context.request_id,
        need=need,
        total_ms=context.elapsed_ms(),
    )
    # many PNGs are too much for the event loop
    if Need.CROPS in need:
        return json_answer(await services.workers.run(shape, deadline=context.deadline))
    return json_answer(shape())


def _threshold(in_query: float | None, in_body: float | None) -> float | None:
    if in_query is not None and in_body is not None:
        raise InvalidRequestError("threshold is given twice, in the query and in the body")
    return in_query if in_body is None else in_body
