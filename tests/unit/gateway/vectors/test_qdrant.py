"""What a Qdrant server that does not answer costs; its behaviour: `contract/test_vectors.py`."""

from types import SimpleNamespace

import grpc
import pytest

from gateway.circuit_breaker import CircuitBreaker
from gateway.collections.factory import tuning_of
from gateway.errors import StorageUnavailableError
from gateway.settings import Settings
from gateway.vectors.qdrant import QdrantVectorStore


class Client:
    """Counts calls; answers, or fails with `status`."""

    def __init__(self) -> None:
        self.calls = 0
        self.status: grpc.StatusCode | None = None

    async def get_collections(self):
        self.calls += 1
        if self.status is not None:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(self.status, nothing, nothing, details="connection refused")
        return SimpleNamespace(collections=[])


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.client = Client()
        breaker = CircuitBreaker(failures=2, retry_seconds=2, clock=lambda: self.now)
        self.store = QdrantVectorStore(self.client, tuning_of(Settings()), breaker=breaker)

    async def refused(self) -> str:
        with pytest.raises(StorageUnavailableError) as refusal:
            await self.store.health()
        return refusal.value.detail


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_a_silent_server_is_left_alone_until_a_probe_finds_it_again(status):
    world = World()
    world.client.status = status
    for _ in range(5):
        assert "connection refused" in await world.refused()
    assert world.client.calls == 2
    world.client.status = None
    await world.refused()
    world.now = 2.0
    await world.store.health()
    await world.store.health()
    assert world.client.calls == 4


async def test_a_server_that_answers_with_an_error_is_asked_again():
    world = World()
    world.client.status = grpc.StatusCode.INTERNAL
    for _ in range(5):
        await world.refused()
    assert world.client.calls == 5
