"""`python -m tools.training detection`: label, train, export and measure the lite detector.

One command after the other, each of which goes on where it was interrupted:

- `prepare`   the teacher labels photos and scenes (20 minutes on one core)
- `train`     composed scenes; checkpoints and the learning curve in the work folder
- `export`    raw ONNX in SCRFD's layout
- `evaluate`  every goal of the model card, as JSON
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tools.training.common import LearningCurve, write_json

app = typer.Typer(help=__doc__, no_args_is_help=True)
console = Console()

WorkOption = Annotated[Path, typer.Option(help="folder for cache, checkpoint and curve")]


@app.command()
def prepare(
    data: Annotated[Path, typer.Option(help="folder with the four tar files")],
    teacher: Annotated[Path, typer.Option(help="SCRFD network with landmarks, raw layout")],
    work: WorkOption,
) -> None:
    """Label every photo and scene with the teacher."""
    from tools.training import detection_data

    detection_data.prepare(data=data, teacher=teacher, cache=work / "cache")


@app.command()
def train(
    work: WorkOption,
    steps: Annotated[int, typer.Option(help="steps in all, over every resumption")] = 14_000,
    resume: Annotated[bool, typer.Option(help="go on from the checkpoint, if any")] = True,
) -> None:
    """Train on what `prepare` labelled."""
    from tools.training.detection_net import NetConfig
    from tools.training.detection_train import TrainSettings
    from tools.training.detection_train import train as run

    run(
        cache=work / "cache",
        out=work,
        settings=TrainSettings(steps=steps),
        config=NetConfig(),
        resume=resume,
    )


@app.command()
def export(
    work: WorkOption,
    out: Annotated[Path, typer.Option(help="the ONNX file to write")],
    shift: Annotated[float, typer.Option(help="added to every score's logit")] = 0.0,
) -> None:
    """Write the averaged network as raw ONNX in SCRFD's layout."""
    from tools.training.detection_export import export as write
    from tools.training.detection_train import load_average

    write(load_average(work / "checkpoint.pt"), out, shift=shift)


@app.command()
def evaluate(
    work: WorkOption,
    student: Annotated[Path, typer.Option(help="the raw ONNX file to measure")],
    teacher: Annotated[Path, typer.Option(help="the network to compare with")],
    report: Annotated[Path, typer.Option(help="JSON file to write")],
    group_photo: Annotated[Path | None, typer.Option(help="photo whose faces to count")] = None,
    composed: Annotated[int, typer.Option(help="composed scenes")] = 300,
    photos: Annotated[int, typer.Option(help="held-out photos per source, at most")] = 600,
) -> None:
    """Measure every goal on held-out scenes and photos."""
    from tools.training.detection_evaluate import evaluate as measure

    measured = measure(
        student=student,
        teacher=teacher,
        cache=work / "cache",
        group_photo=group_photo,
        composed=composed,
        photos=photos,
    )
    write_json(report, measured)
    console.print_json(data=measured)


@app.command()
def curve(
    work: WorkOption,
    out: Annotated[Path, typer.Option(help="JSON file to write, the picture beside it")],
) -> None:
    """Write the learning curve and its picture."""
    known = LearningCurve(work / "curve.json")
    known.load(up_to_step=10**9)
    drawn = LearningCurve(out, known.points)
    write_json(out, {"points": known.points})
    drawn.draw(
        title="face_detection lite",
        panels=[["score loss"], ["box loss"], ["landmark loss"], ["rate (share of peak)"]],
    )
