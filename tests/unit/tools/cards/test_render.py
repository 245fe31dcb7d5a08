"""Cards state the measured values, and what a score is not."""

from __future__ import annotations

import copy
import json

import pytest

from gateway.settings import CHECKOUT
from tools.cards.render import render_card


def spread(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def entry(count: int) -> dict[str, object]:
    return {
        "n": count, "mean_error": -0.25,
        "pearson": spread(0.612), "mae": spread(0.78), "rmse": spread(1.04),
    }  # fmt: skip


SCORING = {
    "stage": "face_scoring", "sha256": "ab" * 32, "bytes": 930_000, "support_vectors": 1800,
    "recipe": {"penalty": 2.0, "perceptrons": {"members": 6}},
    "faces": {"train": 1985, "test": 529},
    "test": {"all": entry(529), "asian": entry(77)},
}  # fmt: skip
PAIRS = {"made_pairs": {"accuracy": 0.9712}, "found_pairs": {"accuracy": 0.9534}}
EMBEDDING = {
    "stage": "face_embedding", "sha256": "cd" * 32, "bytes": 3_190_000, "parameters": 795_312,
    "faces": {"train": 31_910, "held_out": 1500, "left_out": 3188},
    "cosine_to_teacher": spread(0.777), "cosine_by_source": {"fairface": 0.761},
    "cosine_by_group": {"gender female": {"n": 736, "mean": 0.822}},
    "similarity_correlation": 0.871, "verification": {"student": PAIRS, "teacher": PAIRS},
    "milliseconds_per_face": {"student": 3.4, "teacher": 6.3},
    "mirrored": False, "cosine_of_mirror_image": 0.938,
}  # fmt: skip


def test_the_scoring_card_states_what_the_number_is_and_is_not() -> None:
    card = " ".join(render_card(SCORING).split())
    assert "the mean taste of one group of raters" in card
    assert "not a property of a person" in card
    assert "must not be used" in card
    assert "AURUM_SCORING=off" in card
    assert "non-commercial" in card


def test_the_scoring_card_lists_every_group_with_intervals() -> None:
    card = render_card(SCORING)
    assert "| asian | 77 | 0.612 (0.512 to 0.712) |" in card
    assert "| all | 529 |" in card
    assert "penalty 2.0" in card
    assert "members 6" in card


def test_the_embedding_card_shows_the_measured_values() -> None:
    card = render_card(EMBEDDING)
    for text in (
        "0.777 (0.677 to 0.877)",
        "97.12 %",
        "95.34 %",
        "31,910",
        "795,312",
        "0.822 (n 736)",
    ):
        assert text in card
    changed = copy.deepcopy(EMBEDDING) | {"cosine_to_teacher": spread(0.5)}
    assert "0.777" not in render_card(changed)


def test_the_embedding_card_states_the_use_of_mirror_images_and_mixtures() -> None:
    card = render_card(EMBEDDING)
    assert "mirror image come out at a cosine of 0.938" in card
    assert "mixtures" not in card
    training = {"steps": 9800, "batch": 128, "seed": 1, "mixed": 0.4, "note": "Grown."}
    mirrored = render_card(EMBEDDING | {"mirrored": True, "training": training})
    assert "adds the embeddings of a face and of its mirror image" in mirrored
    assert "0.938" not in mirrored
    assert "mixtures, two of them joined along a soft edge (40% of a batch)" in mirrored
    assert "9,800 steps of 128 faces, seed 1. Grown." in mirrored
    ended_in_time = render_card(EMBEDDING | {"training": training | {"done": 4463}})
    assert "4,463 steps of 128 faces" in ended_in_time


def test_an_unknown_stage_has_no_card() -> None:
    with pytest.raises(ValueError, match="face_alignment"):
        render_card({"stage": "face_alignment"})


def test_the_detection_card_states_the_training_pictures_and_the_found_faces() -> None:
    path = CHECKOUT / "docs" / "models" / "face_detection.json"
    metrics = json.loads(path.read_text())
    metrics["composed"]["of_peer"]["recall"] = 0.777
    sides = [{"batch": 16, "pixels": 256}, {"batch": 5, "pixels": 448}]
    metrics["training"] = {"steps": 10, "seed": 7, "sides": sides}
    assert "mosaics" not in render_card(metrics)
    metrics["training"]["mosaic"] = 0.3
    metrics["composed"] |= {
        "landmark_error_mean": 0.1234,
        "landmark_error_median": 0.0567,
        "landmark_error_pooled": 0.0782,
    }
    card = render_card(metrics)
    assert "and (30%) mosaics of parts of real scenes" in card
    assert "harsh" not in card.split("## Limits")[0]
    metrics["training"] |= {"miniatures": 0.35, "doodles": 0.3, "hard": 0.1}
    card = render_card(metrics)
    assert "35% of the backgrounds are many scenes in miniature" in card
    assert "On 30% of them dials, keys and buttons are drawn" in card
    assert (
        "In 10% of the scenes faces are partly covered, 10% are in harsh or coloured light" in card
    )
    assert "| 12.3 % (5.7; 7.8) |" in card
    assert "10 steps of 16 pictures of 256 pixels or 5 pictures of 448 pixels, seed 7" in card
    assert "| 77.7 % |" in card


def test_the_detection_card_states_which_pictures_were_used_for_choices() -> None:
    metrics = json.loads((CHECKOUT / "docs" / "models" / "face_detection.json").read_text())
    last, choice = (render_card(metrics | {"part": part}) for part in ("last-word", "choice"))
    assert "chosen by other held-out photos" in last
    assert "flatters" not in last
    assert "chosen by, which flatters the figures" in choice


def test_the_detection_card_shows_the_results_of_the_teacher() -> None:
    path = CHECKOUT / "docs" / "models" / "face_detection.json"
    metrics = json.loads(path.read_text())
    for entry in metrics.values():
        if isinstance(entry, dict):
            entry.pop("steady", None)
    assert "steady" not in render_card(metrics)
    measured = {
        "faces": 321,
        "landmark_error_mean": 0.0611,
        "landmark_error_median": 0.0522,
        "landmark_error_pooled": 0.0577,
    }
    metrics["composed"]["steady"] = {
        "student": {**measured, "recall": 0.961},
        "peer": {**measured, "recall": 0.882},
        "teacher": {**measured, "recall": 0.993, "landmark_error_mean": 0.0444},
    }
    card = render_card(metrics)
    assert "| composed scenes | 321 | 96.1 % | 88.2 % | 99.3 % | 6.1 % (5.2; 5.8) |" in card
    assert "| 4.4 % (5.2; 5.8) |" in card
    assert "does not agree wholly with itself" in card
