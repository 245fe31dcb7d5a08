"""Kill every process in the middle of one large job, and count what became of its images.

    python -m benchmarks.job_survival [--images 2000] [--records postgresql]

One job of so many photos is uploaded to a stack of its own. As it proceeds, the worker, the
gateway, Triton, Redis and the database are killed with SIGKILL, one after the other, and Redis is
flushed. Says how many images were accepted, done, failed (with the reasons), lost and doubled; the
exit status is 1 unless all were done exactly once.
"""

import asyncio
import io
import os
import signal
import tempfile
import time
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import aiohttp
import typer

from benchmarks.failures.jobs import BATCH, Ended, count
from benchmarks.failures.load import PORTRAIT
from benchmarks.failures.programs import family
from benchmarks.failures.stack import Records, Stack, running

_POLL_SECONDS: Final = 0.5
_FIRST_PORT: Final = 21_650
_LOOKS: Final = 200
_STALLED_SECONDS: Final = 300.0
"""A job of which nothing ends for so long is given up."""
_FIRST_MARK: Final = 0.1
_LAST_MARK: Final = 0.8
_UPLOAD_SECONDS: Final = 600.0

Blow = Callable[[Stack], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the job was when something was done to the stack."""

    what: str
    ended: int
    stood_still_seconds: float


def main(
    images: Annotated[int, typer.Option(min=20, help="Photos of the job.")] = 2000,
    records: Annotated[Records, typer.Option(help="Where jobs are recorded.")] = "postgresql",
) -> None:
    """Run the job and say what became of its images."""
    with tempfile.TemporaryDirectory(prefix="aurum-survival-") as folder:
        ended, steps = asyncio.run(_survive(Path(folder), images, records))
    for step in steps:
        still = f"nothing ended for {step.stood_still_seconds:.0f} s"
        print(f"{step.what} after {step.ended} images: {still}")
    print(
        f"accepted {ended.accepted}, done {ended.done}, failed {sum(ended.reasons.values())} "
        f"{dict(ended.reasons)}, lost {ended.lost}, doubled {ended.doubled}"
    )
    whole = ended.done == ended.accepted == images and not ended.lost and not ended.doubled
    raise typer.Exit(0 if whole else 1)


def blows(records: Records) -> list[tuple[str, Blow]]:
    """Return what is done to the stack, in order."""
    chosen: list[tuple[str, Blow]] = [
        ("worker killed", lambda stack: _kill(stack.worker_pid())),
        ("gateway killed", lambda stack: _kill(stack.gateway_pid())),
        ("Triton killed", lambda stack: _kill(stack.triton_pid())),
        ("Redis killed", lambda stack: _restart(stack, "redis")),
        ("Redis flushed", _flush),
    ]
    if records == "postgresql":
        chosen.append(("PostgreSQL killed", lambda stack: _restart(stack, "records")))
        chosen.append(("object store killed", lambda stack: _restart(stack, "objects")))
    return chosen


async def _survive(folder: Path, images: int, records: Records) -> tuple[Ended, list[Progress]]:
    timeout = {"AURUM_REQUEST_TIMEOUT_SECONDS": "10"}
    async with running(folder, records=records, first_port=_FIRST_PORT, **timeout) as stack:
        patience = aiohttp.ClientTimeout(total=_UPLOAD_SECONDS)
        async with aiohttp.ClientSession(stack.url, timeout=patience) as client:
            job = await _create(client, images)
            steps = await _beat(client, stack, job, blows(records), images)
            shown = await _until(client, job, lambda found: found["state"] == "done")
            ended = Ended(accepted=job["total"])
            await count(client, shown, ended)
        return ended, steps


async def _create(client: aiohttp.ClientSession, images: int) -> dict[str, Any]:
    photo = PORTRAIT.read_bytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(images):
            # whatever follows the end of a JPEG makes it another image, which no cache knows
            archive.writestr(f"{number:06d}.jpg", photo + f"{number}-{time.time_ns()}".encode())
    headers = {"Content-Type": "application/zip"}
    async with client.post(BATCH, data=file.getvalue(), headers=headers) as response:
        response.raise_for_status()
        job: dict[str, Any] = await response.json()
    return job


async def _beat(
    client: aiohttp.ClientSession,
    stack: Stack,
    job: dict[str, Any],
    chosen: list[tuple[str, Blow]],
    images: int,
) -> list[Progress]:
    """Do one thing after the other to the stack, spread over the job."""
    steps = []
    for number, (what, blow) in enumerate(chosen):
        share = _FIRST_MARK + (_LAST_MARK - _FIRST_MARK) * number / max(1, len(chosen) - 1)
        found = await _until(client, job, partial(_has_ended, at_least=share * images))
        print(f"{what} after {_count(found)} images", flush=True)
        began = time.monotonic()
        await blow(stack)
        before = _count(found)
        await _until(client, job, partial(_has_ended, at_least=before + 1))
        steps.append(Progress(what, before, time.monotonic() - began))
    return steps


async def _until(
    client: aiohttp.ClientSession,
    job: dict[str, Any],
    condition: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """Look at the job, however often that fails, until it is as wanted.

    Raises TimeoutError where nothing of it ends any more.
    """
    last, since = -1, time.monotonic()
    while time.monotonic() - since < _STALLED_SECONDS:
        found = await _look(client, job["job_id"])
        if found is not None:
            if condition(found):
                return found
            if _count(found) != last:
                last, since = _count(found), time.monotonic()
        await asyncio.sleep(_POLL_SECONDS)
    message = f"the job stands still after {last} images"
    raise TimeoutError(message)


async def _look(client: aiohttp.ClientSession, job_id: str) -> dict[str, Any] | None:
    try:
        async with client.get(f"/api/ml/jobs/{job_id}") as response:
            if response.status != 200:
                return None
            shown: dict[str, Any] = await response.json()
            return shown
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


def _count(job: dict[str, Any]) -> int:
    return int(job["done"]) + int(job["failed"])


def _has_ended(job: dict[str, Any], *, at_least: float) -> bool:
    """Whether so many images ended, or the whole job."""
    return _count(job) >= at_least or job["state"] == "done"


async def _kill(pid: int | None) -> None:
    if pid is None:
        raise RuntimeError("the process to kill does not run")
    os.kill(pid, signal.SIGKILL)
    for _ in range(_LOOKS):
        if not family(pid):
            return
        await asyncio.sleep(_POLL_SECONDS / 10)


async def _restart(stack: Stack, program: str) -> None:
    await stack.programs[program].kill()
    await asyncio.sleep(_POLL_SECONDS)
    await stack.programs[program].start()


async def _flush(stack: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.proxies["redis"].port)
    writer.write(b"FLUSHALL\r\n")
    await reader.readline()
    writer.close()


if __name__ == "__main__":
    typer.run(main)
