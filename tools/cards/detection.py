"""The card of `face_detection` lite, rendered from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tools.cards.parts import LICENCE, Metrics, facts, table

_LAST_WORD: Final = "last-word"
"""`tools.training.detection.splits.Part.LAST_WORD`, as the metrics name it."""
_HELD_OUT: Final = {
    "composed": "composed scenes",
    "people_scenes": "scenes with people",
    "fairface_val_144px": "FairFace photos",
    "utkface_128px": "UTKFace photos",
    "mebeauty_336px": "MEBeauty photos (test split)",
    "together": "all of them",
}


def detection_card(metrics: Metrics) -> str:
    """The card of `face_detection` lite, from what `evaluate.evaluate` measured."""
    spent, alarms = metrics["time_640"], metrics["false_alarms"]
    training, other = metrics["training"], metrics["peer"]
    refined = ", with the landmarks of one face refined" if metrics.get("refiner") else ""
    shifts = ", ".join(f"{shift:+.2f}" for shift in metrics["score_shifts"])
    told = [
        ("input", "RGB, any size in multiples of 32; (x - 127.5) / 128"),
        ("output", "boxes, five landmarks, scores, for strides 8, 16, 32, two anchors per cell"),
        ("parameters", f"{metrics['parameters']:,}, kept in 16 bits"),
        (
            "time at 640 x 640, one thread, median",
            f"{spent['student']['median_ms']:.1f} ms"
            f" ({other} {spent['peer']['median_ms']:.1f} ms in the same run){refined}",
        ),
    ]
    # chosen by their effect on the scenes that are reported, unless there is none
    shifted = ", chosen on these scenes" if any(metrics["score_shifts"]) else ""
    agreement = table(
        (
            "held out",
            "images",
            "faces",
            "found",
            f"found by {other}",
            f"found of {other}'s",
            "landmark error",
            f"landmark error of {other}",
            "with a face",
        ),
        [
            (
                name,
                f"{entry['images']:,}",
                f"{entry['faces']:,}",
                f"{100 * entry['recall']:.1f} %",
                f"{100 * entry['peer']['recall']:.1f} %",
                f"{100 * entry['of_peer']['recall']:.1f} %" if "of_peer" in entry else "",
                _landmark_error(entry),
                _landmark_error(entry["peer"]),
                f"{100 * entry['images_with_face']:.1f} %",
            )
            for key, name in _HELD_OUT.items()
            if (entry := metrics.get(key))
        ],
    )
    return f"""# face_detection lite

A small face detector, so that a clone answers with nothing fetched. Larger packs replace it.

{facts(metrics, told)}

## Data

Face photos of FairFace (validation split), UTKFace and MEBeauty, labelled by {metrics["teacher"]}
on the photo padded by half its size, and 500 scenes of ImageNet, whose people the same network
labelled. Held out: a twentieth of FairFace and UTKFace, MEBeauty's test split, a third of the
scenes.

## Method

A one-stage network in SCRFD's manner, trained on CPUs on composed scenes: up to thirty faces from
16 pixels, turned by up to 30 degrees, crowded, cut off or filling the frame, pasted in several
ways on scenes without faces; photos as a whole; scenes with people; scenes
without{_more(training)}.
The teacher is asked about each scene, and the student learns its answer row by row: box and
landmarks of every cell, and the score as a share of the face's best one. Labels pasted along with a
photo stand where the teacher sees no face, but for faces that fill half the picture: the pipeline's
close-up sees those better.
{training["steps"]:,} steps of {_pictures(training)}, seed {training["seed"]}; the shipped
weights are a running average. A face's landmarks are averaged over the rows that
answer about it, by their scores. `python -m tools.training detection` trains one.
{training.get("note", "")}

![learning curve](face_detection.png)

{_refiner(metrics)}## Measured

Against the teacher, {metrics["teacher"]}, all with both passes of the pipeline (640, and padded
by half at 320) and a threshold of 0.5. A face counts from 24 pixels in the 640 frame and is found
at an overlap (IoU) of 0.5. The landmark error is in distances between the eyes, which are short in
profiles: the mean and, in brackets, the median and the sum of the errors in sums of the distances.
No network agrees with another wholly, so {other}, which learnt from photographed scenes, stands
beside it, and so does the share of its faces that this one finds.

{_part(metrics)}{agreement}

{_steady_faces(metrics)}False alarms in {alarms["scenes"]} held-out scenes without faces:
{alarms["alarms"]}
({alarms["alarms_per_100_scenes"]:.1f} in 100 scenes; {other}:
{metrics["false_alarms_peer"]["alarms_per_100_scenes"]:.1f}). Added to the scores' logits:
{shifts} for anchors of 16 to 512 pixels{shifted}.

## Limits

- It follows its teacher, whose errors it repeats and whose accuracy it does not reach.
- Most of the scenes are composed, not photographed: crowds, profiles, covered faces and harsh light
are less well known to it than single portraits.
- Animals' faces and drawings may count as faces. Faces under 16 pixels are not looked for.

## Intended use

Trying the program, tests, photos of consenting people. Not for surveillance, nor for counting
people where an error does harm.

{LICENCE}
"""


def _part(metrics: Metrics) -> str:
    """Say whether choices were made by the pictures that are reported, as a paragraph."""
    if metrics["part"] == _LAST_WORD:
        return """Whatever was chosen (weights, shifts) was chosen by other held-out photos and
composed scenes than these, but for the photographed scenes, with people or without faces: they are
few, and served both.

"""
    return """These are pictures that weights and shifts were chosen by, which flatters the figures.

"""


def _refiner(metrics: Metrics) -> str:
    """Say how the second network was trained, as paragraphs, where the file has one."""
    refiner = metrics.get("refiner")
    if not refiner:
        return ""
    return f"""**Landmarks.** A second network of {refiner["parameters"]:,} parameters in the same
file looks at each face that was found, upright and 40 pixels wide, and at where the first put its
landmarks, and corrects them. It learnt from {refiner["faces"]:,} faces in scenes composed as above
and in portraits as the pipeline's close-up sees them, each as the detector found it and in frames
that lie a little otherwise, where the teacher sees landmarks in the same picture; half of its loss
asks what the crop alone shows. {refiner["steps"]:,} steps of {refiner["batch"]} faces, seed
{refiner["seed"]}; the weights are a running average. `python -m tools.training landmarks` trains
one. {refiner["note"]}

![learning curve of the second network](face_landmarks.png)

"""


def _more(training: Mapping[str, Any]) -> str:
    """Say what else is among the scenes, and how many of them."""
    said = ""
    if share := training.get("mosaic"):
        said += f",\nand ({share:.0%}) mosaics of parts of real scenes and photos"
    if share := training.get("miniatures"):
        said += f".\n{share:.0%} of the backgrounds are many scenes in miniature"
    if share := training.get("doodles"):
        said += f".\nOn {share:.0%} of them dials, keys and buttons are drawn, which are no faces"
    if share := training.get("hard"):
        said += (
            f".\nIn {share:.0%} of the scenes faces are partly covered, {share:.0%} are in harsh"
        )
        said += " or coloured light"
    return said


def _pictures(training: Mapping[str, Any]) -> str:
    """Say how many pictures a step of the detector's training saw, and of what size."""
    sides, times = training["sides"], training.get("times", 1)
    return " or ".join(
        f"{side['batch'] * times} pictures of {side['pixels']} pixels" for side in sides
    )


def _steady_faces(metrics: Metrics) -> str:
    """Say how well the faces are found of which the teacher is sure, beside the teacher itself."""
    teacher, peer = metrics["teacher"], metrics["peer"]
    entries = {
        name: metrics[key]["steady"]
        for key, name in _HELD_OUT.items()
        if "steady" in metrics.get(key, {})
    }
    if not entries:
        return ""
    who = ("student", "peer", "teacher")
    names = ("this network", peer, "the teacher")
    rows = [
        (
            name,
            f"{entry['student']['faces']:,}",
            *(f"{100 * entry[each]['recall']:.1f} %" for each in who),
            *(_landmark_error(entry[each]) for each in who),
        )
        for name, entry in entries.items()
    ]
    head = ("held out", "faces", *(f"found by {name}" for name in names))
    measured = table((*head, *(f"landmark error of {name}" for name in names)), rows)
    return f"""The teacher does not agree wholly with itself: mirrored or moved by 4 pixels, it
loses faces and moves landmarks. Against its steady faces, those that {teacher} finds in
the mirror image, in the picture moved by 4 pixels, and in both at once (the mean of its three
answers), all are held alike; the teacher's own answer to the picture as it is shows what can be
reached.

{measured}

"""


def _landmark_error(entry: Metrics) -> str:
    mean, median, pooled = (
        entry[f"landmark_error_{kind}"] for kind in ("mean", "median", "pooled")
    )
    return f"{100 * mean:.1f} % ({100 * median:.1f}; {100 * pooled:.1f})"
