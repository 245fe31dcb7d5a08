"""Jobs: many images in one request, processed by the service in the background."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Optional, TypeVar, Union

from aurum_client._async.base import AsyncBase
from aurum_client.errors import AurumError, UnexpectedAnswerError
from aurum_client.limits import NO_LIMIT_SECONDS, Deadline
from aurum_client.request import Request, as_json, new_key, path_of, texts_of
from aurum_client.results.base import read
from aurum_client.results.jobs import Job, JobEvent, JobItem, JobItemPage, JobPage
from aurum_client.retry import Outage
from aurum_client.sse import EventParser, ServerEvent
from aurum_client.uploads import Progress, UploadSource, make_upload
from aurum_client.waiting import async_call, async_sleep

T = TypeVar("T")
_POLL_SECONDS = 30.0
"""Longest wait within one request; proxies cut off longer ones."""
_ANSWER_SECONDS = 15.0
"""Beyond a wait, time for the answer."""
_SILENCE_SECONDS = 45.0
"""Three heartbeats of a stream of events."""
_SHORTEST_POLL_SECONDS = 0.5
_NO_CONTENT = 204


class AsyncJobs:
    """The calls about jobs; `client.jobs`.

    `outage_seconds` of `wait` and `events` is how long the service may be away in between.
    """

    def __init__(self, client: AsyncBase) -> None:
        self._client = client

    async def submit(
        self,
        images: Union[UploadSource, Iterable[UploadSource]],
        *,
        operation: str = "score",
        include: Sequence[str] = (),
        max_faces: Optional[int] = None,
        min_confidence: Optional[float] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
        collection: Optional[str] = None,
        subject: Optional[str] = None,
        subject_from: Optional[str] = None,
        faces: Optional[str] = None,
        quality: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        consent: Optional[Mapping[str, Any]] = None,
        purpose: Optional[str] = None,
        webhook: Optional[str] = None,
        wait: Optional[float] = None,
        idempotency_key: Optional[str] = None,
        upload_seconds: Optional[float] = None,
        progress: Optional[Progress] = None,
    ) -> Job:
        """Upload images and create a job.

        Files are read from the disk while they are sent, never as a whole into memory.

        Args:
            images: a path, bytes, a binary file, an `ImageUrl` or a `NamedImage`, or many of them;
                or a folder. ZIP, tar and tar.gz archives are unpacked by the service.
            operation: `score`, `detect`, `embed` or `enrol`.
            include: further values of each face, as for `score`.
            max_faces: as for `embed`.
            min_confidence: as for `embed`.
            rotation: as for `embed`.
            detail: as for `embed`.
            collection: for `enrol`: its name.
            subject: for `enrol`: the subject of all faces.
            subject_from: for `enrol`: take each subject from the image's `folder` or `name`.
            faces: for `enrol`: `largest` (default), `all` or `single`.
            quality: for `enrol`: lowest quality, instead of the collection's.
            metadata: for `enrol`: flat object of strings, numbers and booleans.
            consent: for `enrol`: what the subjects have agreed to, as for `AurumClient.enrol`.
            purpose: for `enrol`: why the subjects are enrolled.
            webhook: URL to call when the job has ended.
            wait: seconds to wait for the end of the job before returning, at most 60.
            idempotency_key: makes a repeated upload return the first job, for a day; generated
                for each call, so that its retries create one job.
            upload_seconds: limit of the whole call, instead of `TimeLimits.total`; default: none.
            progress: called with the bytes sent so far and their total (None if unknown), perhaps
                in another thread.

        Raises:
            OSError: a file cannot be read.
            ValueError: there are no images.

        """
        deadline = Deadline.after(upload_seconds or NO_LIMIT_SECONDS)
        upload = await async_call(partial(make_upload, images, progress), deadline)
        options = {
            "operation": operation,
            "include": ",".join(include) or None,
            "max_faces": max_faces,
            "min_confidence": min_confidence,
            "rotation": rotation,
            "detail": detail,
            "collection": collection,
            "subject": subject,
            "subject_from": subject_from,
            "faces": faces,
            "quality": quality,
            "metadata": metadata,
            "consent": consent,
            "purpose": purpose,
            "webhook": webhook,
            "wait": wait,
        }
        request = Request(
            "POST",
            path_of("ml", "score", "batch"),
            as_json(Job),
            query=texts_of(options),
            idempotency_key=idempotency_key or new_key(),
            upload=upload,
        )
        return await self._patient(wait)._send(request, deadline)

    async def get(self, job_id: str, *, wait: Optional[float] = None) -> Job:
        """Return a job; raises NotFoundError.

        wait: return when the job has ended, after so many seconds at the latest (at most 60).
        """
        path = path_of("ml", "jobs", job_id)
        request = Request("GET", path, as_json(Job), query=texts_of({"wait": wait}))
        return await self._patient(wait)._send(request)

    async def wait(
        self, job_id: str, *, timeout: Optional[float] = None, outage_seconds: float = 60.0
    ) -> Job:
        """Return the job when it has ended; raises TimeLimitError after `timeout` seconds."""
        deadline = Deadline.after(timeout or NO_LIMIT_SECONDS)
        outage = Outage(self._client._retry, outage_seconds)
        while True:
            seconds = min(_POLL_SECONDS, deadline.remaining())
            begun = Deadline.after(_SHORTEST_POLL_SECONDS)
            try:
                job = await self.get(job_id, wait=seconds)
            except AurumError as error:
                await async_sleep(min(outage.pause(error), deadline.remaining()))
                continue
            outage.end()
            if job.is_finished:
                return job
            # a service that stops answers at once
            await async_sleep(begun.left())

    async def page(
        self,
        *,
        state: Union[str, Sequence[str]] = (),
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> JobPage:
        """Return a page of jobs, newest first; state: only jobs in this state or these."""
        states = state if isinstance(state, str) else ",".join(state)
        query = texts_of({"state": states or None, "limit": limit, "cursor": cursor})
        path = path_of("ml", "jobs")
        return await self._client._send(Request("GET", path, as_json(JobPage), query=query))

    async def list(
        self, *, state: Union[str, Sequence[str]] = (), page_size: Optional[int] = None
    ) -> AsyncIterator[Job]:
        """Iterate over the jobs, newest first; state: only jobs in this state or these."""
        cursor = None
        while True:
            page = await self.page(state=state, limit=page_size, cursor=cursor)
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def results_page(
        self,
        job_id: str,
        *,
        status: Optional[str] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> JobItemPage:
        """Return a page of a job's images, in the order of the upload."""
        query = texts_of({"status": status, "limit": limit, "cursor": cursor, "format": "json"})
        path = path_of("ml", "jobs", job_id, "results")
        return await self._client._send(Request("GET", path, as_json(JobItemPage), query=query))

    async def results(
        self, job_id: str, *, status: Optional[str] = None, page_size: Optional[int] = None
    ) -> AsyncIterator[JobItem]:
        """Iterate over a job's images in the order of the upload, also before the job ends.

        status: only `ok`, `error`, `queued` or `cancelled` images.
        """
        cursor = None
        while True:
            page = await self.results_page(job_id, status=status, limit=page_size, cursor=cursor)
            for item in page.results:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def download_results(
        self,
        job_id: str,
        *,
        format: str = "ndjson",
        status: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> AsyncIterator[bytes]:
        """Iterate over the bytes of all results as `ndjson` or `csv`, as the service sends them."""
        query = texts_of({"format": format, "status": status, "limit": limit})
        path = path_of("ml", "jobs", job_id, "results")
        request = Request("GET", path, lambda _: None, query=query)
        response = await self._client._open(request, Deadline.after(NO_LIMIT_SECONDS))
        async for chunk in self._client._chunks(response):
            yield chunk

    async def events(
        self,
        job_id: str,
        *,
        results: bool = False,
        last_event_id: Optional[str] = None,
        timeout: Optional[float] = None,
        outage_seconds: float = 60.0,
    ) -> AsyncIterator[JobEvent]:
        """Iterate over the events of a job until it ends; an interrupted stream is resumed.

        Args:
            job_id: the job.
            results: whether the events of images contain their results.
            last_event_id: continue after this event; None begins with the first image.
            timeout: seconds after which to raise TimeLimitError; checked with each event and
                heartbeat, every 15 seconds at least.
            outage_seconds: how long the service may be away in between.

        """
        client = self._with_read(_SILENCE_SECONDS)
        deadline = Deadline.after(timeout or NO_LIMIT_SECONDS)
        outage = Outage(client._retry, outage_seconds)
        query = {"results": "true"} if results else {}
        position = last_event_id
        while True:
            parser = EventParser()
            try:
                response = await client._open(self._follow(job_id, query, position), deadline)
                try:
                    if response.status_code == _NO_CONTENT:
                        return
                    async for chunk in client._chunks(response):
                        for sent in parser.feed(chunk):
                            outage.end()
                            position = sent.id or position
                            event = _event(sent)
                            if event is None:
                                continue
                            yield event
                            if event.job is not None and event.job.is_finished:
                                return
                        deadline.remaining()
                finally:
                    await response.aclose()
                pause = 0.0
            except AurumError as error:
                deadline.remaining()
                pause = outage.pause(error)
            pause = max(pause, parser.retry_seconds or _SHORTEST_POLL_SECONDS)
            await async_sleep(min(pause, deadline.remaining()))

    async def cancel(self, job_id: str) -> Job:
        """End a job; results so far stay until it expires."""
        path = path_of("ml", "jobs", job_id)
        return await self._client._send(Request("DELETE", path, as_json(Job)))

    async def retry(self, job_id: str) -> Job:
        """Queue the failed images of a job again."""
        return await self._change(job_id, "retry")

    async def pause(self, job_id: str) -> Job:
        """Start no further images of a job."""
        return await self._change(job_id, "pause")

    async def resume(self, job_id: str) -> Job:
        """Continue a paused job."""
        return await self._change(job_id, "resume")

    async def _change(self, job_id: str, verb: str) -> Job:
        path = path_of("ml", "jobs", job_id, verb)
        return await self._client._send(Request("POST", path, as_json(Job)))

    def _follow(
        self, job_id: str, query: Mapping[str, str], position: Optional[str]
    ) -> Request[None]:
        headers = {"Accept": "text/event-stream"}
        if position is not None:
            headers["Last-Event-ID"] = position
        path = path_of("ml", "jobs", job_id, "events")
        return Request("GET", path, lambda _: None, query=query, headers=headers)

    def _patient(self, wait: Optional[float]) -> AsyncBase:
        """Return a client whose limits leave room for a wait of the service."""
        return self._client if not wait else self._with_read(wait + _ANSWER_SECONDS)

    def _with_read(self, seconds: float) -> AsyncBase:
        limits = self._client._limits
        longer = replace(
            limits, read=max(limits.read, seconds), total=max(limits.total, 2 * seconds)
        )
        return self._client.with_options(limits=longer)


def _event(sent: ServerEvent) -> Optional[JobEvent]:
    """Read an event; None for a kind that this version does not know."""
    if sent.name == "item":
        return JobEvent(sent.id, item=_read(JobItem, sent.data))
    if sent.name == "job":
        return JobEvent(sent.id, job=_read(Job, sent.data))
    return None


def _read(kind: Callable[..., T], data: str) -> T:
    try:
        return read(kind, json.loads(data))
    except ValueError as error:
        raise UnexpectedAnswerError(f"the event is not understood: {error}", 200) from error
