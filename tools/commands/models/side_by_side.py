"""What `aurum models status` shows of a trial: two versions side by side."""

from rich.table import Table

from gateway.api.models.schemas import ComparedOut, SideOut, TrialOut
from gateway.rollout.plan import Plan


def headline(plan: Plan) -> str:
    """Say what is tried, and how."""
    how = "in the shadow"
    if plan.mode == "canary":
        how = f"answers {plan.share * 100:.4g}% of requests, by {plan.by}"
    return f"{plan.stage} {plan.version} is tried since {plan.since}: {how}"


def table_of(trial: TrialOut) -> Table:
    """Make the table of both versions."""
    table = Table()
    for heading in ("", "version", "answered", "errors", "p50 ms", "p95 ms", "faces per image"):
        table.add_column(heading, no_wrap=True)
    table.add_row("in service", *_cells(trial.active))
    table.add_row("tried", *_cells(trial.candidate))
    return table


def differences(trial: TrialOut) -> list[str]:
    """Say how the answers to one image differ, and what stands in the way of the trial."""
    found = trial.compared
    lines = [
        f"compared on {found.images} images ({found.skipped} skipped, {found.failed} failed): "
        f"{found.matched} faces found by both, {found.only_active} only by the version in "
        f"service, {found.only_candidate} only by the one tried",
        _measures(found),
    ]
    if not trial.rates:
        lines.append("no scores come out with it: requests for scores are not given to it")
    if trial.reason:
        lines.append(f"it is not asked any more: {trial.reason}")
    return [line for line in lines if line]


def _cells(side: SideOut) -> list[str]:
    errors = ", ".join(f"{number} {code}" for code, number in sorted(side.errors.items()))
    faces = f"{side.faces / side.answered:.2f}" if side.answered else ""
    times = ["" if time is None else f"{time:.1f}" for time in (side.p50_ms, side.p95_ms)]
    return [side.version or "", str(side.answered), errors or "0", *times, faces]


def _measures(found: ComparedOut) -> str:
    parts = []
    if found.box_iou is not None:
        parts.append(f"boxes overlap by {found.box_iou:.3f}")
    if found.cosine_mean is not None:
        parts.append(f"cosine {found.cosine_mean:.4f} (lowest {found.cosine_min:.4f})")
    if found.score_difference_mean is not None:
        parts.append(
            f"scores differ by {found.score_difference_mean:.3f} "
            f"(most {found.score_difference_max:.3f})"
        )
    if found.scores_lost:
        parts.append(f"{found.scores_lost} scores lost")
    parts += [
        f"{name} {values.mean:.4f} (from {values.least:.4f} to {values.most:.4f})"
        for name, values in found.further.items()
        if values.mean is not None
    ]
    return ", ".join(parts)
