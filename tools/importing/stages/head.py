"""A scoring head made a `face_scoring` stage.

The source takes embeddings [N,D] and answers with scores [N] or [N,1]. It means something only
in the embedding space that it was trained in, so the stage takes the id of the space beside the
embeddings and answers NaN in each row of another one, also where that has another width.
"""

from pathlib import Path
from typing import Final

import numpy as np

from tools.errors import WeightsError
from tools.importing.dry_run import Trial, require_finite, require_shape
from tools.importing.graph.operators import BATCH, Parts, finish, make_batch_free, value
from tools.importing.network import Network, describe, shape_of
from tools.importing.weights_id import make_id
from tools.registry.prepared import Prepared
from triton_python_backend.contract import EMBEDDING, HEAD, SCORE, SCORING, SPACE, format_id

SPACE_PROPERTY: Final = "aurum.space"
"""Property of a head's ONNX file that names its space, written as `format_id` does."""

_EXPECTED: Final = "a scoring head: embeddings [N,D] in, scores [N] or [N,1] out"


def prepare(network: Network, *, space: int, dimension: int | None) -> Prepared:
    """Make the stage's graph and try it on one and three embeddings of three widths.

    Args:
        network: changed by this.
        space: the id of the space that the head was trained in.
        dimension: the width of embeddings in that space, where it is known.

    Raises:
        WeightsError: if the file is no such head, or one for another width.
    """
    width = require_head(network)
    if dimension is not None and dimension != width:
        raise WeightsError(
            f"{network.path} scores embeddings of {width} dimensions; "
            f"those of space {format_id(space)} have {dimension}"
        )
    identity = make_id(network.path.read_bytes(), space.to_bytes(8, "big", signed=True))
    graph = _rebuild(network, width, space=space, identity=identity)
    _try(graph, network.path, width, space=space, identity=identity)
    return Prepared(
        stage=SCORING.name,
        graph=graph,
        identity=identity,
        source=network.path,
        source_sha256=network.sha256,
        network=f"scoring head for {width} dimensions",
        dimension=width,
        space=space,
    )


def require_head(network: Network) -> int:
    """Read how wide a head's embeddings are; raises WeightsError if the file is no head."""
    shape, outputs = network.input_shape, network.model.graph.output
    width = shape[1] if len(shape) == 2 else None
    fits = len(outputs) == 1 and shape_of(outputs[0])[1:] in ((), (1,), (None,))
    if width is None or not fits:
        raise WeightsError(
            f"{network.path} is no scoring head: it takes {describe(shape)} and has "
            f"{len(outputs)} output(s), the first {describe(shape_of(outputs[0]))}; "
            f"expected was {_EXPECTED}"
        )
    return width


def _rebuild(network: Network, width: int, *, space: int, identity: int) -> bytes:
    source = network.model.graph.output[0].name
    if network.input_shape[0] is not None:
        make_batch_free(network)
    parts = Parts(network)
    # any width becomes the head's own: zeros behind, then cut; such rows answer NaN below
    with parts.before():
        shape = parts.join(0, parts.size(EMBEDDING, 0), parts.integers(width))
        zeros = parts.op("Expand", parts.constant([[0]], np.float32), shape)
        wide = parts.join(1, EMBEDDING, zeros)
        limits = (parts.integers(0), parts.integers(width), parts.integers(1))
        parts.op("Slice", wide, *limits, output=network.input_name)
    fits = parts.op("Equal", SPACE, parts.constant(space, np.int64))
    scores = parts.reshape(source, -1, 1)
    parts.op("Where", fits, scores, parts.constant(np.nan, np.float32), output=SCORE)
    parts.repeat_id(identity, like=EMBEDDING, output=HEAD)
    return finish(
        network,
        inputs=[
            value(EMBEDDING, "FP32", [BATCH, "dimension"]),
            value(SPACE, "INT64", [BATCH, 1]),
        ],
        outputs=[value(SCORE, "FP32", [BATCH, 1]), value(HEAD, "INT64", [BATCH, 1])],
        metadata={
            "aurum.stage": SCORING.name,
            "aurum.id": format_id(identity),
            SPACE_PROPERTY: format_id(space),
        },
    )


def _try(graph: bytes, path: Path, width: int, *, space: int, identity: int) -> None:
    names = [SCORE, HEAD]
    trial = Trial(graph, path)
    foreign = space ^ 1
    for other in (width, 2 * width, max(width // 2, 1)):
        for batch in (1, 3):
            embeddings = np.random.default_rng(0).normal(size=(batch, other)).astype(np.float32)
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            spaces = np.full((batch, 1), foreign, dtype=np.int64)
            if other == width:
                spaces[0] = space
            found = trial.run({EMBEDDING: embeddings, SPACE: spaces}, names)
            require_shape(found[SCORE], (batch, 1), name=SCORE, path=path)
            if (found[HEAD] != identity).any():
                raise WeightsError(f"{path}: the id did not come out of the graph")
            own = spaces == space
            require_finite(found[SCORE][own], name=SCORE, path=path)
            if not np.isnan(found[SCORE][~own].astype(np.float64)).all():
                raise WeightsError(f"{path}: gives a score in a foreign space")
