"""Clusters embeddings into identities, in a process of its own.

The neighbour graph joins faces whose cosine reaches the threshold, each with its nearest ones at
most. Its connected components are then cut by agglomerative clustering with average linkage (both
of scipy). The components alone would be single linkage, which joins two people over one blurred
face between them; average linkage asks how alike two groups are as a whole. It is deterministic
and needs no number of groups; the graph spares it from comparing everybody with everybody. (Leiden
and igraph are GPL; HDBSCAN calls small identities noise; scikit-learn's linkage along a graph
averages over its edges only, which is single linkage again.)

`python -m gateway.collections.clustering VECTORS.npy LABELS.npy THRESHOLD` prints how many faces
have their neighbours, a line each, and ends with the labels written.
"""

import os
import sys
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from gateway.vectors.base import Vector

Labels = npt.NDArray[np.int64]
"""[N] int64, equal for faces of one cluster."""

NEIGHBOURS: Final = 32
"""Most edges of a face; fewer hold clusters of any size together."""
MAX_LINKAGE: Final = 6000
"""Most faces that one linkage takes, whose distances take 300 MB then."""
_STEP: Final = 0.05
_BLOCK: Final = 512
_NICENESS: Final = 10


def group(graph: csr_matrix, vectors: Vector, *, threshold: float) -> Labels:
    """Cut the components of a symmetric graph by average linkage at cosine `threshold`.

    vectors: [N,D] float32, unit length. A component too large for linkage is first taken apart
    at higher and higher cosines.
    """
    labels = np.zeros(len(vectors), dtype=np.int64)
    following = 0
    waiting = [(np.arange(len(vectors), dtype=np.int64), threshold)]
    while waiting:
        faces, at_least = waiting.pop()
        edges = graph[faces][:, faces]
        edges.data[edges.data < at_least] = 0
        edges.eliminate_zeros()
        number, components = connected_components(edges, directed=False)
        order = np.argsort(components, kind="stable")
        sizes = np.bincount(components, minlength=number)
        for part in np.split(order, np.cumsum(sizes)[:-1]):
            members = faces[part]
            if len(members) > MAX_LINKAGE and at_least < 1:
                waiting.append((members, at_least + _STEP))
                continue
            found = _cut(vectors[members], threshold)
            labels[members] = found + following
            following += int(found.max()) + 1
    return labels


def _cut(vectors: Vector, threshold: float) -> Labels:
    if len(vectors) <= 2:
        return np.zeros(len(vectors), dtype=np.int64)
    distances = np.clip(1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64), 0, 2)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), method="average")
    cut = fcluster(tree, t=1 - threshold, criterion="distance")
    return np.asarray(cut, dtype=np.int64) - 1


def neighbour_rows(
    vectors: Vector, start: int, *, threshold: float
) -> tuple[Labels, Labels, Vector]:
    """Return the edges of the next `_BLOCK` faces: rows, columns, exact cosines."""
    block = vectors[start : start + _BLOCK] @ vectors.T
    rows = np.arange(len(block))
    block[rows, start + rows] = -2.0
    most = min(NEIGHBOURS, block.shape[1] - 1)
    nearest = np.argpartition(-block, most - 1, axis=1)[:, :most] if most else block[:, :0]
    nearest = nearest.astype(np.int64)
    cosines = np.take_along_axis(block, nearest, axis=1)
    near = cosines >= threshold
    return (
        np.broadcast_to((start + rows)[:, None], nearest.shape)[near].astype(np.int64),
        nearest[near],
        cosines[near].astype(np.float32),
    )


def neighbour_graph(parts: list[tuple[Labels, Labels, Vector]], number: int) -> csr_matrix:
    """Join the edges of all blocks into one symmetric graph."""
    rows = np.concatenate([part[0] for part in parts])
    columns = np.concatenate([part[1] for part in parts])
    cosines = np.concatenate([part[2] for part in parts])
    graph = csr_matrix((cosines, (rows, columns)), shape=(number, number))
    return csr_matrix(graph.maximum(graph.T))


def cluster(vectors: Vector, *, threshold: float, report: int | None = None) -> Labels:
    """Cluster faces; `report`: file descriptor for the numbers of finished faces, one per line."""
    if not len(vectors):
        return np.zeros(0, dtype=np.int64)
    parts = []
    for start in range(0, len(vectors), _BLOCK):
        parts.append(neighbour_rows(vectors, start, threshold=threshold))
        if report is not None:
            os.write(report, f"{min(start + _BLOCK, len(vectors))}\n".encode())
    return group(neighbour_graph(parts, len(vectors)), vectors, threshold=threshold)


if __name__ == "__main__":
    os.nice(_NICENESS)
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    labels_found = cluster(np.load(source), threshold=float(sys.argv[3]), report=1)
    with target.open("wb") as file:
        np.save(file, labels_found)
