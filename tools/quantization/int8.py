"""Static quantisation to 8 bits, per channel, with the layers that mind left in float.

QDQ format by onnxruntime's own quantiser: activations in 8 bits without sign, weights with sign,
which is what the dot products of x86 processors (VNNI, AMX) take.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from tools.importing.dry_run import Array
from tools.quantization.graphs import LAYER_KINDS, first_and_last, layers, load, surgery

PER_CHANNEL_OPSET: Final = 13
"""The first in which QuantizeLinear takes a scale per channel."""
MOST_IN_FLOAT: Final = 0.34
"""Share of layers beyond which no more are left in float: little speed would be left, too."""
_STEP: Final = 3
_REMOVABLE: Final = ("Relu", "Clip")
"""Activations that the bounds of 8 bits stand for."""

Judge = Callable[[bytes], float]
"""Given a quantised graph, how alike its answers are to the float network's: 1 is the same."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A graph in 8 bits, before it is sealed."""

    model: onnx.ModelProto
    layers: int
    in_float: tuple[str, ...]
    """The layers that were left in float."""


class Quantiser:
    """Quantises one stage's graph, as often as it takes to find what to leave in float."""

    def __init__(self, graph: bytes, inputs: Sequence[tuple[str, Array]], folder: Path) -> None:
        """Make the graph ready and note its calibration inputs.

        Args:
            graph: of a stage, in float.
            inputs: named arrays, one of which is run at a time.
            folder: an empty one, for files in between.
        """
        self._folder = folder
        self._inputs = inputs
        self._model = _simplified(graph, folder)
        self.layers = tuple(layers(self._model))
        self._surgery = surgery(self._model)

    def quantise(self, in_float: Iterable[str]) -> Quantised:
        """Quantise all layers but these and what the importer added around the network."""
        kept = tuple(in_float)
        target = self._folder / "quantised.onnx"
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        with _quiet():
            quantize_static(
                model,
                target,
                _Reader(self._inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*LAYER_KINDS, *_REMOVABLE],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*self._surgery, *kept],
                # the ranges of all tensors, measured the first time
                calibration_cache_path=self._folder / "ranges.json",
            )
        return Quantised(onnx.load(target), len(self.layers), kept)

    def search(self, judge: Judge, *, wanted: float) -> Quantised:
        """Leave the first and last layers in float, then those that harm most, until it is good.

        Args:
            judge: asked about every attempt.
            wanted: enough likeness; if it is not reached, the best attempt is returned.
        """
        kept = first_and_last(self._model)
        found = self.quantise(kept)
        best = judge(_bytes(found))
        if best >= wanted:
            return found
        most = round(MOST_IN_FLOAT * len(self.layers))
        ranked = self._most_harmful(judge, kept)
        for count in range(_STEP, len(ranked) + 1, _STEP):
            more = [*kept, *ranked[:count]]
            if len(more) > most:
                break
            attempt = self.quantise(more)
            likeness = judge(_bytes(attempt))
            if likeness > best:
                found, best = attempt, likeness
            if best >= wanted:
                break
        return found

    def _most_harmful(self, judge: Judge, kept: Sequence[str]) -> list[str]:
        # each layer alone in 8 bits, all others in float: what does it alone cost?
        free = [name for name in self.layers if name not in kept]
        cost = {
            name: judge(_bytes(self.quantise([each for each in self.layers if each != name])))
            for name in free
        }
        return sorted(free, key=lambda name: cost[name])


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Sequence[tuple[str, Array]]) -> None:
        self._left: Iterator[dict[str, Any]] = iter([{name: array} for name, array in inputs])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def _simplified(graph: bytes, folder: Path) -> onnx.ModelProto:
    # constants folded and batch norms inside their convolutions; symbolic shapes need sympy
    before, after = folder / "float.onnx", folder / "simplified.onnx"
    onnx.save(load(graph, opset=PER_CHANNEL_OPSET), before)
    with _quiet():
        quant_pre_process(before, after, skip_symbolic_shape=True)
    return onnx.load(after)


def _bytes(found: Quantised) -> bytes:
    return bytes(found.model.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    # the quantiser advises to do what has been done
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
