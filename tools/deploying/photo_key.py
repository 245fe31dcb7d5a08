"""A key for the photo of a deployment, which its gateway makes and which ends with the proof."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from gateway.security.roles import Role
from tools.deploying.engine import Engine, Project
from tools.deploying.errors import DeployError
from tools.deploying.release import Release

_NAME: Final = "photo of a deployment"
_DAYS: Final = 0.25
"""Longer than any proof; it is revoked before, unless this process is killed."""


@contextmanager
def key_for_photo(
    engine: Engine,
    project: Project,
    release: Release,
    given: Mapping[str, str],
    *,
    report: Callable[[str], None],
) -> Iterator[Mapping[str, str]]:
    """Yield headers with a key that may have an image analysed.

    given: headers with the operator's key, which are used if there are any. A gateway that asks
    nobody needs none. Neither key nor answer of the engine is logged. report: called if the key
    cannot be revoked, which is no reason to go back: it may do little, and ends by itself.

    Raises:
        DeployError: the gateway could make none.

    """
    if given or not release.key_service:
        yield given
        return
    command = ["aurum", "keys", "create", "--name", _NAME, "--role", Role.INFER, "--json"]
    command += ["--expires-in-days", str(_DAYS)]
    try:
        made = json.loads(engine.run_in(project, release.key_service, command))
        key, key_id = str(made["key"]), str(made["key_id"])
    except (DeployError, ValueError, LookupError, TypeError) as error:
        # without what is not an answer: it might hold the key
        reason = str(error) if isinstance(error, DeployError) else "the answer makes no sense"
        raise DeployError(
            f"{release.key_service} made no key for the photo: {reason}; name one with "
            "--api-key-file"
        ) from None
    try:
        yield {"Authorization": f"Bearer {key}"}
    finally:
        revoke = ["aurum", "keys", "revoke", key_id, "--json"]
        try:
            engine.run_in(project, release.key_service, revoke)
        except DeployError as error:
            report(f"the key {key_id} of the photo is not revoked, and ends in six hours: {error}")
