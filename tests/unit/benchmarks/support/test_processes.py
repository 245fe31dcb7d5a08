import os

import pytest

from benchmarks.support.processes import cpu_seconds_of, pss_of, rss_of, tree

_TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path):
    """Two processes; the second one's name looks like the end of a name and more fields."""
    for pid, name, pss, ticks in (
        (7, "python3", 100, "50 25 0 0"),
        (8, "a) S 1 (b", 20, "1 2 3 4"),
    ):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "smaps_rollup").write_text(
            f"00400000-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: {pss} kB\n"
            "Pss_Anon: 5 kB\nPss_File: 5 kB\n"
        )
        (folder / "status").write_text(f"Name:\t{name}\nVmHWM:\t 999 kB\nVmRSS:\t {pss * 2} kB\n")
        before = "S 1 7 7 0 -1 4194304 100 0 0 0"
        (folder / "stat").write_text(f"{pid} ({name}) {before} {ticks} 20 0 1 0 99\n")
    return tmp_path


def test_memory_is_summed_over_processes(proc):
    assert pss_of([7, 8], proc) == 120 * 1024
    assert rss_of([7, 8], proc) == 240 * 1024


def test_processor_time_counts_user_system_and_children_waited_for(proc):
    assert cpu_seconds_of([7], proc) == 75 / _TICKS
    assert cpu_seconds_of([7, 8], proc) == 85 / _TICKS


def test_a_process_that_ended_counts_as_nothing(proc):
    assert pss_of([9], proc) == rss_of([9], proc) == cpu_seconds_of([9], proc) == 0


def test_a_process_without_memory_counts_as_nothing(proc):
    (proc / "8" / "smaps_rollup").write_text("")
    (proc / "8" / "status").write_text("Name:\tkthreadd\n")
    assert pss_of([8], proc) == rss_of([8], proc) == 0


def test_this_process_takes_memory_and_time():
    own = tree(os.getpid())
    assert os.getpid() in own
    assert 0 < pss_of(own) <= rss_of(own)
    assert cpu_seconds_of(own) > 0


def test_a_process_that_is_gone_has_no_tree():
    assert tree(2**22 + 1) == []
