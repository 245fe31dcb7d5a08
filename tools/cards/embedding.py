"""The card of `face_embedding` lite, rendered from what was measured."""

from __future__ import annotations

from tools.cards.parts import LICENCE, Metrics, facts, interval, table


def embedding_card(metrics: Metrics) -> str:
    """The card of `face_embedding` lite, from what `evaluate.measure_embedder` measured."""
    faces, pairs = metrics["faces"], metrics["verification"]
    spent = metrics["milliseconds_per_face"]
    training = metrics.get("training", {})
    told = [
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
        f" {training.get('done', training['steps']):,} steps of {training['batch']} faces,"
        f" seed {training['seed']}."
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

{facts(metrics, told)}

## Data

{faces["train"]:,} aligned faces of FairFace (validation split), UTKFace and MEBeauty (without its
test split). {faces["held_out"]:,} faces of FairFace and UTKFace were held out, and
{faces["left_out"]:,} faces that the teacher finds similar to a held-out or test face were left
out of training. No identity is labelled.

## Method

Distillation from MobileFaceNet trained with ArcFace (128-d): the student, a residual
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
