"""The cards of `face_scoring`, rendered from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tools.cards.parts import LICENCE, Metrics, facts, interval, table

OFF: Final = "`AURUM_SCORING=off`"


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
    told = [
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

{facts(metrics, told)}

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
