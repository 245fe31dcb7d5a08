"""A float stage becomes a lighter one, or is refused for what that would cost."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from tools.errors import WeightsError
from tools.golden.check import SAME_COSINE
from tools.importing.dry_run import Array, Trial
from tools.importing.weights_id import make_id
from tools.quantization import samples
from tools.quantization.accuracy import (
    ENOUGH_PAIRS,
    DetectionAccuracy,
    EmbeddingAccuracy,
    compare_detections,
    compare_embeddings,
    embed,
)
from tools.quantization.fp16 import halve
from tools.quantization.graphs import layers, load, properties, seal
from tools.quantization.int8 import Judge, Quantised, Quantiser
from tools.registry.prepared import Lighter, Prepared
from triton_python_backend import contract
from triton_python_backend.contract import format_id

Precision = Literal["int8", "fp16"]

MIN_COSINE: Final = 0.99
"""Mean cosine to the float network below which an embedding is refused."""
MAX_LOSS: Final = 0.002
"""Share of pairs told right that a lighter embedding may lose: 0.2 points."""
MIN_FOUND: Final = 0.98
"""Share of the float detector's faces that a lighter one must find; as many may be extra."""
MAX_LANDMARK_PIXELS: Final = 2.0
"""Mean distance on the canvas of 640 pixels that landmarks may move."""

_ENOUGH: Final = {"cosine": 0.995, "detection": 0.95}
"""Likeness on the calibration samples at which no more layers are left in float."""
_CALIBRATION_CROPS, _CALIBRATION_CANVASES = 128, 48
_JUDGED_CROPS, _JUDGED_CANVASES = 32, 16
_MEASURED_CROPS, _MEASURED_CANVASES = 400, 150
_BATCH: Final = 16
_PIXELS_PER_FACE: Final = 50.0
"""Landmarks that move so far weigh as much as a face that is not found."""


@dataclass(slots=True)
class Quantizer:
    """Called with each float stage of an import; samples are made once.

    precision: of the result. photos: a folder or tar file; None for what the program brings.
    detector: gives the detector in service, which finds the faces of photos unless the import
    brings one. keep_space: the embedding shall keep its id, and so answer the float one's space.
    """

    precision: Precision
    photos: Path | None
    detector: Callable[[], tuple[bytes, Path]]
    keep_space: bool = False
    progress: Callable[[str], None] = lambda _: None
    _parts: samples.Parts | None = field(default=None, init=False)

    def __call__(self, item: Prepared) -> Prepared:
        """Make it lighter; raises WeightsError naming the figure if it loses too much."""
        parts = self._samples(item)
        self.progress(f"making {item.source.name} {self.precision}")
        with tempfile.TemporaryDirectory(prefix="aurum-lighter-") as folder:
            found = self._convert(item, parts.calibration, Path(folder))
        kept = self.keep_space and item.stage == contract.EMBEDDING_STAGE.name
        identity = (
            item.identity
            if kept
            else make_id(format_id(item.identity), self.precision, found.model.SerializeToString())
        )
        said = properties(load(item.graph, opset=1))
        graph = seal(found.model, item.stage, identity, precision=self.precision, metadata=said)
        self.progress(f"measuring {item.source.name} {self.precision}")
        accuracy = _measure(item, graph, parts.held_out)
        _refuse_if_worse(item, accuracy, precision=self.precision, kept=kept)
        return replace(
            item,
            graph=graph,
            identity=identity,
            network=f"{item.network}, {self.precision}",
            lighter=Lighter(
                precision=self.precision,
                made_from=format_id(item.identity),
                layers=found.layers,
                in_float=len(found.in_float),
                samples=parts.held_out.name,
                accuracy=asdict(accuracy),
            ),
        )

    def _samples(self, item: Prepared) -> samples.Parts:
        if self._parts is None:
            if self.photos is None:
                self._parts = samples.from_golden_set()
            else:
                self.progress(f"looking at {self.photos}")
                own = item.stage == contract.DETECTION.name
                graph, path = (item.graph, item.source) if own else self.detector()
                self._parts = samples.from_photos(self.photos, Trial(graph, path))
        return self._parts

    def _convert(self, item: Prepared, given: samples.Samples, folder: Path) -> Quantised:
        if self.precision == "fp16":
            model = halve(item.graph)
            return Quantised(model, len(layers(model)), ())
        quantiser = Quantiser(item.graph, _inputs(item.stage, given), folder)
        wanted = _ENOUGH["detection" if item.stage == contract.DETECTION.name else "cosine"]
        if self.keep_space and item.stage == contract.EMBEDDING_STAGE.name:
            wanted = SAME_COSINE
        return quantiser.search(_judge(item, given), wanted=wanted)


def _inputs(stage: str, given: samples.Samples) -> list[tuple[str, Array]]:
    if stage == contract.DETECTION.name:
        canvases = given.canvases[:_CALIBRATION_CANVASES]
        return [(contract.CANVAS, canvas[None]) for canvas in canvases]
    crops = given.crops[:_CALIBRATION_CROPS]
    batches = range(0, len(crops), _BATCH)
    return [(contract.CROPS, crops[batch : batch + _BATCH]) for batch in batches]


def _judge(item: Prepared, given: samples.Samples) -> Judge:
    exact = Trial(item.graph, item.source)
    if item.stage == contract.DETECTION.name:
        canvases = given.canvases[:_JUDGED_CANVASES]

        def like_detector(graph: bytes) -> float:
            found = compare_detections(exact, Trial(graph, item.source), canvases)
            missed = 1 - found.found + found.extra / max(found.faces, 1)
            return 1 - missed - found.landmark_pixels / _PIXELS_PER_FACE

        return like_detector
    crops = given.crops[:_JUDGED_CROPS]
    wanted = embed(exact, crops)

    def like_embedding(graph: bytes) -> float:
        return float((wanted * embed(Trial(graph, item.source), crops)).sum(axis=1).mean())

    return like_embedding


def _measure(
    item: Prepared, graph: bytes, given: samples.Samples
) -> EmbeddingAccuracy | DetectionAccuracy:
    exact, light = Trial(item.graph, item.source), Trial(graph, item.source)
    if item.stage == contract.DETECTION.name:
        return compare_detections(exact, light, given.canvases[:_MEASURED_CANVASES])
    return compare_embeddings(exact, light, given.crops[:_MEASURED_CROPS])


def _refuse_if_worse(
    item: Prepared,
    accuracy: EmbeddingAccuracy | DetectionAccuracy,
    *,
    precision: str,
    kept: bool,
) -> None:
    problem = (
        _too_far_off(accuracy, kept=kept)
        if isinstance(accuracy, EmbeddingAccuracy)
        else _finds_others(accuracy)
    )
    if problem:
        raise WeightsError(f"{item.source} as {precision}: {problem}")


def _too_far_off(found: EmbeddingAccuracy, *, kept: bool) -> str:
    wanted = SAME_COSINE if kept else MIN_COSINE
    if not found.cosine_mean >= wanted:
        return (
            f"{found.crops} crops come out at a mean cosine of {found.cosine_mean:.4f} to the "
            f"float network; {wanted} was expected"
        )
    loss = found.verification_float - found.verification
    if found.pairs >= ENOUGH_PAIRS and loss > MAX_LOSS:
        return (
            f"{100 * found.verification:.2f} % of {2 * found.pairs} pairs are told right, "
            f"{100 * found.verification_float:.2f} % by the float network; "
            f"{100 * MAX_LOSS:.1f} points may be lost"
        )
    return ""


def _finds_others(found: DetectionAccuracy) -> str:
    if not found.faces:
        return f"the float network finds no face on {found.canvases} canvases to compare with"
    if found.found < MIN_FOUND or found.extra > (1 - MIN_FOUND) * found.faces:
        return (
            f"finds {100 * found.found:.1f} % of the float network's {found.faces} faces and "
            f"{found.extra} others; {100 * MIN_FOUND:.0f} % was expected"
        )
    if found.landmark_pixels > MAX_LANDMARK_PIXELS:
        return (
            f"landmarks are {found.landmark_pixels:.2f} pixels off; "
            f"{MAX_LANDMARK_PIXELS} are allowed"
        )
    return ""
