"""The names, types and shapes that stages, importer and gateway agree on.

Every tensor name of the ensemble stands here once. `tests/contract/test_model_repository.py`
holds each `config.pbtxt` against it. Shapes are written as in a `config.pbtxt`: -1 is any size;
the batch axis of stages with a `max_batch_size` above 0 is left out, as Triton does.
"""

from dataclasses import dataclass
from typing import Final, Literal

# Image in, faces out -----------------------------------------------------------------------

MAX_FACES: Final = 32
"""Faces per image in an answer that asks for no other number."""

MOST_FACES: Final = 512
"""Faces per image that can be asked for; also the largest batch of embedding and scoring."""

CROP_SIZE: Final = 112
"""Edge of an aligned face in pixels (ArcFace's template)."""

FRAME_SIZE: Final = 640
"""Edge in pixels of the canvas that holds the whole image, as SCRFD was trained for."""

CLOSEUP_SIZE: Final = 320
"""Edge in pixels of the canvas that holds the image padded by half its size on each side."""

MAX_CANDIDATES: Final = 256
"""Rows of the detector's outputs per canvas; rows beyond the found faces have confidence 0."""

MIN_CONFIDENCE: Final = 0.5
"""The detector reports nothing below this (insightface's default threshold)."""

NMS_IOU: Final = 0.4
"""Overlap above which the weaker of two boxes is dropped (insightface's default)."""

QUALITY_COLUMNS: Final = ("size", "sharpness", "brightness", "yaw", "pitch", "roll")
"""Columns of QUALITY: pixels (shorter edge of the box), 0-1, 0-1, then degrees."""

INVALID_IMAGE: Final = "invalid_image"
"""First word of the error text by which a stage says that the bytes are no image it can read."""

INVALID_PARAMETER: Final = "invalid_parameter"
"""First word of the error text by which a stage refuses a parameter of the request."""


# How an image is looked at -----------------------------------------------------------------

MAX_FACES_PARAMETER: Final = "max_faces"
ROTATION_PARAMETER: Final = "rotation"
DETAIL_PARAMETER: Final = "detail"

Rotation = Literal["auto", "off"]
"""`auto`: where no face is upright, the picture is looked at turned, too."""
Detail = Literal["standard", "high"]
"""`high`: a large picture is looked at in tiles at several scales, too."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a request may ask of the ensemble, as KServe parameters of these names."""

    max_faces: int = MAX_FACES
    rotation: Rotation = "auto"
    detail: Detail = "standard"

    def parameters(self) -> dict[str, int | str]:
        """Name what differs from the defaults, as parameters of a request."""
        return {
            key: getattr(self, key)
            for key in (MAX_FACES_PARAMETER, ROTATION_PARAMETER, DETAIL_PARAMETER)
            if getattr(self, key) != getattr(DEFAULT_LOOK, key)
        }


DEFAULT_LOOK: Final = Look()


# Tensors -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: its name, Triton data type and dims (-1: any)."""

    name: str
    dtype: str
    dims: tuple[int, ...]


IMAGE: Final = "IMAGE"
PIXELS: Final = "PIXELS"
FRAME: Final = "FRAME"
SIZE: Final = "SIZE"
CANVAS: Final = "CANVAS"
BOXES: Final = "BOXES"
LANDMARKS: Final = "LANDMARKS"
CONFIDENCE: Final = "CONFIDENCE"
DETECTOR: Final = "DETECTOR"
FRAME_BOXES: Final = "FRAME_BOXES"
FRAME_LANDMARKS: Final = "FRAME_LANDMARKS"
FRAME_CONFIDENCE: Final = "FRAME_CONFIDENCE"
FRAME_DETECTOR: Final = "FRAME_DETECTOR"
QUALITY: Final = "QUALITY"
CROPS: Final = "CROPS"
CROPS_OR_FILLER: Final = "CROPS_OR_FILLER"
FACE_COUNT: Final = "FACE_COUNT"
FOUND_CONFIDENCE: Final = "FOUND_CONFIDENCE"
ROTATION: Final = "ROTATION"
EMBEDDING: Final = "EMBEDDING"
SPACE: Final = "SPACE"
SCORE: Final = "SCORE"
HEAD: Final = "HEAD"

_ROWS = MAX_CANDIDATES


@dataclass(frozen=True, slots=True)
class Stage:
    """One folder of `model_repository/`."""

    name: str
    backend: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


PREPROCESS: Final = Stage(
    "face_preprocess",
    "python",
    0,
    (Tensor(IMAGE, "BYTES", (1,)),),
    (
        Tensor(PIXELS, "UINT8", (-1, -1, 3)),
        Tensor(FRAME, "UINT8", (1, -1, -1, 3)),
        # the image's width and height; how many of its pixels, each way, one of PIXELS stands for
        Tensor(SIZE, "INT64", (3,)),
    ),
)
DETECTION: Final = Stage(
    "face_detection",
    "onnxruntime",
    8,
    (Tensor(CANVAS, "UINT8", (-1, -1, 3)),),
    (
        Tensor(BOXES, "FP32", (_ROWS, 4)),
        Tensor(LANDMARKS, "FP32", (_ROWS, 5, 2)),
        Tensor(CONFIDENCE, "FP32", (_ROWS,)),
        Tensor(DETECTOR, "INT64", (1,)),
    ),
)
ALIGNMENT: Final = Stage(
    "face_alignment",
    "python",
    0,
    (
        Tensor(IMAGE, "BYTES", (1,)),
        Tensor(PIXELS, "UINT8", (-1, -1, 3)),
        Tensor(SIZE, "INT64", (3,)),
        Tensor(FRAME_BOXES, "FP32", (1, _ROWS, 4)),
        Tensor(FRAME_LANDMARKS, "FP32", (1, _ROWS, 5, 2)),
        Tensor(FRAME_CONFIDENCE, "FP32", (1, _ROWS)),
        Tensor(FRAME_DETECTOR, "INT64", (1, 1)),
    ),
    (
        Tensor(BOXES, "FP32", (-1, 4)),
        Tensor(LANDMARKS, "FP32", (-1, 5, 2)),
        Tensor(CONFIDENCE, "FP32", (-1,)),
        Tensor(QUALITY, "FP32", (-1, len(QUALITY_COLUMNS))),
        Tensor(CROPS, "UINT8", (-1, CROP_SIZE, CROP_SIZE, 3)),
        # the crops, or one black crop where there is no face: batching stages refuse zero rows
        Tensor(CROPS_OR_FILLER, "UINT8", (-1, CROP_SIZE, CROP_SIZE, 3)),
        # for face_results alone. Not one of the ensemble's outputs: Triton 24.10 prunes a stage of
        # which a single output is requested if another pruned stage reads an output, too
        Tensor(FACE_COUNT, "INT64", (1,)),
        Tensor(DETECTOR, "INT64", (1,)),
        # of all faces found, largest first: those in BOXES and those beyond `max_faces`
        Tensor(FOUND_CONFIDENCE, "FP32", (-1,)),
        # degrees by which the picture was turned clockwise to be looked at; 0: as it is
        Tensor(ROTATION, "INT64", (1,)),
    ),
)
EMBEDDING_STAGE: Final = Stage(
    "face_embedding",
    "onnxruntime",
    MOST_FACES,
    (Tensor(CROPS, "UINT8", (CROP_SIZE, CROP_SIZE, 3)),),
    (Tensor(EMBEDDING, "FP32", (-1,)), Tensor(SPACE, "INT64", (1,))),
)
SCORING: Final = Stage(
    "face_scoring",
    "onnxruntime",
    MOST_FACES,
    (Tensor(EMBEDDING, "FP32", (-1,)), Tensor(SPACE, "INT64", (1,))),
    (Tensor(SCORE, "FP32", (1,)), Tensor(HEAD, "INT64", (1,))),
)
RESULTS: Final = Stage(
    "face_results",
    "python",
    0,
    (
        Tensor(FACE_COUNT, "INT64", (1,)),
        Tensor(EMBEDDING, "FP32", (-1, -1)),
        Tensor(SPACE, "INT64", (-1, 1)),
        Tensor(SCORE, "FP32", (-1, 1)),
        Tensor(HEAD, "INT64", (-1, 1)),
    ),
    (
        Tensor(EMBEDDING, "FP32", (-1, -1)),
        Tensor(SPACE, "INT64", (1,)),
        Tensor(SCORE, "FP32", (-1,)),
        Tensor(HEAD, "INT64", (1,)),
    ),
)
PIPELINE: Final = Stage(
    "face_pipeline",
    "ensemble",
    0,
    (Tensor(IMAGE, "BYTES", (1,)),),
    (
        Tensor(BOXES, "FP32", (-1, 4)),
        Tensor(LANDMARKS, "FP32", (-1, 5, 2)),
        Tensor(CONFIDENCE, "FP32", (-1,)),
        Tensor(EMBEDDING, "FP32", (-1, -1)),
        Tensor(SPACE, "INT64", (1,)),
        Tensor(SCORE, "FP32", (-1,)),
        Tensor(QUALITY, "FP32", (-1, len(QUALITY_COLUMNS))),
        Tensor(CROPS, "UINT8", (-1, CROP_SIZE, CROP_SIZE, 3)),
        Tensor(DETECTOR, "INT64", (1,)),
        Tensor(HEAD, "INT64", (1,)),
        Tensor(FOUND_CONFIDENCE, "FP32", (-1,)),
        Tensor(ROTATION, "INT64", (1,)),
    ),
)
# for callers that want no scores, and many faces a second: neither face_scoring nor face_results
# runs. In its place the caller drops the row of the filler in CROPS, EMBEDDING and SPACE, which is
# there where BOXES has none
UNSCORED: Final = Stage(
    "face_pipeline_unscored",
    "ensemble",
    0,
    PIPELINE.inputs,
    tuple(
        Tensor(SPACE, "INT64", (-1, 1)) if tensor.name == SPACE else tensor
        for tensor in PIPELINE.outputs
        if tensor.name not in (SCORE, HEAD)
    ),
)

STAGES: Final = (
    PREPROCESS,
    DETECTION,
    ALIGNMENT,
    EMBEDDING_STAGE,
    SCORING,
    RESULTS,
    PIPELINE,
    UNSCORED,
)
"""All folders of `model_repository/`, in the order in which an image passes them."""

ONNX_STAGES: Final = (DETECTION, EMBEDDING_STAGE, SCORING)
"""The stages whose weights are imported and swapped."""

ID_OUTPUT: Final = {DETECTION.name: DETECTOR, EMBEDDING_STAGE.name: SPACE, SCORING.name: HEAD}
"""The constant output by which each ONNX stage names the weights that answered."""

CANDIDATE_PARAMETER: Final = "aurum_candidate"
"""Parameter of the candidate's ensemble that holds the plan of its trial, as JSON."""
_CANDIDATE: Final = "_candidate"


def candidate_of(stage: str) -> str:
    """Name the model beside a stage (or the ensemble) that serves the version being tried."""
    return stage + _CANDIDATE


def stage_of(model: str) -> str:
    """Name the stage that a model is, or is a candidate for."""
    return model.removesuffix(_CANDIDATE)


def format_id(value: int) -> str:
    """Write an id (INT64, two's complement) as the API shows it: 16 hexadecimal digits."""
    return f"{value & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def parse_id(text: str) -> int:
    """Read what `format_id` wrote; raises ValueError on anything else."""
    if len(text) != 16:
        message = f"an id has 16 hexadecimal digits, not {len(text)}"
        raise ValueError(message)
    value = int(text, 16)
    return value - (1 << 64) if value >= 1 << 63 else value
