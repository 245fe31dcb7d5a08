"""The key for the photo: made by the gateway, revoked after it, and in no message."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.deploying.engine import Project
from tools.deploying.errors import DeployError, EngineError
from tools.deploying.photo_key import key_for_photo
from tools.deploying.release import Release

PROJECT = Project(Path("/p"), ())


class Asked:
    """An engine whose gateway answers, or is asked in vain."""

    def __init__(self, *answers: str | EngineError) -> None:
        self.answers = list(answers)
        self.commands: list[list[str]] = []

    def run_in(self, _: Project, service: str, command: Sequence[str]) -> str:
        assert service == "gateway"
        self.commands.append(list(command))
        answer = self.answers.pop(0)
        if isinstance(answer, EngineError):
            raise answer
        return answer


def release(key_service: str = "gateway") -> Release:
    return Release(1, "", "p", "/p", {}, {}, "", True, "", key_service)


def headers(engine: Any, said: list[str], *, given: dict[str, str], of: Release) -> dict[str, str]:
    with key_for_photo(engine, PROJECT, of, given, report=said.append) as found:
        return dict(found)


MADE = json.dumps({"key_id": "k1", "key": "aur_k1_secret"})


def test_it_is_made_used_and_revoked() -> None:
    engine, said = Asked(MADE, "{}"), []
    assert headers(engine, said, given={}, of=release()) == {
        "Authorization": "Bearer aur_k1_secret"
    }
    create, revoke = engine.commands
    assert create[:3] == ["aurum", "keys", "create"]
    assert create[create.index("--role") + 1] == "infer"
    assert revoke == ["aurum", "keys", "revoke", "k1", "--json"]
    assert said == []


@pytest.mark.parametrize(("given", "service"), [({"Authorization": "x"}, "gateway"), ({}, "")])
def test_none_is_made_where_there_is_one_or_nobody_asks(
    given: dict[str, str], service: str
) -> None:
    assert headers(Asked(), [], given=given, of=release(service)) == given


@pytest.mark.parametrize("answer", [EngineError("no container"), "aur_k1_secret", "[]", "{}"])
def test_a_gateway_that_makes_none_is_an_error_without_what_it_said(
    answer: str | EngineError,
) -> None:
    with pytest.raises(DeployError, match=r"gateway made no key.*--api-key-file") as error:
        headers(Asked(answer), [], given={}, of=release())
    assert "secret" not in str(error.value)


def test_one_that_is_not_revoked_fails_nothing_and_hides_no_reason() -> None:
    refused = EngineError("no container")
    said: list[str] = []
    headers(Asked(MADE, refused), said, given={}, of=release())
    [line] = said
    assert line.startswith("the key k1 of the photo is not revoked")
    assert "secret" not in line
    engine: Any = Asked(MADE, refused)
    with (
        pytest.raises(DeployError, match="no face was found"),
        key_for_photo(engine, PROJECT, release(), {}, report=said.append),
    ):
        raise DeployError("no face was found")
