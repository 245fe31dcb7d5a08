"""Every hostile input gets the answer that is written beside it, and the stack is as it was."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.e2e.hostile import credentials
from tests.e2e.hostile.case import Case
from tests.e2e.hostile.driver import Sent, send_all
from tests.e2e.hostile.mutations import mutated
from tests.e2e.hostile.resources import Resources
from tests.e2e.hostile.table import all_cases
from tests.e2e.hostile.wire import COLLECTION
from tests.support import photos
from tests.support.access import guarded, managing, new_key


@pytest.fixture(scope="module")
def table() -> Sequence[Case]:
    return all_cases()


@pytest.fixture(scope="module")
def attacked(stack):
    """The stack, with the collection that inputs name."""
    made = requests.post(f"{stack.url}/api/collections", json={"name": COLLECTION}, timeout=30)
    assert made.status_code == 201, made.text
    yield stack
    requests.delete(f"{stack.url}/api/collections/{COLLECTION}", timeout=60)


def test_the_table_is_large_and_names_each_input_once(table):
    assert len(table) >= 300
    assert len({(case.kind, case.name) for case in table}) == len(table)


def test_every_input_gets_its_answer(attacked, table):
    before = pids(attacked)
    sent = send(attacked.url, table)
    print_counts(sent)
    assert [found for each in sent if (found := each.complaint())] == []
    assert pids(attacked) == before, "a part of the stack died"
    assert not [line for line in attacked.lines if "Traceback" in line or "unexpected" in line]
    assert "Traceback" not in (attacked.home / "logs" / "gateway.log").read_text()
    answers_a_photo(attacked.url)


def test_changed_inputs_cost_neither_files_nor_threads_nor_memory(attacked, table):
    """Bytes of the same inputs are changed at random; `benchmarks/hostile.py` sends 10,000."""
    chance = random.Random(7)
    some = chance.sample([case for case in table if case.kind != "framing"], 150)
    send(attacked.url, mutated(some, chance))
    before = Resources.of(attacked)
    sent = send(attacked.url, mutated(some, chance))
    assert [each for each in sent if each.answer is None or each.answer.status >= 500] == []
    answers_a_photo(attacked.url)
    assert before.growth(Resources.of(attacked)) == []


async def test_no_invented_credential_gets_in_and_none_costs_a_body(tmp_path: Path):
    (tmp_path / "secret").write_bytes(credentials.SECRET)
    (tmp_path / "secret").chmod(0o600)
    issuers = tmp_path / "issuers.toml"
    issuers.write_text(credentials.ISSUERS.format(secret=tmp_path / "secret"))
    async with managing(tmp_path) as keys:
        valid = await new_key(keys, "infer")
    async with guarded(tmp_path, token_issuers_file=issuers) as client:
        url = urlsplit(str(client._base_url))
        sent = await send_all(str(url.hostname), url.port or 80, credentials.cases(valid))
        print_counts(sent)
        assert [found for each in sent if (found := each.complaint())] == []
        headers = {"Authorization": f"Bearer {valid}"}
        async with client.get("/api/ml/models", headers=headers) as answer:
            assert answer.status != 401
    assert not [each for each in sent if each.answer and valid[20:] in each.answer.body.decode()]


def send(url: str, cases: Iterable[Case]) -> Sequence[Sent]:
    place = urlsplit(url)
    return asyncio.run(send_all(str(place.hostname), place.port or 80, cases))


def print_counts(sent: Sequence[Sent]) -> None:
    """Print how many inputs of each kind were sent to how many routes."""
    requests_of = Counter(each.case.kind for each in sent)
    for kind, count in requests_of.items():
        inputs = {each.case.name for each in sent if each.case.kind == kind}
        print(f"{kind}: {len(inputs)} inputs, {count} requests")
    print(
        f"together {len({(s.case.kind, s.case.name) for s in sent})} inputs, {len(sent)} requests"
    )


def pids(stack) -> list[int]:
    return [stack.part_pid(part) for part in ("gateway", "triton")]


def answers_a_photo(url: str) -> None:
    files = {"image": ("a.png", photos.PORTRAIT.read_bytes())}
    answer = requests.post(f"{url}/api/ml/score", files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["faces"]) == 1
