"""Settings of the detector's training: length, pictures, learning rates."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Side:
    """Square pictures: side in pixels, pictures per batch, share of such batches."""

    pixels: int
    batch: int
    share: float


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """steps: in total, over all resumptions; save_every_s: seconds between checkpoints.

    minutes: longest training, even with steps left (`common.Budget`).
    times: factor of the pictures per batch in `sides`.
    mosaic: share of mosaics among scenes; hard: shares of scenes with covered faces and of scenes
    in harsh light; miniatures: share of backgrounds with several scenes; doodles: share of
    backgrounds with drawn distractors.
    sides: picture sizes with their share of steps and their batch sizes. Small pictures teach most
    per time; the largest anchors only see faces in large ones.
    """

    steps: int = 20_000
    minutes: float | None = None
    times: int = 1
    sides: tuple[Side, ...] = (Side(256, 16, 0.5), Side(448, 5, 0.25), Side(640, 3, 0.25))
    muon_rate: float = 0.03
    adam_rate: float = 2e-3
    warmup: int = 300
    average: float = 0.998
    mosaic: float = 0.3
    hard: float = 0.1
    miniatures: float = 0.35
    doodles: float = 0.3
    seed: int = 7
    workers: int = 1
    save_every_s: float = 150.0
