"""`python -m tools.training landmarks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tools.training.common import LearningCurve, write_json
from tools.training.detection.command import TEACHER, measure
from tools.training.detection.splits import Split

FILES = 20
"""Number of dataset files, some thousand faces each."""


def command(
    out: Annotated[Path, typer.Option(help="Folder of dataset, checkpoint, curve, metrics, ONNX.")],
    detector: Annotated[
        Path, typer.Option(help="Raw ONNX of the detector; its metrics lie beside it.")
    ],
    data: Annotated[Path, typer.Option(help="Folder of the photo tar files.")] = Path(
        "../shared/data"
    ),
    models: Annotated[Path, typer.Option(help="Folder of the teachers' ONNX files.")] = Path(
        "../shared/models"
    ),
    cache: Annotated[Path, typer.Option(help="Folder of the labelled photos.")] = Path(
        ".aurum/training/detection"
    ),
    files: Annotated[int, typer.Option(help="Number of dataset files, 400 scenes each.")] = FILES,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = 12_000,
    minutes: Annotated[
        float | None,
        typer.Option(help="Longest training in minutes; the learning rates reach zero by then."),
    ] = None,
    seed: int = 7,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    resume: Annotated[bool, typer.Option(help="Resume from the last checkpoint.")] = True,
    group_photo: Annotated[
        Path | None, typer.Option(help="Group photo on which to count faces.")
    ] = None,
    note: Annotated[str, typer.Option(help="Note about this run for the card.")] = "",
    part: Annotated[
        Split,
        typer.Option(
            help="Held-out pictures to use: for model selection, or for the final figures."
        ),
    ] = Split.LAST_WORD,
    composed: Annotated[int, typer.Option(help="Composed scenes to measure on.")] = 300,
    photos: Annotated[
        int, typer.Option(help="Largest number of photos per source to measure on.")
    ] = 600,
) -> None:
    """Trains the detector's second network, for landmarks, and measures both together."""
    import torch

    from tools.training.common import progress
    from tools.training.detection.compose import training_composer
    from tools.training.detection.dataset import prepare
    from tools.training.landmarks import dataset
    from tools.training.landmarks.export import join
    from tools.training.landmarks.train import TrainSettings, train

    torch.set_num_threads(threads)
    prepare(data=data, teacher=models / TEACHER, cache=cache)
    composer = training_composer(cache)
    kept = []
    with progress() as bar:
        for path in bar.track(
            dataset.collect(
                composer,
                detector=detector,
                teacher=models / TEACHER,
                seed=seed,
                files=files,
                folder=out / "lessons",
            ),
            total=files,
            description="lessons",
        ):
            kept.append(dataset.load(path))
    taught = dataset.joined(kept)
    settings = TrainSettings(steps=steps, minutes=minutes, seed=seed)
    refiner, done = train(taught, out=out, settings=settings, resume=resume)
    network = out / detector.name
    join(detector, refiner, network)
    before = detector.parent / "face_detection.json"
    metrics: dict[str, Any] = json.loads(before.read_text()) if before.exists() else {}
    metrics |= measure(
        network,
        models=models,
        cache=cache,
        group_photo=group_photo,
        composed=composed,
        photos=photos,
        part=part,
    )
    metrics["refiner"] = {
        "faces": len(taught),
        "steps": done,
        "batch": settings.batch,
        "seed": seed,
        "parameters": sum(weight.numel() for weight in refiner.parameters()),
        "note": note,
    }
    draw_curve(out / "refiner_curve.json", out / "face_landmarks.json")
    write_json(out / "face_detection.json", metrics)
    Console().print_json(data=metrics)


def draw_curve(points: Path, beside: Path) -> Path:
    """Draws the learning curve into the folder of `beside`."""
    curve = LearningCurve(points)
    curve.load(up_to_step=10**9)
    picture = LearningCurve(beside, curve.points).draw(
        title="face_detection lite: landmarks", panels=[["error", "by the crop alone"]]
    )
    return picture
