"""The README's examples run as they stand and answer what it shows."""

import json
import re
import subprocess
import sys

import pytest

from gateway.api.table import ROUTES
from gateway.settings import CHECKOUT

README = (CHECKOUT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    found = [text for text in blocks if containing in text]
    assert len(found) == 1, f"{len(found)} {language} blocks contain {containing}"
    return found[0]


def shape(value: object) -> object:
    """What stays the same from run to run: keys and kinds."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape(entry) for entry in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_curl_answers_what_the_readme_shows(stack):
    command = block("sh", "/api/ml/score").replace(
        "localhost:8080", stack.url.removeprefix("http://")
    )
    run = subprocess.run(
        command, shell=True, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60
    )
    answer, shown = json.loads(run.stdout), json.loads(block("json", "request_id"))
    assert shape(answer) == shape(shown)
    assert answer["image"] == shown["image"]
    assert answer["faces"][0]["box"] == pytest.approx(shown["faces"][0]["box"], abs=15)


def test_tritonclient_example_prints_a_face(stack):
    program = block("python", "face_pipeline").replace(
        "localhost:8080", stack.url.removeprefix("http://")
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert re.search(r"\(1, \d+\)", run.stdout), run.stdout


def test_readme_names_every_route():
    named = set(re.findall(r"(/(?:api/[a-z/{}._-]+|v2[a-z/{}]*|metrics))", README))
    served = {route.path for route in ROUTES} - {"/", "/api/docs/{name}"}
    # a model's routes are named by their ends, once for all versions too
    version = "/v2/models/{model}/versions/{version}"
    served -= {path for path in served if path.startswith(version + "/")}
    ends = {path for path in served if path.startswith("/v2/models/{model}/") and path != version}
    assert all(f"…/{path.rpartition('/')[2]}`" in README for path in ends)
    served -= ends
    assert served <= named, served - named


def test_people_are_remembered_and_forgotten_as_the_readme_shows(stack):
    block_ = block("sh", "/api/collections/crew/search")
    commands = block_.replace("localhost:8080", stack.url.removeprefix("http://")).splitlines()
    answers = [
        json.loads(
            subprocess.run(
                command,
                shell=True,
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
        )
        for command in commands
    ]
    made, enrolled, found, forgotten = answers
    assert made["name"] == "crew"
    assert enrolled["faces"][0]["subject"] == "collins"
    assert found["faces"][0]["matches"][0]["subject"] == "collins"
    assert found["faces"][0]["matches"][0]["similarity"] > 0.99
    assert "code" not in forgotten
    again = subprocess.run(
        commands[2],
        shell=True,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(again.stdout)["faces"][0]["matches"] == []
