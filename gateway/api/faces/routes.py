"""Score, detect, embed, verify."""

from functools import partial
from typing import Final

from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.faces.schemas import FaceOptions, VerifyIn, VerifyOptions
from gateway.api.faces.serializers import faces_out, verify_out
from gateway.api.shapes import NoOptions
from gateway.errors import InvalidRequestError, NoFaceError
from gateway.pipeline import Selection
from gateway.rollout.plan import RequestIdentity
from gateway.types import Need
from triton_python_backend.needs import need_for

IMAGE_FIELDS: Final = BodySpec(NoOptions, ("image",))
PAIR_FIELDS: Final = BodySpec(VerifyIn, ("image_a", "image_b"))


async def score(call: Call[FaceOptions, NoOptions]) -> Answer:
    """Rate the faces of an image; an image without faces is an error."""
    scored = call.services.settings.scoring == "on"
    need = Need.SCORE if scored else Need.NOTHING_MORE
    return await _answer_faces(call, need, must_show_face=True)


async def detect(call: Call[FaceOptions, NoOptions]) -> Answer:
    """Find the faces of an image."""
    return await _answer_faces(call, Need.NOTHING_MORE)


async def embed(call: Call[FaceOptions, NoOptions]) -> Answer:
    """Embed the faces of an image."""
    return await _answer_faces(call, Need.EMBEDDING)


async def verify(call: Call[VerifyOptions, VerifyIn]) -> Answer:
    """Compare the largest faces of two images, or their most similar pair of faces."""
    options = call.options
    threshold = _given_threshold(options, call.fields)
    image_a, image_b = call.body.images
    comparison = await call.services.pipeline.compare(
        image_a=image_a.data,
        image_b=image_b.data,
        selection=Selection(
            1 if options.faces == "largest" else options.max_faces,
            options.min_confidence,
            options.rotation,
            options.detail,
        ),
        deadline=call.deadline,
        tenant=call.caller.tenant,
        identity=RequestIdentity(call.request_id, call.caller.tenant),
    )
    if threshold is None:
        embedding = comparison.a.analysis.embedding
        threshold = call.services.thresholds.of_space(
            None if embedding is None else embedding.id, target_fmr=options.target_fmr
        )
    return Answer(
        verify_out(
            comparison,
            request_id=call.request_id,
            threshold=threshold,
            total_ms=call.context.elapsed_ms(),
        )
    )


async def _answer_faces(
    call: Call[FaceOptions, NoOptions], need: Need, *, must_show_face: bool = False
) -> Answer:
    options = call.options
    need |= need_for(options.include)
    result = await call.services.pipeline.run(
        call.body.images[0].data,
        need=need,
        selection=Selection(
            options.max_faces, options.min_confidence, options.rotation, options.detail
        ),
        deadline=call.deadline,
        tenant=call.caller.tenant,
        identity=RequestIdentity(call.request_id, call.caller.tenant),
    )
    if must_show_face and not result.analysis.faces:
        raise NoFaceError("the image shows no face")
    shape = partial(
        faces_out,
        result,
        request_id=call.request_id,
        need=need,
        total_ms=call.context.elapsed_ms(),
    )
    # encoding many PNGs would block the event loop
    if Need.CROPS in need:
        return Answer(await call.services.cpu_pool.run(shape, deadline=call.deadline))
    return Answer(shape())


def _given_threshold(options: VerifyOptions, fields: VerifyIn) -> float | None:
    """Return the threshold of the request; raises InvalidRequestError if it is ambiguous."""
    if options.threshold is not None and fields.threshold is not None:
        raise InvalidRequestError("threshold is given twice, in the query and in the body")
    threshold = options.threshold if fields.threshold is None else fields.threshold
    if threshold is not None and options.target_fmr is not None:
        raise InvalidRequestError("threshold and target_fmr are given; send one")
    return threshold
