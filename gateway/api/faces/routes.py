"""Score, detect, embed, verify."""

from typing import Final

from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.faces.answer import Asker, FaceAnswers, FaceOperation
from gateway.api.faces.schemas import FaceOptions, VerifyIn, VerifyOptions
from gateway.api.faces.serializers import verify_out
from gateway.api.shapes import NoOptions
from gateway.errors import InvalidRequestError
from gateway.pipeline import Selection
from gateway.rollout.plan import RequestIdentity

IMAGE_FIELDS: Final = BodySpec(NoOptions, ("image",))
PAIR_FIELDS: Final = BodySpec(VerifyIn, ("image_a", "image_b"))


async def score(call: Call[FaceOptions, NoOptions]) -> Answer:
    """Rate the faces of an image; an image without faces is an error."""
    return await _answer_faces(call, "score")


async def detect(call: Call[FaceOptions, NoOptions]) -> Answer:
    """Find the faces of an image."""
    return await _answer_faces(call, "detect")


async def embed(call: Call[FaceOptions, NoOptions]) -> Answer:
    """Embed the faces of an image."""
    return await _answer_faces(call, "embed")


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


async def _answer_faces(call: Call[FaceOptions, NoOptions], operation: FaceOperation) -> Answer:
    services = call.services
    answers = FaceAnswers(
        services.pipeline, services.cpu_pool, scoring=services.settings.scoring == "on"
    )
    asker = Asker(
        request_id=call.request_id,
        tenant=call.caller.tenant,
        deadline=call.deadline,
        elapsed_ms=call.context.elapsed_ms,
        identity=RequestIdentity(call.request_id, call.caller.tenant),
    )
    return Answer(await answers.answer(call.body.images[0].data, operation, call.options, asker))


def _given_threshold(options: VerifyOptions, fields: VerifyIn) -> float | None:
    """Return the threshold of the request; raises InvalidRequestError if it is ambiguous."""
    if options.threshold is not None and fields.threshold is not None:
        raise InvalidRequestError("threshold is given twice, in the query and in the body")
    threshold = options.threshold if fields.threshold is None else fields.threshold
    if threshold is not None and options.target_fmr is not None:
        raise InvalidRequestError("threshold and target_fmr are given; send one")
    return threshold
