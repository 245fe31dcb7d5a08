"""`docs/swapping.md` runs as it stands, under load, without one failed or wrong answer."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from gateway.settings import CHECKOUT
from tests.support.command_line import forwarded_command
from tests.support.photos import models_folder
from tests.support.serving import variables
from tests.support.swapping import traffic, write_other_network

GUIDE = CHECKOUT / "docs" / "swapping.md"
ANYTHING = "…"


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block, in order."""
    return re.findall(r"```(sh|text)\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def as_pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split(ANYTHING))


@pytest.fixture
def environment(changed_cached, tmp_path) -> Iterator[dict[str, str]]:
    """Variables of a user's shell: `aurum` on the path, two networks of their own."""
    source = models_folder() / "mobilefacenet_arcface_128.onnx"
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "tools").symlink_to(CHECKOUT / "tools")
    with forwarded_command(programs):
        yield variables(changed_cached.settings) | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "COLUMNS": "400",
            "AURUM_MODEL_REPOSITORY": str(changed_cached.repository),
            "OTHER": str(write_other_network(source, tmp_path / "other.onnx")),
            "WIDE": str(write_other_network(source, tmp_path / "wide.onnx", dimension=512)),
        }


def test_the_guide_runs_as_it_stands(changed_cached, environment, tmp_path):
    functions = ""
    said = ""
    with traffic(changed_cached) as seen:
        for language, text in blocks():
            if language == "text":
                for line in text.splitlines():
                    assert re.search(as_pattern(line), said), f"{line!r} was not said:\n{said}"
                continue
            script = text.replace("localhost:8080", changed_cached.url.removeprefix("http://"))
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", functions + script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{text}\n{said}"
            defined = re.findall(r"^\w+\(\) \{\n.*?^\}\n", script, re.DOTALL | re.MULTILINE)
            functions += "".join(defined)
    assert seen.wrong == []
    assert len(seen.embeddings) == 3
    print(f"{sum(seen.answers.values())} answers, 0 failed or wrong, 3 spaces")
