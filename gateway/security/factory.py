"""Opens what decides about callers, as the settings say."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.checkout import LOCAL_KEY
from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError, ConfigurationError
from gateway.records.erasure_register import NOTHING_REGISTERED, ErasureRegister
from gateway.records.store import RecordStore
from gateway.security.authorizer import CredentialAuthorizer
from gateway.security.issuers import VARIABLE as ISSUERS
from gateway.security.issuers import load_issuers
from gateway.security.key_authenticator import KeyAuthenticator, load_local_key
from gateway.security.key_service import KeyService
from gateway.security.peppers import Peppers
from gateway.security.tokens import TokenAuthenticator
from gateway.settings import Settings

log = logging.getLogger(__name__)
_WRITE_SECONDS: Final = 60.0
"""Interval at which it is written when keys were last used."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the routes need to know callers and to manage their keys."""

    authorizer: CredentialAuthorizer | None
    """None: everybody may do everything."""
    keys: KeyService
    forget_key: Callable[[str], None]
    """To be called with the id of a key that was changed."""


def pepper_file(settings: Settings) -> Path:
    """Return the file of the peppers."""
    return settings.api_key_pepper_file or settings.home / "keys" / "api-keys.pepper"


def key_service(
    settings: Settings, records: RecordStore, register: ErasureRegister = NOTHING_REGISTERED
) -> KeyService:
    """Make the service that manages keys; register: of revocations. Raises ConfigurationError."""
    return KeyService(records.keys, records.audit, Peppers.load(pepper_file(settings)), register)


@asynccontextmanager
async def open_access(
    settings: Settings,
    records: RecordStore,
    background: BackgroundTasks,
    register: ErasureRegister = NOTHING_REGISTERED,
) -> AsyncIterator[Access]:
    """Open the authorizer, if there is one, and write in the background when keys are used.

    register: see `key_service`. Raises ConfigurationError for a file that cannot be used.
    """
    service = key_service(settings, records, register)
    if settings.authentication != "on":
        if settings.token_issuers_file is not None:
            message = f"{ISSUERS}: nobody is asked for a token; set AURUM_AUTHENTICATION=on"
            raise ConfigurationError(message)
        yield Access(None, service, lambda _: None)
        return
    authenticator = KeyAuthenticator(
        records.keys,
        Peppers.load(pepper_file(settings)),
        local=load_local_key(settings.home / LOCAL_KEY),
    )
    tokens = TokenAuthenticator(load_issuers(settings.token_issuers_file), background)

    async def write_used() -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await _write_used(authenticator)

    try:
        async with background.running("key-usage", write_used):
            yield Access(CredentialAuthorizer(authenticator, tokens), service, authenticator.forget)
    finally:
        await _write_used(authenticator)


async def _write_used(authenticator: KeyAuthenticator) -> None:
    try:
        await authenticator.write_used()
    except AurumError as error:
        log.warning("uses of keys are written later", extra={"reason": error.detail})
