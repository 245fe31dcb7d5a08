"""Bytes that are being fetched count within one bound."""

import pytest

from gateway.errors import ImageUrlFailedError, InferenceUnavailableError
from gateway.outbound.memory import Held
from tests.support.image_urls import RawServer, answering, fetching, page

IMAGE = b"\x89PNG" + bytes(60_000)


class Budget:
    def __init__(self, most: int) -> None:
        self.left = self.most = most

    def hold(self, size: int) -> None:
        if size > self.left:
            raise InferenceUnavailableError("full", retry_after_seconds=1)
        self.left -= size

    def release(self, size: int) -> None:
        self.left += size


async def test_fetched_bytes_are_held_until_they_are_released() -> None:
    budget = Budget(100_000)
    async with (
        RawServer(answering(page(IMAGE), page(IMAGE))).running() as server,
        fetching(server) as fetcher,
    ):
        memory, second = Held(budget), Held(budget)
        url = server.url()
        assert await fetcher.fetch(url, tenant="t", seconds=5, memory=memory) == IMAGE
        assert budget.left == 100_000 - len(IMAGE)
        with pytest.raises(InferenceUnavailableError):
            await fetcher.fetch(url, tenant="t", seconds=5, memory=second)
        # what had arrived of it is dropped
        assert budget.left == 100_000 - len(IMAGE)
        memory.release()
        memory.release()
        assert budget.left == budget.most


async def test_a_fetch_that_breaks_off_holds_nothing() -> None:
    budget = Budget(100_000)
    async with (
        RawServer(answering(page(IMAGE)[:-1000])).running() as server,
        fetching(server) as fetcher,
    ):
        with pytest.raises(ImageUrlFailedError):
            await fetcher.fetch(server.url(), tenant="t", seconds=5, memory=Held(budget))
    assert budget.left == budget.most
