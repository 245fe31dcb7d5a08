"""The table of `docs/reliability.md`."""

import json

from benchmarks.failures.jobs import Ended
from benchmarks.failures.judge import Case, Outcome
from benchmarks.failures.report import BEGIN, END, keep, read, table, write


def a_case(**changes) -> Case:
    case = Case(("triton killed", "redis killed"), 7.0, 3.4, acknowledged=9, lost=1)
    case.jobs = Ended(accepted=6, done=6)
    case.outcomes = [
        Outcome("score", {"200": 3, "503 inference_unavailable": 1}, 1.0, 0.5, {"fallback": 3}),
        Outcome("search", {"200": 4}, 0.5, 9.0, {}),
    ]
    for name, value in changes.items():
        setattr(case, name, value)
    return case


def test_a_row_names_what_was_no_success():
    row = table([a_case()]).splitlines()[-1]
    assert row == (
        "| triton killed + redis killed | 503 inference_unavailable: score | 75% | fallback | 3 s "
        "| 8 of 9 | 6 of 6 |"
    )


def test_what_is_never_well_says_so():
    assert "| never |" in table([a_case(well_after_seconds=None)])


def test_a_case_that_is_run_again_replaces_its_result(tmp_path):
    document, results = tmp_path / "reliability.md", tmp_path / "failures.json"
    document.write_text(f"{BEGIN}\n{END}")
    for case in (a_case(), a_case(faults=("redis slow",)), a_case(lost=0)):
        keep(case, results=results, document=document)
    assert [(case.name, case.lost) for case in read(results)] == [
        ("triton killed + redis killed", 0),
        ("redis slow", 1),
    ]
    assert read(results)[0] == a_case(lost=0)


def test_only_the_part_between_the_marks_is_written(tmp_path):
    document, results = tmp_path / "reliability.md", tmp_path / "failures.json"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write([a_case()], results=results, document=document)
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n| fault |")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    (kept,) = json.loads(results.read_text())
    assert kept["faults"] == ["triton killed", "redis killed"]
