"""The socket of the engine: who connects can read, and nothing else."""

import asyncio
import os
import queue
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import msgspec
import numpy as np
import pytest

from gateway.child_process import Reply
from gateway.errors import StorageUnavailableError
from gateway.vectors.base import (
    FacePoint,
    UnknownVectorCollectionError,
    VectorCollection,
    VectorInfo,
)
from gateway.vectors.edge.read_socket import SOCKET, EdgeReader, Waiting, listening

WHERE = VectorCollection("default", "people", "00000000000000a1")
POINT = FacePoint(
    "00000000-0000-4000-8000-00000000000a",
    np.array([0.5, -0.25], dtype=np.float32),
    "anna",
    "default",
    1.5,
    metadata={"n": 0.1},
)
ANSWERS = {
    ("info", WHERE.name): VectorInfo(2, 3, 4, 5),
    ("retrieve", WHERE.name, ("a", "b")): (POINT,),
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Waiting]:
    """Something that answers as the engine does; a path longer than an address may be."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    waiting: Waiting = queue.SimpleQueue()

    def serve() -> None:
        while (asked := waiting.get()) is not None:
            value = ANSWERS.get((asked.request.method, *asked.request.arguments))
            error = None if value is not None else UnknownVectorCollectionError("x")
            asked.deliver(Reply(0, value, error))

    thread = Thread(target=serve)
    thread.start()
    try:
        with listening(folder, waiting):
            yield waiting
    finally:
        waiting.put(None)
        thread.join()
    assert not (folder / SOCKET).exists()


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / ("long" * 40)


async def test_it_answers_what_is_read(engine: Waiting, tmp_path: Path) -> None:
    reader = await EdgeReader.connect(folder_of(tmp_path))
    assert reader is not None
    assert await reader.info(WHERE) == VectorInfo(2, 3, 4, 5)
    (point,) = await reader.retrieve(WHERE, ["a", "b"])
    assert point.vector.tolist() == [0.5, -0.25]
    assert (point.face_id, point.subject, dict(point.metadata)) == (
        POINT.face_id,
        "anna",
        {"n": 0.1},
    )
    with pytest.raises(UnknownVectorCollectionError):
        await reader.retrieve(WHERE, ["c"])
    await reader.close()


@pytest.mark.parametrize(
    "question",
    [
        msgspec.msgpack.encode(["drop", WHERE.name]),
        msgspec.msgpack.encode(["retrieve", WHERE.name, "a"]),
        b"cposix\nsystem\n(S'true'\ntR.",
    ],
)
async def test_nothing_else_is_taken(engine: Waiting, tmp_path: Path, question: bytes) -> None:
    folder = folder_of(tmp_path)
    assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            # the address of a socket has 107 bytes at most
            link = Path("/tmp") / f"aurum-{folder.stat().st_ino}"
            link.symlink_to(folder)
            try:
                connection.connect(str(link / SOCKET))
            finally:
                link.unlink()
            connection.sendall(struct.pack(">Q", len(question)) + question)
            return connection.recv(1)

    assert await asyncio.to_thread(ask) == b""


async def test_an_engine_that_ends_is_said(tmp_path: Path) -> None:
    assert await EdgeReader.connect(tmp_path) is None
    waiting: Waiting = queue.SimpleQueue()
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
        os.close(descriptor)
        listener.listen()
        reader = await EdgeReader.connect(tmp_path)
        assert reader is not None
        listener.accept()[0].close()
        with pytest.raises(StorageUnavailableError, match="the vector engine"):
            await reader.info(WHERE)
        await reader.close()
    # a socket that an engine left behind
    assert await EdgeReader.connect(tmp_path) is None
    with listening(tmp_path, waiting):
        assert await EdgeReader.connect(tmp_path) is not None
