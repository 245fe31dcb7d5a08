"""Cached answers on a real Triton, before and after a version of the embedding stage is swapped."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gateway.inference.triton import TritonInference
from tests.support import photos, redis
from tests.support.gateway_server import serving as gateway
from tests.support.serving import copy_repository, make_settings, serving, what_is_left
from tests.support.tiny_weights import write_tiny_weights
from triton_python_backend import contract

HEADERS = {"Content-Type": "image/png"}


async def ask(client, route, data, **params):
    path = f"/api/ml/{route}"
    async with client.post(path, data=data, headers=HEADERS, params=params) as response:
        body = await response.json()
        assert response.status == 200, body
    return body


def content(body):
    return {key: body[key] for key in body.keys() - {"cached", "request_id", "took_ms"}}


async def cached(client, route, data, **params):
    for _ in range(600):
        body = await ask(client, route, data, **params)
        if body["cached"]:
            return body
        await asyncio.sleep(0.1)
    raise TimeoutError("never cached")


def close_to(cached_value, computed):
    """Compare field by field; two runs of a network in other batches differ in the last bits."""
    if isinstance(computed, dict):
        assert cached_value.keys() == computed.keys()
        for key, value in computed.items():
            close_to(cached_value[key], value)
    elif isinstance(computed, list) and computed and not isinstance(computed[0], str):
        assert len(cached_value) == len(computed)
        for found, value in zip(cached_value, computed, strict=True):
            close_to(found, value)
    elif isinstance(computed, float):
        assert cached_value == pytest.approx(computed, abs=2e-2)
    elif isinstance(computed, str) and computed.startswith("data:"):
        assert cached_value[:22] == computed[:22]
    else:
        assert cached_value == computed


async def test_cached_answers_on_real_weights_say_what_is_computed(triton):
    data = photos.PORTRAIT.read_bytes()
    with redis.server() as (url, _):
        address = triton.grpc_address
        async with (
            gateway(TritonInference(address)) as plain,
            gateway(TritonInference(address), cache="on", redis_url=url) as client,
            gateway(TritonInference(address), cache="on", redis_url=url) as other,
        ):
            for route, include in [
                ("score", "embedding,crop"),
                ("score", ""),
                ("detect", ""),
                ("embed", ""),
                ("embed", "crop"),
            ]:
                params = {"include": include} if include else {}
                computed = await ask(plain, route, data, **params)
                first = await cached(client, route, data, **params)
                close_to(content(first), content(computed))
                # through Redis and from the process it is the same to the last bit
                assert content(await cached(other, route, data, **params)) == content(first)
                assert content(await cached(client, route, data, **params)) == content(first)


def with_another_space(model: Path) -> None:
    """Give the network of an embedding stage another id."""
    network = onnx.load(model)
    for constant in network.graph.initializer:
        if constant.name == f"{contract.SPACE}_zeros":
            constant.CopyFrom(numpy_helper.from_array(np.full((1, 1), 77, np.int64), constant.name))
    onnx.save(network, model)


async def test_through_a_swap_each_answer_is_of_the_weights_that_it_names(tmp_path):
    repository = copy_repository(tmp_path / "model_repository")
    write_tiny_weights(repository)
    settings = make_settings(tmp_path, repository)
    stage = repository / contract.EMBEDDING_STAGE.name
    aside = tmp_path / "2"
    shutil.copytree(stage / "1", aside)
    with_another_space(aside / "model.onnx")
    data = photos.blank()
    with serving(settings, "triton") as served, redis.server() as (url, _):
        await asyncio.to_thread(served.wait_for, "Triton is ready")
        engine = TritonInference(served.grpc_address)
        async with gateway(engine, cache="on", redis_url=url) as client:
            old = (await cached(client, "embed", data))["models"]
            assert (old["embedding"], old["space"]) == ("1", contract.format_id(0))

            aside.rename(stage / "2")
            new = {**old, "embedding": "2", "space": contract.format_id(77)}
            for _ in range(1200):
                now = (await ask(client, "embed", data))["models"]
                assert now in (old, new)
                if now == new:
                    break
                await asyncio.sleep(0.05)
            # from the first answer of the new weights on, none of the old is heard
            for _ in range(20):
                assert (await ask(client, "embed", data))["models"] == new
            assert (await cached(client, "embed", data))["models"] == new

            (stage / "2").rename(tmp_path / "gone")
            for _ in range(1200):
                now = (await ask(client, "embed", data))["models"]
                assert now in (old, new)
                if now == old:
                    break
                await asyncio.sleep(0.05)
            assert (await cached(client, "embed", data))["models"] == old
    assert what_is_left(settings) == []
