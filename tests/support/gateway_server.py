"""The gateway as it runs in production, on a free port of this process."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import ClientSession, FormData, web

from gateway.api.auth import Authorizer
from gateway.api.lifecycle import SERVER_TLS
from gateway.app import FetcherFactory, create_app, make_runner, open_triton_embedder
from gateway.collections.base import ClosableEmbedder
from gateway.error_policy import POLICIES
from gateway.inference.base import FallbackEngine, Inference
from gateway.outbound.images import open_image_fetcher
from gateway.rollout.base import CandidateInference
from gateway.settings import Settings
from gateway.worker.counted import JobInference
from gateway.worker.factory import open_job_inference
from tests.support.fake_candidate import NothingTried
from tests.support.records import add_migrated_sqlite

LIMIT = 100_000
"""Bytes of an image that `client` takes."""
PROBLEM_KEYS = {"type", "title", "status", "detail", "code", "request_id"}


@asynccontextmanager
async def serving(
    inference: Inference,
    embedder: ClosableEmbedder | None = None,
    tried: CandidateInference | None = None,
    *,
    authorizer: Authorizer | None = None,
    fallback: FallbackEngine | None = None,
    job_engine: JobInference | None = None,
    open_fetcher: FetcherFactory = open_image_fetcher,
    **settings: Any,
) -> AsyncIterator[ClientSession]:
    """Serve with this engine; yields a client session whose base is the server.

    Without a `home` of its own it gets one that is removed at the end.
    """
    if "home" not in settings:
        with TemporaryDirectory(prefix="aurum-home-") as home:
            settings["home"] = home
            async with serving(
                inference,
                embedder,
                tried,
                authorizer=authorizer,
                fallback=fallback,
                job_engine=job_engine,
                open_fetcher=open_fetcher,
                **settings,
            ) as session:
                yield session
        return

    async def open_inference(_: Settings) -> Inference:
        return inference

    async def open_embedder(chosen: Settings) -> ClosableEmbedder:
        return embedder or await open_triton_embedder(chosen)

    async def open_candidate(_: Settings) -> CandidateInference:
        return tried or NothingTried()

    async def open_job_engine(chosen: Settings) -> JobInference:
        return job_engine or await open_job_inference(chosen)

    # tests of the routes count what reaches the engine; those of the cache switch it on, and those
    # of the portrait send it
    chosen = Settings(**{"cache": "off", "portrait_interval_seconds": 0, **settings})
    file = chosen.home / "records.sqlite3"
    if chosen.database_url is None and chosen.home.is_dir() and not file.exists():
        add_migrated_sqlite(file)
    app = create_app(
        chosen,
        open_inference=open_inference,
        open_embedder=open_embedder,
        open_candidate=open_candidate,
        open_job_engine=open_job_engine,
        open_fetcher=open_fetcher,
        open_fallback=lambda _settings, _metrics: fallback,
        authorizer=authorizer,
    )
    runner = make_runner(app, chosen)
    await runner.setup()
    try:
        tls = app.get(SERVER_TLS)
        context = None if tls is None else tls.listening_context()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        host, port = runner.addresses[0][:2]
        scheme = "http" if tls is None else "https"
        async with ClientSession(f"{scheme}://{host}:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


def form(**fields: bytes | str) -> FormData:
    """Build a multipart form: bytes are files, texts are fields."""
    data = FormData(default_to_multipart=True)
    for name, value in fields.items():
        if isinstance(value, bytes):
            data.add_field(name, value, filename=f"{name}.bin")
        else:
            data.add_field(name, value)
    return data


async def post(
    client: ClientSession, route: str, data: object = None, **more: Any
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Post to `/api/ml/<route>`; returns status, JSON body and headers."""
    async with client.post(f"/api/ml/{route}", data=data, **more) as response:
        return response.status, await response.json(content_type=None), response.headers


async def refused(
    client: ClientSession, route: str, code: str, data: object = None, **more: Any
) -> str:
    """Post what must be refused, as problem details with this code; returns the detail."""
    status, body, headers = await post(client, route, data, **more)
    assert body.get("code") == code, body
    assert status == body["status"] == POLICIES[code].status
    assert set(body) == PROBLEM_KEYS
    assert headers["Content-Type"].startswith("application/problem+json")
    assert headers["X-Request-ID"] == body["request_id"]
    return str(body["detail"])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
