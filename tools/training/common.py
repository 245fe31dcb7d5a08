"""Parts shared by all trainings: seeds, progress bars, resumable checkpoints, learning curves.

Torch is imported only in functions that need it, so that heads train without it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    import torch


def seed_everything(seed: int) -> np.random.Generator:
    """Seeds Python, NumPy and (if installed) torch; returns NumPy's own generator."""
    random.seed(seed)
    try:
        import torch
    except ModuleNotFoundError:
        return np.random.default_rng(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of a training: a number of steps, or a time if it ends sooner.

    The time starts when this object is created. The learning rates decay with the share of the
    budget that is used, so they always reach zero at the end.
    """

    steps: int
    minutes: float | None = None
    started: float = field(default_factory=lambda: time.monotonic())

    def done(self, step: int) -> float:
        """Share of the budget that is spent after `step` steps, 0-1."""
        share = step / max(1, self.steps)
        if self.minutes is not None:
            share = max(share, (time.monotonic() - self.started) / (60 * self.minutes))
        return min(share, 1.0)


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bfloat16_pays(device: str = "cpu") -> bool:
    """Whether training in bfloat16 is faster on the device: not if it is emulated.

    On a processor with native support a step takes half to nine tenths of the time.
    """
    import torch

    return device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def store_as_fp16(path: Path, *, properties: Mapping[str, str] = MappingProxyType({})) -> None:
    """Rounds the large weights of an ONNX file to 16 bits and stores them so, which halves it.

    `properties` are added to the file's metadata.

    Raises:
        ValueError: if a weight is too large for 16 bits.
    """
    import onnx

    from tools.importing.graph import fp16_storage

    model = onnx.load(str(path))
    fp16_storage.round_to_fp16(model)
    fp16_storage.pack(model)
    onnx.helper.set_model_props(model, dict(properties))
    onnx.save(model, str(path))


def update_average(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Moves `average` towards `model` (weights and batch-norm statistics)."""
    import torch

    with torch.no_grad():
        for mine, theirs in zip(
            average.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def progress() -> Progress:
    """A progress bar on stderr; if that is a file, its state is written once, at the end."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a torch checkpoint and renames it into place, so that a kill loses nothing."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Load the checkpoint at `path` to the CPU; None if there is none."""
    if not path.exists():
        return None
    import torch

    # a checkpoint that this training wrote
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)  # nosec B614
    return state


@dataclass(slots=True)
class LearningCurve:
    """Named series over steps, kept as JSON beside a picture of the same name."""

    path: Path
    """The JSON file; the picture is the same name with `.png`."""

    points: list[dict[str, float]] = field(default_factory=list)

    def add(self, *, step: int, values: Mapping[str, float]) -> None:
        """Adds one point, and writes the JSON."""
        self.points.append({"step": float(step)} | {k: float(v) for k, v in values.items()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"points": self.points}, indent=1) + "\n")

    def load(self, *, up_to_step: int) -> None:
        """Loads the points of an interrupted run, up to its checkpoint's step."""
        if self.path.exists():
            points = json.loads(self.path.read_text())["points"]
            self.points = [point for point in points if point["step"] <= up_to_step]

    def draw(self, *, title: str, panels: Sequence[Sequence[str]]) -> Path:
        """Draws one panel per group of series names; returns the PNG's path."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(
            1, len(panels), figsize=(5 * len(panels), 3.5), squeeze=False
        )
        for axis, names in zip(axes[0], panels, strict=True):
            for name in names:
                known = [(p["step"], p[name]) for p in self.points if name in p]
                if known:
                    axis.plot(*zip(*known, strict=True), label=name)
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
        figure.suptitle(title)
        figure.tight_layout()
        picture = self.path.with_suffix(".png")
        figure.savefig(picture, dpi=80)
        pyplot.close(figure)
        return picture


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes measured values, indented and sorted, with a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def log(message: str) -> None:
    """Write a line with the time to stderr, above the progress bar."""
    Console(stderr=True, highlight=False, log_path=False, width=160).log(message, markup=False)
