"""Fetches images from URLs that callers name."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urljoin

from aiohttp import ClientSession
from yarl import URL

from gateway.errors import (
    AurumError,
    ConfigurationError,
    ImageTooLargeError,
    ImageUrlFailedError,
    ImageUrlRefusedError,
    UnsupportedMediaTypeError,
)
from gateway.images import too_many_bytes
from gateway.outbound.connector import RefusedAddressError, open_session
from gateway.outbound.download import DownloadError, OnBytes, TooLargeError, download
from gateway.outbound.hosts import HostList, entries, read_networks, read_ports
from gateway.outbound.lookup import Lookup, looking_up_for
from gateway.outbound.memory import Held
from gateway.outbound.policy import AddressPolicy, CallersHosts
from gateway.outbound.slots import FairSlots
from gateway.outbound.urls import UrlError, read_url, without_query
from gateway.settings import Settings

MAX_REDIRECTS: Final = 3
_AT_ONCE: Final = 32
_AT_ONCE_OF_A_TENANT: Final = 16
"""Each holds an image in memory; slow servers of one tenant leave room for the others."""
_HEAD_SHARE: Final = 0.5
"""Share of the time after which the head of an answer must be there."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OCTETS: Final = frozenset({"application/octet-stream", "binary/octet-stream"})
_OFF: Final = "this service fetches no images; its operator can set AURUM_IMAGE_URLS"
_NO_ADDRESS: Final = "the host of the URL has no address that this service fetches from"
Observer = Callable[[str], None]
"""Called with the outcome of each fetch: fetched, or the code of its error."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What is fetched."""

    mode: Literal["off", "listed", "public"]
    hosts: HostList
    ports: frozenset[int]
    max_bytes: int
    seconds: float

    @classmethod
    def of(cls, settings: Settings) -> "ImageRules":
        """Read the settings; raises ConfigurationError that names the variable."""
        hosts = entries(settings.image_url_hosts)
        if settings.image_urls == "listed" and not hosts:
            raise ConfigurationError("AURUM_IMAGE_URLS=listed needs AURUM_IMAGE_URL_HOSTS")
        return cls(
            settings.image_urls,
            HostList(hosts, setting="AURUM_IMAGE_URL_HOSTS"),
            read_ports(settings.image_url_ports, setting="AURUM_IMAGE_URL_PORTS"),
            settings.max_image_bytes,
            settings.image_url_timeout_seconds,
        )

    def check_mode(self) -> None:
        """Raise ImageUrlRefusedError if nothing is fetched at all."""
        if self.mode == "off":
            raise ImageUrlRefusedError(_OFF)

    def check(self, text: str) -> URL:
        """Return a URL that may be fetched, as far as it shows; raises ImageUrlRefusedError."""
        self.check_mode()
        try:
            url = read_url(text)
        except UrlError as error:
            raise ImageUrlRefusedError(f"the URL is refused: {error}") from error
        if url.port not in self.ports:
            raise ImageUrlRefusedError("the port of the URL is not one that is fetched from")
        host = url.raw_host or ""
        if self.mode == "listed" and host not in self.hosts:
            raise ImageUrlRefusedError("the host of the URL is not one that is fetched from")
        return url


class ImageFetcher:
    """Fetches images; one for the whole process."""

    def __init__(
        self, rules: ImageRules, session: ClientSession, *, observer: Observer = lambda _: None
    ) -> None:
        self._rules = rules
        self._session = session
        self._slots = FairSlots(total=_AT_ONCE, each=_AT_ONCE_OF_A_TENANT)
        self._observer = observer

    def check_mode(self) -> None:
        """Raise ImageUrlRefusedError if nothing is fetched at all."""
        self._rules.check_mode()

    async def fetch(
        self, url: str, *, tenant: str, seconds: float, memory: Held | None = None
    ) -> bytes:
        """Return the bytes under a URL, in `seconds` at most; nothing of them was decoded.

        memory: holds the bytes from their arrival until the caller releases them; those of a
        failed attempt are released here. None: they are not counted.

        Raises:
            ImageUrlRefusedError: the URL, or one that it leads to, is not fetched.
            ImageUrlFailedError: no answer in time, or none with an image.
            ImageTooLargeError: more bytes than an image may have.
            UnsupportedMediaTypeError: the answer says that it is no image.
            InferenceUnavailableError: too many bytes are being received.

        """
        started = time.monotonic()
        outcome = "cancelled"
        try:
            seconds = min(seconds, self._rules.seconds)
            on_bytes = _uncounted if memory is None else memory.add
            image = await self._in_time(url, tenant, seconds, on_bytes)
            outcome = "fetched"
        except AurumError as error:
            outcome = error.code
            raise
        finally:
            if outcome != "fetched" and memory is not None:
                memory.release()
            self._note(url, tenant, outcome, time.monotonic() - started)
        return image

    async def _in_time(self, text: str, tenant: str, seconds: float, on_bytes: OnBytes) -> bytes:
        url = self._rules.check(text)
        try:
            async with asyncio.timeout(seconds), self._slots.take(tenant):
                with looking_up_for(tenant):
                    return await self._follow(url, seconds * _HEAD_SHARE, on_bytes)
        except TimeoutError as error:
            message = f"the image of the URL did not arrive within {seconds:.3g} s"
            raise ImageUrlFailedError(message) from error
        except RefusedAddressError as error:
            # the same for names without an address: what exists behind us is nobody's business
            raise ImageUrlRefusedError(_NO_ADDRESS) from error
        except TooLargeError as error:
            raise ImageTooLargeError(too_many_bytes(self._rules.max_bytes)) from error
        except DownloadError as error:
            raise ImageUrlFailedError(
                "the server of the URL does not answer as it should"
            ) from error

    async def _follow(self, url: URL, head_seconds: float, on_bytes: OnBytes) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            answer = await download(
                self._session,
                url,
                max_bytes=self._rules.max_bytes,
                head_seconds=head_seconds,
                accept="image/*, application/octet-stream",
                on_bytes=on_bytes,
            )
            if answer.status == 200:
                if not _may_be_image(answer.media_type):
                    raise UnsupportedMediaTypeError("the URL does not lead to an image")
                return answer.body
            if answer.status not in _REDIRECTS or answer.location is None:
                raise ImageUrlFailedError(f"the server of the URL answers {answer.status}")
            url = self._next(url, answer.location)
        raise ImageUrlFailedError(f"the URL leads on more than {MAX_REDIRECTS} times")

    def _next(self, url: URL, location: str) -> URL:
        try:
            following = self._rules.check(urljoin(str(url), location))
        except (ImageUrlRefusedError, ValueError) as error:
            message = "the URL leads on to one that is not fetched"
            raise ImageUrlRefusedError(message) from error
        if url.scheme == "https" and following.scheme != "https":
            raise ImageUrlRefusedError("the URL leads on from https to http")
        return following

    def _note(self, url: str, tenant: str, outcome: str, seconds: float) -> None:
        self._observer(outcome)
        try:
            shown = without_query(read_url(url))
        except UrlError:
            shown = "not a URL"
        log.info(
            "image URL",
            extra={
                "url": shown,
                "tenant": tenant,
                "outcome": outcome,
                "ms": round(seconds * 1000, 1),
            },
        )


@asynccontextmanager
async def open_image_fetcher(
    settings: Settings,
    *,
    observer: Observer = lambda _: None,
    policy: AddressPolicy | None = None,
    lookup: Lookup | None = None,
) -> AsyncIterator[ImageFetcher]:
    """Open the fetcher until the end of the block; raises ConfigurationError.

    policy, lookup: instead of what the settings and the system say; for tests, whose servers are on
    this machine.
    """
    rules = ImageRules.of(settings)
    networks = read_networks(settings.image_url_networks, setting="AURUM_IMAGE_URL_NETWORKS")
    async with open_session(
        policy or CallersHosts(networks), at_once=_AT_ONCE, lookup=lookup
    ) as session:
        yield ImageFetcher(rules, session, observer=observer)


def _uncounted(_: int) -> None:
    """Count nothing."""


def _may_be_image(media_type: str) -> bool:
    return media_type.startswith("image/") or media_type in _OCTETS
