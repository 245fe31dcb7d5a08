"""`python -m tools.training`: one command per network."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Data = Annotated[Path, typer.Option(help="Folder of the photo tar files.")]
Models = Annotated[Path, typer.Option(help="Folder of the teachers' ONNX files.")]
Cache = Annotated[Path, typer.Option(help="Folder of the cached crops and teacher embeddings.")]

SHARED_DATA, SHARED_MODELS = Path("../shared/data"), Path("../shared/models")
CACHE = Path(".aurum/training/cache")
TEACHER, DETECTOR = "mobilefacenet_arcface_128.onnx", "det_500m.onnx"


@app.command()
def crops(
    data: Data = SHARED_DATA,
    models: Models = SHARED_MODELS,
    cache: Cache = CACHE,
    processes: Annotated[int, typer.Option(help="Processes that share the work.")] = 1,
) -> None:
    """Aligns every face and caches crops and the teacher's embeddings."""
    from tools.training.crops import prepare

    prepare(
        data=data,
        detector=models / DETECTOR,
        teacher=models / TEACHER,
        cache=cache,
        processes=processes,
    )


@app.command()
def embedding(
    out: Annotated[Path, typer.Option(help="Folder of checkpoints, curve, metrics, ONNX.")],
    cache: Cache = CACHE,
    models: Models = SHARED_MODELS,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = 5000,
    batch: int = 128,
    seed: int = 1,
    muon_rate: float = 0.03,
    adam_rate: float = 2e-3,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    mirrored: Annotated[bool, typer.Option(help="Add the mirrored view inside the graph.")] = True,
) -> None:
    """Distils the embedding student, exports it and measures it."""
    import torch

    from tools.training import embedding as training
    from tools.training.common import write_json
    from tools.training.evaluation import measure_embedder
    from tools.training.student import Shape

    torch.set_num_threads(threads)
    plan = training.Plan(
        steps=steps, batch=batch, seed=seed, muon_rate=muon_rate, adam_rate=adam_rate
    )
    checkpoint = training.train(cache=cache, folder=out, plan=plan, shape=Shape(), resume=resume)
    path = out / "lite_embedding.onnx"
    training.export(checkpoint=checkpoint, path=path, mirrored=mirrored)
    metrics = measure_embedder(path, cache=cache, teacher=models / TEACHER)
    metrics |= training.describe(checkpoint) | {"mirrored": mirrored}
    write_json(out / "face_embedding.json", metrics)


@app.command()
def scoring(
    out: Annotated[Path, typer.Option(help="Folder of the head's ONNX and metrics.")],
    embedding: Annotated[str, typer.Option(help="`teacher`, or a raw ArcFace ONNX file.")],
    cache: Cache = CACHE,
    models: Models = SHARED_MODELS,
) -> None:
    """Fits the scoring head on an embedding and measures it on MEBeauty's test split."""
    from tools.training import scoring as training

    teacher = embedding == "teacher"
    training.train(
        cache=cache,
        network=models / TEACHER if teacher else Path(embedding),
        name="teacher" if teacher else "student",
        out=out,
    )


if importlib.util.find_spec("tools.training.detection") is not None:
    # The detector's training brings its own command.
    app.command("detection")(importlib.import_module("tools.training.detection").command)


if __name__ == "__main__":
    app()
