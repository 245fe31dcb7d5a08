"""`aurum heads`: a scoring head of one's own, from rated photos."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from onnx import helper
from rich.console import Console

from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from tools.errors import CalibrationError
from tools.evaluation.embeddings import Embedded, embed_photos
from tools.evaluation.pairs import read_ratings
from tools.importing.stages.head import SPACE_PROPERTY

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make scoring heads.")
_FOLDS = 5
_FEWEST = 20


@app.callback()
def _group() -> None:
    """Make scoring heads."""


@app.command()
def train(
    ratings: Annotated[Path, typer.Argument(help="CSV: image,rating (1 to 10).")],
    *,
    out: Annotated[Path, typer.Option(help="Where the head goes; its card beside it.")] = Path(
        "head.onnx"
    ),
    url: Annotated[str | None, typer.Option(help="Gateway; else the one of AURUM_PORT.")] = None,
) -> None:
    """Fit a head for the embedding in service, cross-validated, ready to be imported."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        rated = read_ratings(ratings)
        address = url or f"http://127.0.0.1:{load_settings().port}"
        with errors.status("embedding"):
            embedded = embed_photos(address, [photo for photo, _ in rated])
        usable = _usable(ratings, rated, embedded)
        vectors = np.stack([embedded.vectors[photo] for photo, _ in usable])
        with errors.status("fitting"):
            model, card = _fit(vectors, np.array([rating for _, rating in usable], np.float64))
    except (CalibrationError, ConfigurationError) as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    helper.set_model_props(model, {SPACE_PROPERTY: embedded.space})
    onnx.save(model, out)
    card |= {
        "space": embedded.space,
        "source": ratings.name,
        "without_face": len(embedded.without_face),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    measured = card["cross_validated"]
    Console(soft_wrap=True, highlight=False).print(
        f"{out}: {len(usable)} faces, Pearson {measured['pearson']:.3f}, mean error "
        f"{measured['mae']:.2f}\nPut it into service: aurum models import --scoring {out}",
        markup=False,
    )


def _usable(
    source: Path, rated: list[tuple[Path, float]], embedded: Embedded
) -> list[tuple[Path, float]]:
    usable = [(photo, rating) for photo, rating in rated if photo in embedded.vectors]
    if len(usable) < _FEWEST:
        message = f"{source}: {len(usable)} rated photos show a face; {_FEWEST} are needed"
        raise CalibrationError(message)
    return usable


def _fit(vectors: Any, ratings: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    try:
        # the extra `heads`; serving needs neither
        from tools.evaluation.statistics import mean_absolute_error, pearson
        from tools.heads.regression import Recipe, fit_regression, to_onnx
    except ImportError as error:
        message = "training needs scikit-learn: pip install scikit-learn"
        raise CalibrationError(message) from error
    order = np.random.default_rng(0).permutation(len(ratings))
    predicted = np.zeros(len(ratings))
    for held in np.array_split(order, _FOLDS):
        rest = np.setdiff1d(order, held)
        head = fit_regression(vectors[rest], ratings[rest])
        predicted[held] = head.predict(vectors[held])
    card = {
        "faces": len(ratings),
        "dimension": int(vectors.shape[1]),
        "recipe": asdict(Recipe()),
        "ratings": {
            "mean": float(ratings.mean()),
            "lowest": float(ratings.min()),
            "highest": float(ratings.max()),
        },
        "cross_validated": {
            "folds": _FOLDS,
            "pearson": pearson(predicted, ratings),
            "mae": mean_absolute_error(predicted, ratings),
            "mae_of_the_mean": float(np.abs(ratings - ratings.mean()).mean()),
        },
    }
    return to_onnx(fit_regression(vectors, ratings)), card
