"""The stages: the names, types and shapes that they, the importer and the gateway agree on.

Each stage is declared here once: its tensors, which of its outputs become fields of a face, and
the output that names its weights. Caching, trials, drift and the routes loop over these
declarations; docs/adding-a-stage.md adds one. `tests/contract/test_model_repository.py` compares
each `config.pbtxt` with them. Shapes are written as in a `config.pbtxt`: -1 is any size; the batch
axis of stages with a `max_batch_size` above 0 is left out, as Triton does.
"""

import enum
from collections.abc import Mapping
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
"""First word of the error text of a stage that cannot read the bytes as an image."""

INVALID_PARAMETER: Final = "invalid_parameter"
"""First word of the error text of a stage that refuses a parameter of the request."""


# How an image is looked at -----------------------------------------------------------------

MAX_FACES_PARAMETER: Final = "max_faces"
ROTATION_PARAMETER: Final = "rotation"
DETAIL_PARAMETER: Final = "detail"

Rotation = Literal["auto", "off"]
"""`auto`: if no face is upright, turned views of the picture are searched, too."""
Detail = Literal["standard", "high"]
"""`high`: a large picture is also searched in tiles at several scales."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a request has an image searched: KServe parameters of these names."""

    max_faces: int = MAX_FACES
    rotation: Rotation = "auto"
    detail: Detail = "standard"

    def parameters(self) -> dict[str, int | str]:
        """List what differs from the defaults, as parameters of a request."""
        return {
            key: getattr(self, key)
            for key in (MAX_FACES_PARAMETER, ROTATION_PARAMETER, DETAIL_PARAMETER)
            if getattr(self, key) != getattr(DEFAULT_LOOK, key)
        }


DEFAULT_LOOK: Final = Look()


# What is wanted of a face ------------------------------------------------------------------


class Need(enum.Flag):
    """What a request wants beyond boxes, landmarks, confidences and quality.

    New members go to the end: the cache keys hold their values.
    """

    NOTHING_MORE = 0
    EMBEDDING = enum.auto()
    SCORE = enum.auto()
    CROPS = enum.auto()


@dataclass(frozen=True, slots=True)
class FaceOutput:
    """An output of a stage that becomes a field of each face."""

    name: str
    """Of the field: in `Face.outputs` and in JSON."""
    tensor: str
    """The ensemble's output with a row for each face."""
    dtype: str
    dims: tuple[int, ...]
    """Of one face: () is a number, (-1,) a vector of any length."""
    need: Need
    """The flag by which a request asks for it."""
    includable: bool = True
    """Whether `?include=<name>` adds it to the faces of an answer."""
    cached: bool = True
    """Whether an answer that holds it may be cached."""
    watched: str | None = None
    """The measure by which drift is followed: its own name for a number (the value itself), for a
    vector that of the cosine to the mean direction of the reference; None: not followed."""
    compared: str | None = None
    """The measure between two versions on one face: a difference of numbers, a cosine of vectors;
    None: not compared."""
    tolerance: float | None = None
    """How far the golden probe's value may move: a number, or 1 less the cosine of a vector; None:
    the probe does not ask for it."""

    @property
    def is_number(self) -> bool:
        """Whether a face has one number of it."""
        return self.dims == ()

    @property
    def is_vector(self) -> bool:
        """Whether a face has a vector of it, of a length that the weights decide."""
        return self.dims == (-1,)


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

COSINE_TO_MEAN: Final = "cosine_to_mean"


@dataclass(frozen=True, slots=True)
class Stage:
    """One folder of `model_repository/`."""

    name: str
    backend: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    id_output: str | None = None
    """Of an ONNX stage: the constant output by which it names the weights that answered."""
    face_outputs: tuple[FaceOutput, ...] = ()
    measures: tuple[str, ...] = ()
    """Fields that every face has and in which drift of this stage shows."""

    @property
    def short_name(self) -> str:
        """The name in options and in the JSON of `models`: `detection` of `face_detection`."""
        return self.name.removeprefix("face_")

    @property
    def watched(self) -> tuple[str, ...]:
        """All measures by which drift of this stage is followed."""
        found = (output.watched for output in self.face_outputs)
        return (*self.measures, *(each for each in found if each is not None))


def names_of(tensors: tuple[Tensor, ...]) -> frozenset[str]:
    """Collect the names of tensors."""
    return frozenset(tensor.name for tensor in tensors)


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
    id_output=DETECTOR,
    measures=("confidence", *QUALITY_COLUMNS),
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
        # degrees by which the picture was turned clockwise for the search; 0: as it is
        Tensor(ROTATION, "INT64", (1,)),
    ),
    face_outputs=(FaceOutput("crop", CROPS, "UINT8", (CROP_SIZE, CROP_SIZE, 3), Need.CROPS),),
)
EMBEDDING_STAGE: Final = Stage(
    "face_embedding",
    "onnxruntime",
    MOST_FACES,
    (Tensor(CROPS, "UINT8", (CROP_SIZE, CROP_SIZE, 3)),),
    (Tensor(EMBEDDING, "FP32", (-1,)), Tensor(SPACE, "INT64", (1,))),
    id_output=SPACE,
    face_outputs=(
        FaceOutput(
            "embedding",
            EMBEDDING,
            "FP32",
            (-1,),
            Need.EMBEDDING,
            watched=COSINE_TO_MEAN,
            compared="cosine",
            tolerance=0.01,
        ),
    ),
)
SCORING: Final = Stage(
    "face_scoring",
    "onnxruntime",
    MOST_FACES,
    (Tensor(EMBEDDING, "FP32", (-1,)), Tensor(SPACE, "INT64", (1,))),
    (Tensor(SCORE, "FP32", (1,)), Tensor(HEAD, "INT64", (1,))),
    id_output=HEAD,
    face_outputs=(
        FaceOutput(
            "score",
            SCORE,
            "FP32",
            (),
            Need.SCORE,
            includable=False,
            watched="score",
            compared="score_difference",
            tolerance=0.1,
        ),
    ),
)
FACE_NETWORKS: Final = (EMBEDDING_STAGE, SCORING)
"""The networks that see faces, each after those whose outputs it reads."""
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
_FURTHER: Final = tuple(
    stage for stage in FACE_NETWORKS if not names_of(stage.outputs) & names_of(RESULTS.inputs)
)
"""Networks whose rows become outputs of the ensemble as they are, with the filler's row where there
is no face: what face_results reads runs for every score."""
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
        *(
            Tensor(tensor.name, tensor.dtype, (-1, *tensor.dims))
            for stage in _FURTHER
            for tensor in stage.outputs
        ),
    ),
)
# for callers that want embeddings only, and many faces a second: neither face_scoring nor
# face_results runs. Instead the caller drops the row of the filler in CROPS, EMBEDDING and SPACE,
# which is there when BOXES has none
UNSCORED: Final = Stage(
    "face_pipeline_unscored",
    "ensemble",
    0,
    PIPELINE.inputs,
    tuple(
        Tensor(SPACE, "INT64", (-1, 1)) if tensor.name == SPACE else tensor
        for tensor in PIPELINE.outputs
        if not any(tensor.name in names_of(stage.outputs) for stage in FACE_NETWORKS[1:])
    ),
)

STAGES: Final = (
    PREPROCESS,
    DETECTION,
    ALIGNMENT,
    *FACE_NETWORKS,
    RESULTS,
    PIPELINE,
    UNSCORED,
)
"""All folders of `model_repository/`, in the order in which an image passes them."""

ONNX_STAGES: Final = (DETECTION, *FACE_NETWORKS)
"""The stages whose weights are imported and swapped, each after those whose outputs it reads."""

ID_OUTPUT: Final[Mapping[str, str]] = {
    stage.name: stage.id_output for stage in ONNX_STAGES if stage.id_output is not None
}
"""The constant output by which each ONNX stage names the weights that answered."""

FACE_OUTPUTS: Final = tuple(output for stage in STAGES for output in stage.face_outputs)
"""Everything that a face can have beyond box, landmarks, confidence and quality."""

JOB_PRIORITY: Final = 2
"""Lowest of the two levels of each network's queue, for requests of jobs: a network takes them when
no other request, of level 1, waits for it."""

CANDIDATE_PARAMETER: Final = "aurum_candidate"
"""Parameter of the candidate's ensemble: the plan of its trial, as JSON."""
_CANDIDATE: Final = "_candidate"


def candidate_of(stage: str) -> str:
    """Name the model beside a stage (or ensemble) that serves the version on trial."""
    return stage + _CANDIDATE


def stage_of(model: str) -> str:
    """Name the stage of a model, which may be its candidate."""
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
