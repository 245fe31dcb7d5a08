"""Collections with faces that tests back up and restore."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr

from gateway.collections.base import FaceCandidate, Stores
from gateway.collections.factory import make_collections, open_stores
from gateway.collections.search import Probe, SearchOptions
from gateway.collections.service import Collections
from gateway.concurrency import BackgroundTasks
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.settings import Settings
from tests.support.collections import CALLER, OLD, FakeEmbedder, in_time
from tools.backup.create import Parts, create
from tools.backup.places import Place, choose
from tools.backup.restore import restore
from tools.backup.secret import BackupSecret

SECRET = BackupSecret("key", bytes(range(32)))
FACES = 400
DIMENSION = 32


def settings_of(home: Path, url: str | None = None, **more: Any) -> Settings:
    database = None if url is None else SecretStr(url)
    return Settings(
        home=home,
        model_repository=home / "models",
        database_url=database,
        seal_metadata="on",
        min_free_disk_megabytes=0,
        **more,
    )


def silent(*_: object) -> None:
    return


def faces(numbers: Sequence[int]) -> list[FaceCandidate]:
    return [
        FaceCandidate(
            index=0,
            vector=vector_of(number),
            space=OLD,
            subject=f"p{number // 2}",
            metadata={"n": number},
            crop=np.full((112, 112, 3), number % 256, dtype=np.uint8),
            box=(0.0, 0.0, 50.0, 50.0),
            quality={"size": 50.0},
            image_sha256=f"{number:064x}",
            detector="00000000000000de",
        )
        for number in numbers
    ]


def vector_of(number: int) -> Any:
    return np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[tuple[Stores, Collections]]:
    """The collections as a gateway has them: with their background tasks."""
    async with open_stores(settings) as stores:
        made = make_collections(settings, stores, FakeEmbedder(), BackgroundTasks())
        async with made.running():
            yield stores, made


async def fill(made: Collections, number: int = FACES) -> CollectionRecord:
    collection = await made.create(CALLER, "people", CollectionSettings(keep="crop"))
    for start in range(0, number, 100):
        await made.enrolment.enrol(
            collection, faces(range(start, min(start + 100, number))), deadline=in_time()
        )
    return await made.stores.collection(CALLER, "people")


async def found(made: Collections, number: int = 40) -> list[list[tuple[str, str, float]]]:
    """What searches answer."""
    collection = await made.stores.collection(CALLER, "people")
    probes = [Probe(vector_of(n) + 0.3 * vector_of(n + 1), OLD, None) for n in range(number)]
    answers = await made.search.find(collection, probes, SearchOptions(5, -1.0), deadline=in_time())
    return [
        [(each.face_id, each.subject, round(each.similarity, 4)) for each in matches]
        for matches in answers
    ]


async def back_up(settings: Settings, place: Place, **parts: bool) -> dict[str, Any]:
    return await create(settings, place, SECRET, Parts(**parts), silent)


async def bring_back(
    settings: Settings, place: Place, name: str | None = None, *, replace: bool = False
) -> dict[str, Any]:
    chosen = await choose(place, name)
    return await restore(settings, place, chosen, SECRET, replace=replace, report=silent)
