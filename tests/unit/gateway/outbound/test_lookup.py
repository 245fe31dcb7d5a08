"""Names that get no answer, and who waits for them."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.outbound import lookup as module
from gateway.outbound.connector import CheckedResolver, LookupFailedError
from gateway.outbound.lookup import SystemLookup, looking_up_for


class System:
    """Name servers of which one zone hangs until the end of the test."""

    def __init__(self) -> None:
        self.ends = threading.Event()
        self.hanging = 0

    def look_up(self, host: str) -> list[str]:
        if host.endswith(".hangs.test"):
            self.hanging += 1
            self.ends.wait(20)
        return ["93.184.216.34"]


class Everything:
    def allows(self, host: str, address: object) -> bool:
        return True


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()
    monkeypatch.setattr(module, "_look_up", made.look_up)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.05)
    yield made
    made.ends.set()


async def test_names_that_hang_hold_up_their_own_tenant_only(system: System) -> None:
    names = SystemLookup()
    resolver = CheckedResolver(Everything(), names)

    async def ask(tenant: str, host: str) -> int:
        with looking_up_for(tenant):
            async with asyncio.timeout(0.2):
                return len(await resolver.resolve(host, 80))

    asked = (ask("mallory", f"{number}.hangs.test") for number in range(module._AT_ONCE))
    failures = await asyncio.gather(*asked, return_exceptions=True)
    # some hang, and their callers give up; the rest waits for a place and is refused
    assert {type(each) for each in failures} == {TimeoutError, LookupFailedError}
    assert system.hanging == module._EACH
    # the callers have gone, their threads have not
    with pytest.raises(LookupFailedError):
        await ask("mallory", "answers.test")
    assert await ask("alice", "answers.test") == 1
    system.ends.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await ask("mallory", "answers.test") == 1
                break
            except LookupFailedError:
                continue
    names.close()


async def test_without_a_tenant_each_host_has_its_places(system: System) -> None:
    names = SystemLookup()
    asked = [asyncio.create_task(names.addresses("a.hangs.test")) for _ in range(module._EACH + 1)]
    done, _ = await asyncio.wait(asked, timeout=0.3)
    assert [type(each.exception()) for each in done] == [TimeoutError]
    assert await names.addresses("b.answers.test") == ["93.184.216.34"]
    system.ends.set()
    await asyncio.wait(asked)
    names.close()
