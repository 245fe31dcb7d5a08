"""Training and evaluation of the `face_scoring` lite head on MEBeauty's ratings.

It learns the mean taste of one group of raters. Settings were chosen by cross-validation on the
train and val splits; the test split is used for evaluation only. The 35 rows whose photo is not in
the set are skipped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tools.evaluation.statistics import regression_report
from tools.heads.regression import Recipe, fit_head, fit_regression, to_onnx
from tools.training.common import log, write_json
from tools.training.embedding.crops import embed, open_session

__all__ = ["fit_head", "rated_faces", "train"]


def rated_faces(
    cache: Path, network: Path
) -> tuple[NDArray[np.float32], NDArray[np.float64], list[dict[str, Any]]]:
    """Embed MEBeauty's rated faces with a raw ArcFace network.

    Returns:
        Unit-length embeddings [N,2,D] of the crop and its mirror image, ratings [N], descriptions.
    """
    photos = json.loads((cache / "photos.json").read_text())["photos"]
    rows = [row for row, photo in enumerate(photos) if photo["source"] == "mebeauty"]
    crops = np.load(cache / "crops.npy", mmap_mode="r")
    session = open_session(network)
    embeddings = []
    for start in range(0, len(rows), 32):
        batch = np.asarray(crops[rows[start : start + 32]])
        views = [embed(session, batch), embed(session, batch[:, :, ::-1])]
        embeddings.append(np.stack(views, 1))
    rated = [photos[row] for row in rows]
    ratings = np.array([photo["rating"] for photo in rated], np.float64)
    return np.concatenate(embeddings), ratings, rated


def groups_of(photos: list[dict[str, Any]]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return row masks of the six ethnic groups and two sexes in MEBeauty's paths."""
    found = []
    for key in ("group", "gender"):
        column = np.array([photo[key] for photo in photos])
        found += [(str(name), column == name) for name in sorted(set(column))]
    return found


def train(
    *, cache: Path, network: Path, name: str, out: Path, recipe: Recipe | None = None
) -> dict[str, Any]:
    """Fits the head on train and val, writes its ONNX and its measured values on test.

    Args:
        cache: the folder that `crops` wrote.
        out: the output folder.
        recipe: the regression's settings.
        network: raw ONNX of the embedding network.
        name: `student` or `teacher`; names the files `head_NAME.onnx` and `face_scoring_NAME.json`.
    """
    recipe = recipe or Recipe()
    embeddings, ratings, photos = rated_faces(cache, network)
    test = np.array([photo["split"] == "test" for photo in photos])
    head = fit_regression(embeddings[~test], ratings[~test], recipe=recipe)
    model = to_onnx(head)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"head_{name}.onnx"
    onnx.save(model, path)
    session = open_session(path)
    (predicted,) = session.run(None, {"embedding": embeddings[test, 0]})
    tested = [photo for photo, held in zip(photos, test, strict=True) if held]
    report = regression_report(predicted.astype(np.float64), ratings[test], groups_of(tested))
    metrics: dict[str, Any] = {
        "stage": "face_scoring",
        "embedding": name,
        "recipe": asdict(recipe),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "support_vectors": len(head.weights),
        "perceptrons": recipe.perceptrons.members,
        "faces": {"train": int((~test).sum()), "test": int(test.sum())},
        "test": report,
    }
    write_json(out / f"face_scoring_{name}.json", metrics)
    overall = report["all"]
    log(f"{name}: pearson {overall['pearson']}, mae {overall['mae']}, rmse {overall['rmse']}")
    return metrics
