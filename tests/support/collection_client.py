"""The collection routes as tests call them: real app, real homes, an engine in closed form."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.collections import FakeEmbedder
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, serving


class Embedder(FakeEmbedder):
    """Enough to close."""

    async def close(self) -> None:
        return


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(FakeInference(), Embedder(), home=tmp_path, max_enrol_images=4) as session:
        yield session


async def call(
    client: aiohttp.ClientSession, method: str, path: str, *, status: int, **sent: Any
) -> dict[str, Any]:
    async with client.request(method, path, **sent) as response:
        answer = await response.json(content_type=None)
        assert response.status == status, answer
        return dict(answer)


async def make(client: aiohttp.ClientSession, name: str = "people", **fields: Any) -> str:
    await call(client, "POST", "/api/collections", status=201, json={"name": name, **fields})
    return f"/api/collections/{name}"


async def enrol(
    client: aiohttp.ClientSession, at: str, seed: int, subject: str | None, **more: str
) -> dict[str, Any]:
    fields: dict[str, bytes | str] = {"image": photo(seed=seed), **more}
    if subject is not None:
        fields["subject"] = subject
    return await call(client, "POST", f"{at}/faces", status=201, data=form(**fields))


async def found(client: aiohttp.ClientSession, at: str, seed: int) -> list[str]:
    data = form(image=photo(seed=seed))
    answer = await call(client, "POST", f"{at}/search", status=200, data=data)
    return [match["subject"] for match in answer["faces"][0]["matches"]]
