"""`python -m tools.training`: one command per network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools.training.detection.command import command as detection
from tools.training.detection.command import shorten
from tools.training.landmarks.command import command as landmarks

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Data = Annotated[Path, typer.Option(help="Folder of the photo tar files.")]
Models = Annotated[Path, typer.Option(help="Folder of the teachers' ONNX files.")]
Cache = Annotated[Path, typer.Option(help="Folder of the cached crops and teacher embeddings.")]

app.command("detection")(detection)
app.command("shorten")(shorten)
app.command("landmarks")(landmarks)

SHARED_DATA, SHARED_MODELS = Path("../shared/data"), Path("../shared/models")
CACHE = Path(".aurum/training/cache")
TEACHER, DETECTOR = "mobilefacenet_arcface_128.onnx", "det_500m.onnx"


@app.command()
def crops(
    data: Data = SHARED_DATA,
    models: Models = SHARED_MODELS,
    cache: Cache = CACHE,
    mixed: Annotated[
        int, typer.Option(help="Number of mixed faces (of two faces each) for the teacher.")
    ] = 64_000,
    processes: Annotated[int, typer.Option(help="Processes that share the work.")] = 1,
) -> None:
    """Aligns every face and caches crops and the teacher's embeddings."""
    from tools.training.embedding.crops import prepare
    from tools.training.embedding.mixing import prepare_mixed

    prepare(
        data=data,
        detector=models / DETECTOR,
        teacher=models / TEACHER,
        cache=cache,
        processes=processes,
    )
    prepare_mixed(cache=cache, teacher=models / TEACHER, count=mixed, processes=processes)


@app.command()
def embedding(
    out: Annotated[Path, typer.Option(help="Folder of checkpoints, curve, metrics, ONNX.")],
    cache: Cache = CACHE,
    models: Models = SHARED_MODELS,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = 5000,
    minutes: Annotated[
        float | None,
        typer.Option(help="Longest training in minutes; the learning rates reach zero by then."),
    ] = None,
    batch: int = 128,
    seed: int = 1,
    start: Annotated[
        Path | None, typer.Option(help="ONNX file of a student to start from, at full size.")
    ] = None,
    rate: Annotated[
        float,
        typer.Option(help="Factor of the usual learning rates: below 1 to refine a good network."),
    ] = 1.0,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    resume: Annotated[bool, typer.Option(help="Resume from the last checkpoint.")] = True,
    mirrored: Annotated[
        bool, typer.Option(help="Add the mirrored view inside the graph: better, twice the time.")
    ] = False,
    note: Annotated[str, typer.Option(help="Note about this run for the card.")] = "",
) -> None:
    """Distils the embedding student, exports it and measures it."""
    import torch

    from tools.evaluation.views import VIEW
    from tools.training.common import write_json
    from tools.training.embedding import train as training
    from tools.training.embedding.evaluate import measure_embedder
    from tools.training.embedding.network import Shape

    torch.set_num_threads(threads)
    usual = training.TrainSettings()
    settings = training.TrainSettings(
        steps=steps,
        minutes=minutes,
        batch=batch,
        seed=seed,
        muon_rate=rate * usual.muon_rate,
        adam_rate=rate * usual.adam_rate,
        # a network trained at 112 px needs no training at lower resolutions again
        sides=usual.sides if start is None else ((1.0, VIEW),),
    )
    checkpoint = training.train(
        cache=cache,
        folder=out,
        settings=settings,
        shape=Shape(),
        resume=resume,
        start=start,
        teacher=models / TEACHER,
    )
    path = out / "lite_embedding.onnx"
    training.export(checkpoint=checkpoint, path=path, mirrored=mirrored)
    metrics = measure_embedder(path, cache=cache, teacher=models / TEACHER)
    metrics |= training.describe(checkpoint, note=note) | {"mirrored": mirrored}
    write_json(out / "face_embedding.json", metrics)


@app.command()
def scoring(
    out: Annotated[Path, typer.Option(help="Folder of the head's ONNX and metrics.")],
    embedding: Annotated[str, typer.Option(help="`teacher`, or a raw ArcFace ONNX file.")],
    cache: Cache = CACHE,
    models: Models = SHARED_MODELS,
) -> None:
    """Fits the scoring head on an embedding and measures it on MEBeauty's test split."""
    from tools.training.scoring import train as training

    teacher = embedding == "teacher"
    training.train(
        cache=cache,
        network=models / TEACHER if teacher else Path(embedding),
        name="teacher" if teacher else "student",
        out=out,
    )


@app.command()
def pairs(
    out: Annotated[Path, typer.Option(help="Folder of the photos and `pairs.csv`.")],
    data: Data = SHARED_DATA,
    cache: Cache = CACHE,
    different: Annotated[int, typer.Option(help="Pairs of different people.")] = 200_000,
) -> None:
    """Writes pairs of held-out photos, to calibrate the active embedder."""
    from tools.training.embedding.pairs import write_pairs

    path = write_pairs(data=data, cache=cache, out=out, different=different)
    typer.echo(f"Next, beside a running stack: aurum models calibrate {path}")


@app.command()
def ship(
    detection: Annotated[Path | None, typer.Option(help="Raw ONNX of the detector.")] = None,
    embedding: Annotated[Path | None, typer.Option(help="Raw ONNX of the embedder.")] = None,
    scoring: Annotated[Path | None, typer.Option(help="Raw ONNX of the head.")] = None,
) -> None:
    """Makes trained networks the built-in ones, version 1 of this checkout's repository."""
    from gateway.settings import CHECKOUT
    from tools.errors import WeightsError
    from tools.importing.importer import Order
    from tools.training import shipping

    order = Order(detection=detection, embedding=embedding, scoring=scoring)
    try:
        cards = shipping.ship(order, CHECKOUT / "model_repository")
    except WeightsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for card in cards:
        typer.echo(f"{card.stage} {card.id}")
    typer.echo("Now their golden answers, digests and references:")
    typer.echo("  python -m tools.golden model_repository --photos ../shared/data")


def main() -> None:
    """Run the command line; if packages are missing, name the extra and exit with status 1."""
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"gateway", "tools"}:
            raise
        typer.echo(f"error: training needs {error.name}: pip install 'aurum[train]'", err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
