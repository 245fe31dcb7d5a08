"""How the detector is trained: how long, on which pictures, how fast."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Side:
    """Square pictures: their side in pixels, how many make a batch, the share of such batches."""

    pixels: int
    batch: int
    share: float


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """steps: in all, over every resumption; save_every_s: seconds between checkpoints.

    minutes: after which it ends even with steps left (`common.Budget`).
    times: how many times as many pictures a batch has as `sides` say.
    mosaic: the share of scenes that are mosaics; hard: of those with covered faces, and of those
    in harsh light; miniatures: of backgrounds that show several scenes; doodles: of those that
    things are drawn on.
    sides: each with the share of steps that see pictures of that side, and how many at once.
    Small pictures teach most for the time they take; the largest anchors see faces in large ones
    only.
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
