"""`python -m tools.training detection`: label, train, export and measure the lite detector.

Each step resumes if it was interrupted, and is skipped if it is complete.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tools.training.common import LearningCurve, write_json
from tools.training.detection.splits import Split

TEACHER = "scrfd_2.5g_bnkps.onnx"
"""The teacher, whose boxes and landmarks are learnt."""

PEER = "det_500m.onnx"
"""The detector that the built-in one replaces, measured in the same way."""

STEPS = 14_000

SHIFTS = (-0.5, 0.0, 0.4, 0.4, 0.4, 0.4)
"""Shift of the logits per anchor size (`export.Shifts`)."""


def command(
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, curve, metrics, ONNX.")],
    data: Annotated[Path, typer.Option(help="Folder of the photo tar files.")] = Path(
        "../shared/data"
    ),
    models: Annotated[Path, typer.Option(help="Folder of the teachers' ONNX files.")] = Path(
        "../shared/models"
    ),
    cache: Annotated[Path, typer.Option(help="Folder of the labelled photos.")] = Path(
        ".aurum/training/detection"
    ),
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = STEPS,
    minutes: Annotated[
        float | None,
        typer.Option(help="Longest training in minutes; the learning rates reach zero by then."),
    ] = None,
    times: Annotated[int, typer.Option(help="Factor of the usual batch sizes: more on a GPU.")] = 1,
    seed: int = 7,
    rate: Annotated[
        float,
        typer.Option(help="Factor of the usual learning rates: below 1 to refine a good network."),
    ] = 1.0,
    resume: Annotated[bool, typer.Option(help="Resume from the last checkpoint.")] = True,
    start: Annotated[
        Path | None,
        typer.Option(help="ONNX file to start from: this network or a narrower one."),
    ] = None,
    learn: Annotated[
        bool, typer.Option(help="Train; else export and measure the checkpoint as it is.")
    ] = True,
    workers: Annotated[int, typer.Option(help="Processes that compose scenes.")] = 1,
    shift: Annotated[
        tuple[float, float, float, float, float, float],
        typer.Option(
            help="Added to the scores' logits, per anchor size: calibrates the threshold 0.5."
        ),
    ] = SHIFTS,
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
    """Distils the detection student, exports it and measures it."""
    from tools.training.detection.dataset import prepare
    from tools.training.detection.export import export
    from tools.training.detection.network import NetConfig
    from tools.training.detection.settings import TrainSettings
    from tools.training.detection.train import load_average, train

    usual = TrainSettings(steps=steps, minutes=minutes, times=times, seed=seed, workers=workers)
    settings = replace(usual, muon_rate=rate * usual.muon_rate, adam_rate=rate * usual.adam_rate)
    checkpoint = out / "checkpoint.pt"
    if learn:
        prepare(data=data, teacher=models / TEACHER, cache=cache)
        train(
            cache=cache,
            out=out,
            settings=settings,
            config=NetConfig(),
            resume=resume,
            start=start,
            teacher=models / TEACHER,
        )
    model, done = load_average(checkpoint)
    network = out / "lite_detection.onnx"
    export(model, network, shifts=shift)
    draw_curve(out / "curve.json", out / "face_detection.json")
    metrics = measure(
        network,
        models=models,
        cache=cache,
        group_photo=group_photo,
        composed=composed,
        photos=photos,
        part=part,
    )
    metrics |= {
        "score_shifts": list(shift),
        "training": {
            "steps": done,
            "sides": [asdict(side) for side in settings.sides],
            "times": times,
            "mosaic": settings.mosaic,
            "miniatures": settings.miniatures,
            "doodles": settings.doodles,
            "hard": settings.hard,
            "seed": seed,
            "rate": rate,
            "note": note,
        },
    }
    write_json(out / "face_detection.json", metrics)
    Console().print_json(data=metrics)


def measure(
    network: Path,
    *,
    models: Path,
    cache: Path,
    group_photo: Path | None,
    composed: int,
    photos: int,
    part: Split,
) -> dict[str, Any]:
    """Measure a raw detector and its file for the model card."""
    from tools.importing.network import load_network
    from tools.training.detection.evaluate import evaluate

    metrics: dict[str, Any] = evaluate(
        student=network,
        teacher=models / TEACHER,
        peer=models / PEER,
        cache=cache,
        group_photo=group_photo,
        composed=composed,
        photos=photos,
        part=part,
    )
    return metrics | {
        "stage": "face_detection",
        "file": network.name,
        "sha256": hashlib.sha256(network.read_bytes()).hexdigest(),
        "parameters": load_network(network).parameters,
        "teacher": TEACHER,
        "peer": PEER,
    }


def draw_curve(points: Path, beside: Path) -> Path:
    """Draws the learning curve into the folder of `beside`."""
    curve = LearningCurve(points)
    curve.load(up_to_step=10**9)
    picture = LearningCurve(beside, curve.points).draw(
        title="face_detection lite",
        panels=[["score loss"], ["box loss"], ["landmark loss"], ["rate (share of peak)"]],
    )
    return picture


def shorten(
    out: Annotated[Path, typer.Option(help="Raw ONNX file to write.")],
    start: Annotated[Path, typer.Option(help="ONNX file of the detector, raw or imported.")],
    cache: Annotated[
        Path, typer.Option(help="Folder of the labelled photos, from `detection`.")
    ] = Path(".aurum/training/detection"),
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = 2500,
    minutes: Annotated[
        float | None,
        typer.Option(help="Longest training in minutes; the learning rates reach zero by then."),
    ] = None,
    rate: Annotated[float, typer.Option(help="Peak rate of AdamW.")] = 1.5e-4,
    seed: int = 5,
) -> None:
    """Removes the detector's last block and trains the rest to compensate for it."""
    from tools.training.common import Budget, log, progress, seed_everything
    from tools.training.detection.compose import training_composer
    from tools.training.detection.export import export
    from tools.training.detection.prune_depth import learn, scenes, shortened
    from tools.training.detection.warm_start import read_detector

    composer = training_composer(cache)
    batches = scenes(composer, seed_everything(seed))
    before = read_detector(start, next(batches)).eval()
    model = shortened(before)
    with progress() as bar:
        task = bar.add_task("shorten", total=steps)
        budget = Budget(steps, minutes)
        for step, loss in learn(model, before, batches, budget=budget, rate=rate):
            bar.update(task, completed=round(budget.done(step) * steps))
            if step % 100 == 0:
                log(f"{step}: unlikeness {loss:.4f}")
    export(model, out)
