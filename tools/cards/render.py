"""Model cards rendered from measured JSON: no number in a card is typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tools.cards.detection import detection_card
from tools.cards.embedding import embedding_card
from tools.cards.parts import Metrics
from tools.cards.scoring import scoring_card

CARDS: Final[Mapping[str, Callable[[Metrics], str]]] = {
    "face_detection": detection_card,
    "face_embedding": embedding_card,
    "face_scoring": scoring_card,
}


def render_card(metrics: Metrics) -> str:
    """The Markdown card of a stage's measured values.

    Raises:
        ValueError: there is no card for the stage that the metrics name.
    """
    stage = metrics.get("stage")
    if stage not in CARDS:
        raise ValueError(f"no card for stage {stage!r}; known: {', '.join(sorted(CARDS))}")
    return CARDS[str(stage)](metrics).rstrip() + "\n"
