"""Model cards rendered from measured JSON: no number in a card is typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

Metrics = Mapping[str, Any]

LICENCE = """## Licence

Research, non-commercial use only. The teacher's weights and the photos (FairFace CC BY 4.0, UTKFace
and MEBeauty for research) were given on such terms, and what was learnt from them stays under
them."""

OFF = "`AURUM_SCORING=off`"


def render_card(metrics: Metrics) -> str:
    """The Markdown card of a stage's measured values.

    Raises:
        ValueError: there is no card for the stage that the metrics name.
    """
    stage = metrics.get("stage")
    if stage not in CARDS:
        raise ValueError(f"no card for stage {stage!r}; known: {', '.join(sorted(CARDS))}")
    return CARDS[str(stage)](metrics).rstrip() + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(value: Mapping[str, float], *, digits: int = 3) -> str:
    """A value with its 95 % interval."""
    return f"{value['value']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _pictures(training: Mapping[str, Any]) -> str:
    """Say how many pictures a step of the detector's training saw, and of what size."""
    sides = training["sides"]
    return " or ".join(f"{side['batch']} pictures of {side['pixels']} pixels" for side in sides)


def _facts(metrics: Metrics, extra: Sequence[tuple[str, str]]) -> str:
    rows = [
        ("file", f"`{metrics['file']}`")
        if "file" in metrics
        else ("stage", f"`{metrics['stage']}`"),
        ("SHA-256 of the trained network", f"`{metrics['sha256']}`"),
        ("size", f"{metrics['bytes'] / 1e6:.2f} MB"),
        *extra,
    ]
    return table(("fact", "value"), rows)


def embedding_card(metrics: Metrics) -> str:
    """The card of `face_embedding` lite, from what `evaluate.measure_embedder` measured."""
    faces, pairs = metrics["faces"], metrics["verification"]
    spent = metrics["milliseconds_per_face"]
    training = metrics.get("training", {})
    facts = [
        ("input", "aligned faces, 112 x 112 RGB, ArcFace template"),
        ("output", "128 numbers at unit length, a space of its own"),
        ("parameters", f"{metrics['parameters']:,}, kept in 16 bits"),
        (
            "time per face, one thread",
            f"{spent['student']:.2f} ms (teacher {spent['teacher']:.2f} ms)",
        ),
    ]
    measured = table(
        ("measure", "this network", "teacher"),
        [
            ("cosine to the teacher, mean", interval(metrics["cosine_to_teacher"]), "1"),
            (
                "correlation of similarities with the teacher's",
                f"{metrics['similarity_correlation']:.3f}",
                "1",
            ),
            *(
                (
                    label,
                    *(
                        f"{100 * pairs[who][kind]['accuracy']:.2f} %"
                        for who in ("student", "teacher")
                    ),
                )
                for kind, label in (
                    ("made_pairs", "made pairs: two degraded views against the hardest other face"),
                    (
                        "found_pairs",
                        "found pairs: two photos that the teacher takes for one person",
                    ),
                )
            ),
        ],
    )
    per_source = ", ".join(
        f"{name} {value:.3f}" for name, value in metrics["cosine_by_source"].items()
    )
    per_group = ", ".join(
        f"{name} {entry['mean']:.3f} (n {entry['n']})"
        for name, entry in metrics["cosine_by_group"].items()
    )
    steps = (
        f" {training['steps']:,} steps of {training['batch']} faces, seed {training['seed']}."
        if training
        else ""
    )
    note = f" {training['note']}" if training.get("note") else ""
    mirror = (
        "The graph adds the embeddings of a face and of its mirror image."
        if metrics["mirrored"]
        else "A face and its mirror image come out at a cosine of "
        f"{metrics['cosine_of_mirror_image']:.3f}."
    )
    mixed = (
        "\nBesides photographed faces it sees mixtures, two of them joined along a soft edge"
        f" ({training['mixed']:.0%} of a batch)."
        if training.get("mixed")
        else ""
    )
    return f"""# face_embedding lite

A small face embedder, so that a clone answers with nothing fetched. Larger packs replace it.

{_facts(metrics, facts)}

## Data

{faces["train"]:,} aligned faces of FairFace (validation split), UTKFace and MEBeauty (without its
test split). {faces["held_out"]:,} faces of FairFace and UTKFace were held out, and
{faces["left_out"]:,} faces that the teacher finds similar to a held-out or test face were left
out of training. No identity is labelled.

## Method

Distillation on CPUs from MobileFaceNet trained with ArcFace (128-d): the student, a residual
network of dense convolutions, learns the teacher's embedding of the clean face from degraded
views (mirrored, jittered, shrunk, blurred, compressed, recoloured, grey, partly covered), and the
similarities within a batch.{mixed}{steps}{note}
{mirror}
`python -m tools.training embedding` [trains one](training.md).

![learning curve](face_embedding.png)

## Measured

On held-out faces; in brackets the 95 % bootstrap interval.

{measured}

Cosine by source: {per_source}.
Cosine by group: {per_group}.
The pairs are stand-ins without labelled identities. The found ones were chosen with the teacher's
eyes, which favours the teacher; the made ones are degraded as the student's training views are,
which favours the student.

## Limits

- It follows its teacher, whose errors it repeats and whose accuracy it does not reach.
- Verification accuracy was not measured by group: no identity is labelled. Profiles and
  faces of few pixels were not measured apart. Small children look more alike to it than adults
  ([how much](training.md)).
- A similarity is no proof of identity. Set the threshold on photos of your own use.

## Intended use

Trying the program, tests, small collections of consenting people. Not for identifying people
without their consent, surveillance, or any decision about a person.

{LICENCE}
"""


def _settings(values: Mapping[str, Any]) -> str:
    """Names with their values, in a line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


_TEACHER_TITLE: Final = "face_scoring for mobilefacenet_arcface_128"


def scoring_card(metrics: Metrics) -> str:
    """The card of `face_scoring` lite, from what `scoring.train` measured."""
    report, faces, recipe = metrics["test"], metrics["faces"], metrics["recipe"]
    rows = [
        (
            name,
            str(entry["n"]),
            interval(entry["pearson"]),
            interval(entry["mae"], digits=2),
            interval(entry["rmse"], digits=2),
            f"{entry['mean_error']:+.2f}",
        )
        for name, entry in report.items()
    ]
    facts = [
        ("input", "an embedding of the space named in the graph"),
        ("output", "a rating from 1 to 10; NaN for an embedding of any other space"),
        ("support vectors", str(metrics["support_vectors"])),
    ]
    title = _TEACHER_TITLE if metrics.get("embedding") == "teacher" else "face_scoring lite"
    machine = _settings({name: recipe[name] for name in recipe if name != "perceptrons"})
    ensemble = _settings(recipe["perceptrons"])
    return f"""# {title}

**What the number is: the mean taste of one group of raters, about 300 people asked by the authors
of MEBeauty. It is not a property of a person,** and says nothing of health, character, worth or
ability.

{_facts(metrics, facts)}

## Data

MEBeauty (Lebedeva, Guo, Ying 2021): portraits of six ethnic groups and two sexes, each with the
mean rating of its raters, 1 to 10. {faces["train"]:,} faces of the train and val splits taught
the head; the {faces["test"]:,} of the test split only measured it. 35 rows that name a photo the
set does not hold were skipped.

## Method

The mean of two regressions on the face embedding, as one small graph: support vectors with a
Gaussian kernel ({machine}), and an ensemble of perceptrons ({ensemble}). The mirror image of
each training face is a second row. The settings were chosen by cross-validation on the train and
val splits. `python -m tools.training scoring` repeats it.

## Measured

On the test split; in brackets the 95 % bootstrap interval, which is wide for the small groups.
The mean error is predicted less rated.

{table(("group", "faces", "Pearson", "MAE", "RMSE", "mean error"), rows)}

## Limits

- It repeats the taste and the prejudice of its raters, and errs differently between the groups
  above.
- One rating hides how far raters disagree. Light, lens, expression and make-up move it.
- It knows a face only through its embedding, which was made for telling people apart.
- A rating of a child means nothing and must not be asked for.

## Intended use

Research on rating models and their bias, and demonstrations with consenting adults who are told
what the number is. It must not be used to rank, select, admit, hire, match, price, moderate or
advertise to people, to rate anyone without consent, or to rate children.

## How to switch it off

{OFF}: scores are absent from every answer, and everything else works.

{LICENCE}
"""


def detection_card(metrics: Metrics) -> str:
    """The card of `face_detection` lite, from what `detection_evaluate.evaluate` measured."""
    spent, alarms = metrics["time_640"], metrics["false_alarms"]
    training, other = metrics["training"], metrics["peer"]
    shifts = ", ".join(f"{shift:+.1f}" for shift in metrics["score_shifts"])
    facts = [
        ("input", "RGB, any size in multiples of 32; (x - 127.5) / 128"),
        ("output", "boxes, five landmarks, scores, for strides 8, 16, 32, two anchors per cell"),
        ("parameters", f"{metrics['parameters']:,}, kept in 16 bits"),
        (
            "time at 640 x 640, one thread, median",
            f"{spent['student']['median_ms']:.1f} ms"
            f" ({other} {spent['peer']['median_ms']:.1f} ms in the same run)",
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
    mosaics = (
        f",\nand ({training['mosaic']:.0%}) mosaics of parts of real scenes and photos"
        if training.get("mosaic")
        else ""
    )
    return f"""# face_detection lite

A small face detector, so that a clone answers with nothing fetched. Larger packs replace it.

{_facts(metrics, facts)}

## Data

Face photos of FairFace (validation split), UTKFace and MEBeauty, labelled by {metrics["teacher"]}
on the photo padded by half its size, and 500 scenes of ImageNet, whose people the same network
labelled. Held out: a twentieth of FairFace and UTKFace, MEBeauty's test split, a third of the
scenes.

## Method

A one-stage network in SCRFD's manner, trained on CPUs on composed scenes: up to thirty faces from
16 pixels, turned by up to 30 degrees, crowded, cut off or filling the frame, pasted in several
ways on scenes without faces; photos as a whole; scenes with people; scenes without{mosaics}.
The teacher is asked about each scene, and the student learns its answer row by row: box and
landmarks of every cell, and the score as a share of the face's best one. Labels pasted along with a
photo stand where the teacher sees no face, but for faces that fill half the picture: the pipeline's
close-up sees those better.
{training["steps"]:,} steps of {_pictures(training)}, seed {training["seed"]}; the shipped
weights are a running average. A face's landmarks are averaged over the rows that
answer about it, by their scores. `python -m tools.training detection` trains one.
{training.get("note", "")}

![learning curve](face_detection.png)

## Measured

Against the teacher, {metrics["teacher"]}, all with both passes of the pipeline (640, and padded
by half at 320) and a threshold of 0.5. A face counts from 24 pixels in the 640 frame and is found
at an overlap (IoU) of 0.5. The landmark error is in distances between the eyes, which are short in
profiles: the mean and, in brackets, the median. No network agrees with another wholly, so
{other}, which learnt from photographed scenes, stands beside it, and so does the share of its
faces that this one finds.

{agreement}

{_steady_faces(metrics)}False alarms in {alarms["scenes"]} held-out scenes without faces:
{alarms["alarms"]}
({alarms["alarms_per_100_scenes"]:.1f} in 100 scenes; {other}:
{metrics["false_alarms_peer"]["alarms_per_100_scenes"]:.1f}). Added to the scores' logits:
{shifts} for the strides 8, 16, 32{shifted}.

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


_HELD_OUT: Final = {
    "composed": "composed scenes",
    "people_scenes": "scenes with people",
    "fairface_val_144px": "FairFace photos",
    "utkface_128px": "UTKFace photos",
    "mebeauty_336px": "MEBeauty photos (test split)",
}


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
    mean, median = entry["landmark_error_mean"], entry["landmark_error_median"]
    return f"{100 * mean:.1f} % ({100 * median:.1f})"


CARDS: Mapping[str, Callable[[Metrics], str]] = {
    "face_detection": detection_card,
    "face_embedding": embedding_card,
    "face_scoring": scoring_card,
}
