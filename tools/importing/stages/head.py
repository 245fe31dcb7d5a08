"""Convert a scoring head to a `face_scoring` stage.

The source takes embeddings [N,D] and outputs scores [N] or [N,1]. Scores are meaningful only in the
embedding space of the training. So the stage also takes the id of each row's space and outputs NaN
for rows of another space, also if that has another width.
"""

from pathlib import Path
from typing import Final

import numpy as np

from tools.errors import WeightsError
from tools.importing.dry_run import Trial, require_finite, require_shape
from tools.importing.graph.operators import BATCH, GraphBuilder, finish, make_batch_free, value
from tools.importing.network import Network, describe, shape_of
from tools.importing.weights_id import make_id
from tools.registry.prepared import Prepared
from triton_python_backend.contract import EMBEDDING, HEAD, SCORE, SCORING, SPACE, format_id

SPACE_PROPERTY: Final = "aurum.space"
"""Metadata property of a head's ONNX file with the id of its space (`format_id`)."""

_EXPECTED: Final = "a scoring head: embeddings [N,D] in, scores [N] or [N,1] out"


def prepare(network: Network, *, space: int, dimension: int | None) -> Prepared:
    """Build the stage's graph and try it on one and three embeddings of three widths.

    Args:
        network: changed by this.
        space: the id of the space that the head was trained in.
        dimension: the width of embeddings in that space, if known.

    Raises:
        WeightsError: if the file is not a scoring head, or one for another width.
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
    """Return the width of a head's embeddings; raises WeightsError if the file is not a head."""
    shape, outputs = network.input_shape, network.model.graph.output
    width = shape[1] if len(shape) == 2 else None
    fits = len(outputs) == 1 and shape_of(outputs[0])[1:] in ((), (1,), (None,))
    if width is None or not fits:
        raise WeightsError(
            f"{network.path} is not a scoring head: it takes {describe(shape)} and has "
            f"{len(outputs)} output(s), the first {describe(shape_of(outputs[0]))}; "
            f"expected: {_EXPECTED}"
        )
    return width


def _rebuild(network: Network, width: int, *, space: int, identity: int) -> bytes:
    source = network.model.graph.output[0].name
    if network.input_shape[0] is not None:
        make_batch_free(network)
    builder = GraphBuilder(network)
    # pad, then cut any width to the head's own; rows of another space become NaN below
    with builder.before():
        shape = builder.join(0, builder.size(EMBEDDING, 0), builder.integers(width))
        zeros = builder.op("Expand", builder.constant([[0]], np.float32), shape)
        wide = builder.join(1, EMBEDDING, zeros)
        limits = (builder.integers(0), builder.integers(width), builder.integers(1))
        builder.op("Slice", wide, *limits, output=network.input_name)
    fits = builder.op("Equal", SPACE, builder.constant(space, np.int64))
    scores = builder.reshape(source, -1, 1)
    builder.op("Where", fits, scores, builder.constant(np.nan, np.float32), output=SCORE)
    builder.repeat_id(identity, like=EMBEDDING, output=HEAD)
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
                raise WeightsError(f"{path}: the graph does not output the id")
            own = spaces == space
            require_finite(found[SCORE][own], name=SCORE, path=path)
            if not np.isnan(found[SCORE][~own].astype(np.float64)).all():
                raise WeightsError(f"{path}: outputs a score in another space")
