"""Mixed faces: two aligned training faces joined along a soft edge.

There are few photos for a long training, but a teacher can process any picture: its embeddings of
mixtures teach the student more of its function (Beyer et al. 2022, knowledge distillation as
function matching). Landmarks of aligned faces coincide, so halves fit together.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.evaluation.views import CROP
from tools.training.common import progress
from tools.training.embedding.crops import embed, merge_embeddings, open_session
from tools.training.embedding.faces import load_faces

SEED = 31

Image = NDArray[np.uint8]


def mixture(crops: Image, rows: NDArray[np.int64], index: int) -> Image:
    """Mixture number `index` of the given rows: [CROP,CROP,3] uint8 RGB, always the same one.

    The edge has a random direction, near the centre, from a few pixels wide to so soft that both
    faces are visible everywhere.
    """
    rng = np.random.default_rng((SEED, index))
    first, second = rng.choice(rows, 2, replace=False)
    angle, softness = rng.uniform(0, 2 * np.pi), CROP * 2 ** rng.uniform(-5, 0)
    away = np.arange(CROP, dtype=np.float32) - (CROP - 1) / 2
    place = away[None] * np.cos(angle) + away[:, None] * np.sin(angle) + rng.normal(0, CROP / 12)
    share = (0.5 + 0.5 * np.tanh(2 * place / softness))[..., None].astype(np.float32)
    mixed = crops[first] * share + crops[second] * (1 - share)
    return np.asarray(mixed + 0.5, np.uint8)


def build_mixed(
    *,
    cache: Path,
    rows: NDArray[np.int64],
    teacher: Path,
    count: int,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Writes `mixed-P.npy` [K,2,D] float32: clean and mirrored view of mixtures P::parts."""
    crops = np.load(cache / "crops.npy", mmap_mode="r")
    session = open_session(teacher)
    indices = range(count)[part::parts]
    found = []
    with progress() as bar:
        task = bar.add_task(f"mixed {part + 1}/{parts}", total=len(indices))
        for start in range(0, len(indices), 32):
            batch = np.stack([mixture(crops, rows, index) for index in indices[start : start + 32]])
            views = [embed(session, batch), embed(session, batch[:, :, ::-1])]
            found.append(np.stack(views, 1))
            bar.advance(task, len(batch))
    np.save(cache / f"mixed-{part}.npy", np.concatenate(found))


def prepare_mixed(*, cache: Path, teacher: Path, count: int, processes: int = 1) -> None:
    """Writes `mixed.npy`: the teacher's embeddings of `count` mixtures of training faces."""
    rows = load_faces(cache).train
    with ProcessPoolExecutor(processes) as pool:
        asked = [
            pool.submit(
                build_mixed,
                cache=cache,
                rows=rows,
                teacher=teacher,
                count=count,
                part=part,
                parts=processes,
            )
            for part in range(processes)
        ]
        for one in asked:
            one.result()
    merge_embeddings(cache=cache, parts=processes, name="mixed")
