"""What cannot be said or logged keeps no deployment from going back."""

from pathlib import Path

import pytest

from tools.deploying.errors import DeployError
from tools.deploying.output import Output


def test_a_log_on_a_full_disk_is_named_once_and_ends_nothing(tmp_path: Path) -> None:
    # each write is refused as on a full disk
    (tmp_path / "deployment.log").symlink_to("/dev/full")
    said: list[str] = []
    output = Output(said.append)
    with output.logging_to(tmp_path / "deployment.log"):
        output.say("one")
        output.note("two")
        output.log("three")
    assert said == ["one", "the log cannot be written: No space left on device", "      two"]


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error"), SystemExit])
def test_a_terminal_that_is_gone_leaves_the_log(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    def say(_: str) -> None:
        raise error

    with (output := Output(say)).logging_to(tmp_path / "log"):
        output.say("one")
        output.say("two")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["one", "two"]


def test_a_log_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DeployError, match="log cannot be written: "),
        Output(print).logging_to(tmp_path / "file" / "log"),
    ):
        pass
