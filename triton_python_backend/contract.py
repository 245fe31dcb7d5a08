"""The contract between stages, importer and gateway: names, types and shapes of tensors.

Each stage is declared here once: its tensors, which of its outputs become fields of a face, and
the output that names its weights. Caching, trials, drift and the routes loop over these
declarations; docs/adding-a-stage.md adds one. `tests/contract/test_model_repository.py` compares
each `config.pbtxt` with them. Shapes are written as in a `config.pbtxt`: -1 is any size; the batch
axis of stages with a `max_batch_size` above 0 is left out, as Triton does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from triton_python_backend.face_outputs import FaceOutput as FaceOutput
from triton_python_backend.face_outputs import Need as Need

# Image in, faces out -----------------------------------------------------------------------

MAX_FACES: Final = 32
"""Default number of faces per image in a response."""

MOST_FACES: Final = 512
"""Largest number of faces per image; also the largest batch of embedding and scoring."""

CROP_SIZE: Final = 112
"""Edge of an aligned face in pixels (ArcFace's template)."""

FRAME_SIZE: Final = 640
"""Edge in pixels of the canvas that holds the whole image, as SCRFD was trained for."""

CLOSEUP_SIZE: Final = 320
"""Edge in pixels of the canvas that holds the image padded by half its size on each side."""

MAX_CANDIDATES: Final = 256
"""Rows of the detector's outputs per canvas; unused rows have confidence 0."""

MIN_CONFIDENCE: Final = 0.5
"""Confidence threshold of the detector (insightface's default)."""

NMS_IOU: Final = 0.4
"""Overlap above which the weaker of two boxes is dropped (insightface's default)."""

QUALITY_COLUMNS: Final = ("size", "sharpness", "brightness", "yaw", "pitch", "roll")
"""Columns of QUALITY: pixels (shorter edge of the box), 0-1, 0-1, then degrees."""

INVALID_IMAGE: Final = "invalid_image"
"""First word of the error text of a stage that cannot read the bytes as an image."""

INVALID_PARAMETER: Final = "invalid_parameter"
"""First word of the error text of a stage that refuses a parameter of the request."""


# How an image is searched ------------------------------------------------------------------

MAX_FACES_PARAMETER: Final = "max_faces"
ROTATION_PARAMETER: Final = "rotation"
DETAIL_PARAMETER: Final = "detail"

Rotation = Literal["auto", "off"]
"""`auto`: if no face is upright, rotated views of the picture are searched, too."""
Detail = Literal["standard", "high"]
"""`high`: a large picture is also searched in tiles at several scales."""


@dataclass(frozen=True, slots=True)
class Look:
    """Search options of a request, passed as KServe parameters of these names."""

    max_faces: int = MAX_FACES
    rotation: Rotation = "auto"
    detail: Detail = "standard"

    def parameters(self) -> dict[str, int | str]:
        """Return the options that differ from the defaults, as request parameters."""
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
    """For an ONNX stage: its constant output with the id of its weights."""
    face_outputs: tuple[FaceOutput, ...] = ()
    measures: tuple[str, ...] = ()
    """Fields of every face in which drift of this stage shows."""

    @property
    def short_name(self) -> str:
        """The name in options and in the JSON of `models`: `detection` of `face_detection`."""
        return self.name.removeprefix("face_")

    @property
    def watched(self) -> tuple[str, ...]:
        """All measures that drift detection follows for this stage."""
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
        # the image's width and height; the reduction: image pixels per pixel of PIXELS, each way
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
        # for face_results alone. It is not an output of the ensemble: Triton 24.10 drops a stage
        # with a single requested output if another dropped stage reads one of its outputs
        Tensor(FACE_COUNT, "INT64", (1,)),
        Tensor(DETECTOR, "INT64", (1,)),
        # confidences of all faces found, largest face first, also those beyond `max_faces`
        Tensor(FOUND_CONFIDENCE, "FP32", (-1,)),
        # degrees clockwise by which the picture was rotated for the search; 0: not rotated
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
"""The networks that process faces; each follows the networks whose outputs it reads."""
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
"""Networks whose rows become outputs of the ensemble directly, with the filler's row if there is no
face. They skip face_results because its inputs would make every network run for every request."""
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
# face_results runs. The caller drops the filler's row of CROPS, EMBEDDING and SPACE, which is
# there when BOXES is empty
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
"""The stages whose weights are imported and swapped; each follows those whose outputs it reads."""

ID_OUTPUT: Final[Mapping[str, str]] = {
    stage.name: stage.id_output for stage in ONNX_STAGES if stage.id_output is not None
}
"""Each ONNX stage's constant output with the id of its weights."""

FACE_OUTPUTS: Final = tuple(output for stage in STAGES for output in stage.face_outputs)
"""All outputs that a face can have beyond box, landmarks, confidence and quality."""

JOB_PRIORITY: Final = 2
"""Lowest of the two levels of each network's queue, for requests of jobs: a network takes them when
no other request, of level 1, waits for it."""

CANDIDATE_PARAMETER: Final = "aurum_candidate"
"""Parameter of the candidate's ensemble: the plan of its trial, as JSON."""
_CANDIDATE: Final = "_candidate"


def candidate_of(stage: str) -> str:
    """Return the name of the model that serves a stage's (or ensemble's) version on trial."""
    return stage + _CANDIDATE


def stage_of(model: str) -> str:
    """Return the stage of a model; the model may be the stage's candidate."""
    return model.removesuffix(_CANDIDATE)


def format_id(value: int) -> str:
    """Write an id (INT64, two's complement) as the API shows it: 16 hexadecimal digits."""
    return f"{value & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def parse_id(text: str) -> int:
    """Parse an id written by `format_id`; raises ValueError on anything else."""
    if len(text) != 16:
        message = f"an id has 16 hexadecimal digits, not {len(text)}"
        raise ValueError(message)
    value = int(text, 16)
    return value - (1 << 64) if value >= 1 << 63 else value
