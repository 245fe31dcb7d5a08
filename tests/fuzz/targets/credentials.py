"""API keys, headers that carry them, JSON Web Tokens and the key sets of issuers."""

import asyncio
import base64
import hashlib
import hmac
import json
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.concurrency import BackgroundTasks
from gateway.errors import UnauthorizedError
from gateway.outbound.documents import FetchError
from gateway.security.api_keys import PREFIX, ApiKey
from gateway.security.credentials import read_credentials
from gateway.security.issuers import load_issuers
from gateway.security.key_sets import read_key_set
from gateway.security.tokens import Identity, TokenAuthenticator

_SECRET: Final = b"0123456789abcdef0123456789abcdef"
_ROLES: Final = {"infer", "enrol"}
_ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
T = TypeVar("T")


def keys_and_headers(data: bytes) -> None:
    """Credentials are refused, or a key or a token; a key is read as it was written."""
    text = data.decode("utf-8", "surrogateescape")
    first, _, second = text.partition("\n")
    headers = {"Authorization": first} | ({"X-API-Key": second} if second else {})
    with suppress(UnauthorizedError):
        found = read_credentials(headers)
        assert found.kind == "key" or found.text.count(".") == 2
    for each in (first, second):
        key = ApiKey.parse(each)
        if key is not None:
            assert each.startswith(f"{PREFIX}{key.id}_")
            assert key.text == each
            assert each[20:] not in repr(key)


def tokens(data: bytes) -> None:
    """No unsigned token gets in; a signed one gets the roles that its issuer may give, at most.

    An even first byte: the rest is a token. An odd one: header and claims, which are signed here.
    """
    if not data:
        return
    if data[0] % 2 == 0:
        try:
            _finish(_authenticator().authenticate(data[1:].decode("utf-8", "surrogateescape")))
        except UnauthorizedError:
            return
        raise AssertionError("a token that nobody signed was accepted")
    header, _, claims = data[1:].partition(b"\n")
    signed = f"{_encode(header)}.{_encode(claims)}"
    mark = hmac.new(_SECRET, signed.encode(), hashlib.sha256).digest()
    with suppress(UnauthorizedError):
        identity: Identity = _finish(_authenticator().authenticate(f"{signed}.{_encode(mark)}"))
        assert set(identity.roles) <= _ROLES
        assert identity.tenant == "default"
        assert identity.name.isprintable()
        assert json.loads(claims)["iss"] == "cron"


def key_sets(data: bytes) -> None:
    """A key set is refused, or holds public keys of the algorithms asked for."""
    with suppress(FetchError):
        for key in read_key_set(data, _ALGORITHMS):
            assert key.algorithm in _ALGORITHMS
            assert not hasattr(key.key, "sign")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    finally:
        work.close()
    raise AssertionError("it waited")


@cache
def _authenticator() -> TokenAuthenticator:
    with tempfile.TemporaryDirectory() as folder:
        secret, file = Path(folder, "secret"), Path(folder, "issuers.toml")
        secret.write_bytes(_SECRET)
        secret.chmod(0o600)
        file.write_text(
            '[[issuer]]\nissuer = "cron"\naudience = "aurum"\nalgorithms = ["HS256"]\n'
            f'secret_file = "{secret}"\ntenant = "default"\nroles = ["infer", "enrol"]\n'
        )

        async def make() -> TokenAuthenticator:
            async with BackgroundTasks() as background:
                return TokenAuthenticator(load_issuers(file), background)

        return asyncio.run(make())
