"""Convert an ArcFace network to a `face_embedding` stage.

The source takes float crops [N,3,112,112] and outputs embeddings [N,D] of any length (Deng et al.,
ArcFace, CVPR 2019). The stage takes uint8 crops and outputs embeddings of length 1 and the id of
their space.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tools.errors import WeightsError
from tools.importing.dry_run import Trial, noise, require_finite, require_shape
from tools.importing.graph.input import take_pixels
from tools.importing.graph.operators import BATCH, GraphBuilder, finish, make_batch_free, value
from tools.importing.network import Network, describe, shape_of
from tools.importing.weights_id import make_id
from tools.registry.prepared import Prepared
from triton_python_backend.contract import (
    CROP_SIZE,
    CROPS,
    EMBEDDING,
    EMBEDDING_STAGE,
    SPACE,
    format_id,
)
from triton_python_backend.geometry import ARCFACE_TEMPLATE

_LEADING: Final = 8
"""Number of first operators in which insightface searches for the network's own normalisation."""
_EXPECTED: Final = (
    f"an ArcFace network: crops [N,3,{CROP_SIZE},{CROP_SIZE}] in, embeddings [N,D] out"
)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Normalisation of pixels 0-255 before the network: (x - mean) / std."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"(x-{self.mean!r})/{self.std!r}"


USUAL: Final = Normalisation(127.5, 127.5)
"""The usual normalisation of ArcFace networks."""
INSIDE: Final = Normalisation(0.0, 1.0)
"""For networks that normalise internally, like MXNet's exports."""


def prepare(
    network: Network, normalisation: Normalisation | None = None, *, space: int | None = None
) -> Prepared:
    """Build the stage's graph and try it on one and three crops.

    Args:
        network: changed by this.
        normalisation: unset: the usual one, or none if the network begins with its own.
        space: the id of a space that this is a re-export for; the caller has verified it.

    Raises:
        WeightsError: if the file is not such a network or its stage fails the trial.
    """
    _require_arcface(network)
    normalisation = normalisation or _find_normalisation(network)
    if not normalisation.std > 0:
        raise WeightsError(f"a standard deviation of {normalisation.std} cannot divide pixels")
    if space is None:
        template = ARCFACE_TEMPLATE.astype("<f4").tobytes()
        space = make_id(network.path.read_bytes(), template, str(normalisation))
    graph = _rebuild(network, normalisation, space)
    dimension = _try(graph, network.path, space)
    return Prepared(
        stage=EMBEDDING_STAGE.name,
        graph=graph,
        identity=space,
        source=network.path,
        source_sha256=network.sha256,
        network=f"ArcFace, {dimension} dimensions, {normalisation}",
        dimension=dimension,
    )


def _require_arcface(network: Network) -> None:
    shape, outputs = network.input_shape, network.model.graph.output
    fits = len(shape) == 4 and shape[1] == 3 and all(n in (CROP_SIZE, None) for n in shape[2:])
    if not fits or len(outputs) != 1 or len(shape_of(outputs[0])) not in (0, 2):
        raise WeightsError(
            f"{network.path} is not an embedding network: it takes {describe(shape)} and has "
            f"{len(outputs)} output(s), the first {describe(shape_of(outputs[0]))}; "
            f"expected: {_EXPECTED}"
        )


def _find_normalisation(network: Network) -> Normalisation:
    # the rule of insightface's ArcFaceONNX, which goes by the names that MXNet gave
    names = [node.name for node in network.model.graph.node[:_LEADING]]
    subtracts = any(name.startswith(("Sub", "_minus")) for name in names)
    multiplies = any(name.startswith(("Mul", "_mul")) for name in names)
    return INSIDE if subtracts and multiplies else USUAL


def _rebuild(network: Network, normalisation: Normalisation, space: int) -> bytes:
    source = network.model.graph.output[0].name
    if network.input_shape[0] is not None:
        make_batch_free(network)
    builder = GraphBuilder(network)
    take_pixels(
        builder, CROPS, mean=normalisation.mean, std=normalisation.std, target=network.input_name
    )
    builder.op("LpNormalization", source, attributes={"axis": -1, "p": 2}, output=EMBEDDING)
    builder.repeat_id(space, like=CROPS, output=SPACE)
    return finish(
        network,
        inputs=[value(CROPS, "UINT8", [BATCH, CROP_SIZE, CROP_SIZE, 3])],
        outputs=[
            value(EMBEDDING, "FP32", [BATCH, "dimension"]),
            value(SPACE, "INT64", [BATCH, 1]),
        ],
        metadata={"aurum.stage": EMBEDDING_STAGE.name, "aurum.id": format_id(space)},
    )


def _try(graph: bytes, path: Path, space: int) -> int:
    names = [EMBEDDING, SPACE]
    trial = Trial(graph, path)
    crops = noise(3, CROP_SIZE, CROP_SIZE, 3)
    together = trial.run({CROPS: crops}, names)
    embeddings = together[EMBEDDING]
    require_finite(embeddings, name=EMBEDDING, path=path)
    dimension = embeddings.shape[-1]
    require_shape(embeddings, (3, dimension), name=EMBEDDING, path=path)
    require_shape(together[SPACE], (3, 1), name=SPACE, path=path)
    if (together[SPACE] != space).any():
        raise WeightsError(f"{path}: the graph does not output the id")
    alone = trial.run({CROPS: crops[2:]}, names)[EMBEDDING]
    require_shape(alone, (1, dimension), name=EMBEDDING, path=path)
    if not np.allclose(alone[0], embeddings[2], atol=1e-3):
        raise WeightsError(f"{path}: an embedding depends on the other rows of its batch")
    if not np.allclose(np.linalg.norm(embeddings.astype(np.float64), axis=1), 1, atol=1e-3):
        raise WeightsError(f"{path}: embeddings do not have length 1")
    if np.allclose(embeddings[0], embeddings[1], atol=1e-4):
        raise WeightsError(f"{path}: gives the same embedding for different crops")
    return dimension
