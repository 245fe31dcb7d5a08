"""The public keys of an issuer: fetched when they are needed, kept while it is away.

A key that is not in the set is looked for once in a while only, so that tokens with invented key
ids make no traffic to the issuer.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from gateway.concurrency import BackgroundTasks
from gateway.errors import StorageUnavailableError
from gateway.outbound.documents import FetchError

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 600.0
"""Age at which keys are fetched again, while the known ones stay in use."""
STALE_SECONDS: Final = 86_400.0
"""Age from which keys are no longer trusted when the issuer does not answer."""
COOLDOWN_SECONDS: Final = 30.0
"""Shortest time between two fetches."""
_MOST_KEYS: Final = 100
_MIN_RSA_BITS: Final = 2048
_KINDS: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""Algorithm by `kty` and `crv`; a symmetric key (`oct`) is never taken from a URL."""


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key and the one algorithm that it is used with."""

    id: str | None
    algorithm: str
    key: Any = field(repr=False)


class KeySet:
    """The keys at one URL."""

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        background: BackgroundTasks,
        fetch: Callable[[str], Awaitable[bytes]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._background = background
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: tuple[VerifyKey, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._running: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> VerifyKey | None:
        """Return the key of a token's header; None if the issuer has none.

        A token without a key id is checked with the only key of its algorithm.

        Raises:
            StorageUnavailableError: the keys cannot be fetched, and none are known.

        """
        now = self._monotonic()
        if self._fetched_at is None or now > self._fetched_at + STALE_SECONDS:
            await self._refresh()
            if self._fetched_at is None or now > self._fetched_at + STALE_SECONDS:
                message = "the keys of the token's issuer cannot be fetched"
                raise StorageUnavailableError(message, retry_after_seconds=int(COOLDOWN_SECONDS))
        elif now > self._fetched_at + FRESH_SECONDS:
            # nobody waits: the known keys are good
            self._start()
        found = self._known(key_id, algorithm)
        if found is None:
            await self._refresh()
            found = self._known(key_id, algorithm)
        return found

    def _known(self, key_id: str | None, algorithm: str) -> VerifyKey | None:
        of_kind = [key for key in self._keys if key.algorithm == algorithm]
        if key_id is None:
            return of_kind[0] if len(of_kind) == 1 else None
        return next((key for key in of_kind if key.id == key_id), None)

    async def _refresh(self) -> None:
        """Fetch once for all who wait; nothing within the cooldown."""
        task = self._start()
        if task is not None:
            # a caller that hangs up does not end the fetch for the others
            await asyncio.wait({task})

    def _start(self) -> "asyncio.Task[None] | None":
        if self._running is not None and not self._running.done():
            return self._running
        now = self._monotonic()
        if self._tried_at is not None and now < self._tried_at + COOLDOWN_SECONDS:
            return None
        self._tried_at = now
        self._running = self._background.start("key-set", self._update())
        return self._running

    async def _update(self) -> None:
        try:
            self._keys = read_key_set(await self._fetch(self._url), self._algorithms)
        except FetchError as error:
            log.warning("keys not fetched", extra={"url": self._url, "reason": str(error)})
        else:
            self._fetched_at = self._monotonic()


def read_key_set(document: bytes, algorithms: frozenset[str]) -> tuple[VerifyKey, ...]:
    """Read the usable keys of a JSON Web Key Set; raises FetchError if there are none."""
    try:
        entries = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FetchError("it is no JSON Web Key Set") from error
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise FetchError(f"`keys` is no list of at most {_MOST_KEYS}")
    found = [key for entry in entries if (key := _read_key(entry, algorithms)) is not None]
    if not found:
        raise FetchError(f"it has no key for {', '.join(sorted(algorithms))}")
    return tuple(found)


def _read_key(entry: object, algorithms: frozenset[str]) -> VerifyKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    curve = entry.get("crv")
    algorithm = _KINDS.get((str(entry.get("kty")), None if curve is None else str(curve)))
    if algorithm not in algorithms or entry.get("alg", algorithm) != algorithm:
        return None
    key_id = entry.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        return None
    # of a private key that was published by mistake, the public part
    public = {name: value for name, value in entry.items() if name not in _PRIVATE}
    try:
        key = PyJWK(public, algorithm).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return None
    return VerifyKey(key_id, str(algorithm), key)


_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
