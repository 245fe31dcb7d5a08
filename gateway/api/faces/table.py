"""The routes of faces."""

from typing import Final

from gateway.api.auth import Permission
from gateway.api.faces import routes
from gateway.api.faces.schemas import FaceOptions, FacesOut, VerifyOptions, VerifyOut
from gateway.api.route import Route

_IMAGE_ERRORS: Final = (
    "invalid_request",
    "image_too_large",
    "unsupported_media_type",
    "invalid_image",
    "inference_unavailable",
    "timeout",
)

FACE_ROUTES: Final = (
    Route(
        method="POST",
        path="/api/ml/score",
        handler=routes.score,
        permission=Permission.INFER,
        tag="faces",
        summary="Rate the faces of an image",
        description="Returns the faces, largest first, each with its score. An image without a "
        "face is 422 `no_face`. If scoring is switched off, `score` and `score_range` are absent.",
        responses={200: FacesOut},
        options=FaceOptions,
        fields=routes.IMAGE_FIELDS,
        errors=(*_IMAGE_ERRORS, "no_face"),
    ),
    Route(
        method="POST",
        path="/api/ml/detect",
        handler=routes.detect,
        permission=Permission.INFER,
        tag="faces",
        summary="Find the faces of an image",
        description="Like `/api/ml/score`, without the score. An image without a face is 200 with "
        "`faces: []`.",
        responses={200: FacesOut},
        options=FaceOptions,
        fields=routes.IMAGE_FIELDS,
        errors=_IMAGE_ERRORS,
    ),
    Route(
        method="POST",
        path="/api/ml/embed",
        handler=routes.embed,
        permission=Permission.INFER,
        tag="faces",
        summary="Embed the faces of an image",
        description="Each face carries its `embedding`, a unit vector; `models.space` names its "
        "embedding space. An image without a face is 200 with `faces: []`.",
        responses={200: FacesOut},
        options=FaceOptions,
        fields=routes.IMAGE_FIELDS,
        errors=_IMAGE_ERRORS,
    ),
    Route(
        method="POST",
        path="/api/ml/verify",
        handler=routes.verify,
        permission=Permission.INFER,
        tag="faces",
        summary="Compare the faces of two images",
        description="Compares the largest face of each image. `match` is `similarity >= "
        "threshold`. An image without a face is 422 `no_face`, whose `detail` names the image.",
        responses={200: VerifyOut},
        options=VerifyOptions,
        fields=routes.PAIR_FIELDS,
        errors=(*_IMAGE_ERRORS, "no_face"),
    ),
)
