"""Checks JSON Web Tokens: signature, issuer, audience, times; then reads tenant and roles.

The issuer decides which algorithms are accepted, never the token: a token signed with the public
key as an HMAC secret, or not signed at all, is refused before its signature is looked at.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    MissingRequiredClaimError,
    PyJWTError,
)

from gateway.concurrency import BackgroundTasks
from gateway.errors import UnauthorizedError
from gateway.outbound.documents import fetch
from gateway.security.issuers import Issuer
from gateway.security.key_service import NAME
from gateway.security.key_sets import KeySet
from gateway.security.roles import Role
from gateway.types import NO_RATE_LIMITS, RateLimits

MAX_CHARACTERS: Final = 8192
_MAX_COLLECTIONS: Final = 1000
_REQUIRED: Final = ("iss", "aud", "exp", "sub")
_REFUSED: Final = "the token is not valid"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request is from: of a key or of a token."""

    tenant: str
    name: str
    roles: tuple[str, ...]
    collections: frozenset[str] | None
    account: str
    """What its use is counted under; see `types.Caller`."""
    limits: RateLimits = NO_RATE_LIMITS


class TokenAuthenticator:
    """Accepts the tokens of some issuers."""

    def __init__(self, issuers: Sequence[Issuer], background: BackgroundTasks) -> None:
        """Read the secrets of issuers; raises ConfigurationError."""
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._secrets = {
            issuer.issuer: issuer.secret() for issuer in issuers if issuer.secret_file is not None
        }
        self._key_sets = {
            issuer.issuer: KeySet(issuer.jwks_url, issuer.algorithms, background, fetch)
            for issuer in issuers
            if issuer.jwks_url is not None
        }

    async def authenticate(self, text: str) -> Identity:
        """Return who a valid token is about.

        Raises:
            UnauthorizedError: the token is not valid; the text says why, as far as its holder
                can do something about it.
            StorageUnavailableError: the keys of its issuer cannot be fetched.

        """
        if len(text) > MAX_CHARACTERS:
            raise UnauthorizedError(f"{_REFUSED}: it is longer than {MAX_CHARACTERS} characters")
        header, issuer = self._look(text)
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise UnauthorizedError(f"{_REFUSED}: its issuer does not sign with its algorithm")
        key = await self._key(issuer, header, str(algorithm))
        return _identity(issuer, _verify(text, key, str(algorithm), issuer))

    def _look(self, text: str) -> tuple[Mapping[str, Any], Issuer]:
        """Read header and issuer, which nothing has proven yet."""
        try:
            header = jwt.get_unverified_header(text)
            claims = jwt.decode(text, options={"verify_signature": False})
        except (PyJWTError, ValueError, RecursionError) as error:
            raise UnauthorizedError(f"{_REFUSED}: it is malformed") from error
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise UnauthorizedError(f"{_REFUSED}: its issuer is not known here")
        return header, issuer

    async def _key(self, issuer: Issuer, header: Mapping[str, Any], algorithm: str) -> Any:
        if issuer.issuer in self._secrets:
            return self._secrets[issuer.issuer]
        key_id = header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise UnauthorizedError(f"{_REFUSED}: it is malformed")
        found = await self._key_sets[issuer.issuer].find(key_id, algorithm)
        if found is None:
            raise UnauthorizedError(f"{_REFUSED}: its issuer does not have its key")
        return found.key


def _verify(text: str, key: Any, algorithm: str, issuer: Issuer) -> Mapping[str, Any]:
    try:
        return jwt.decode(
            text,
            key,
            algorithms=[algorithm],
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=issuer.leeway_seconds,
            options={"require": list(_REQUIRED)},
        )
    except ExpiredSignatureError as error:
        raise UnauthorizedError("the token has expired") from error
    except ImmatureSignatureError as error:
        raise UnauthorizedError("the token is not valid yet") from error
    except InvalidAudienceError as error:
        raise UnauthorizedError(f"{_REFUSED}: it is meant for another audience") from error
    except MissingRequiredClaimError as error:
        raise UnauthorizedError(f"{_REFUSED}: it lacks {error.claim}") from error
    except (PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise UnauthorizedError(_REFUSED) from error


def _identity(issuer: Issuer, claims: Mapping[str, Any]) -> Identity:
    allowed = set(issuer.roles)
    given = _texts(claims.get(issuer.roles_claim), "roles")
    roles = tuple(role for role in Role if role in allowed and role in given)
    collections = _collections(issuer, claims)
    if collections is not None and Role.ADMIN in roles:
        # like a key: who can make keys can make one without limits
        raise UnauthorizedError(f"{_REFUSED}: an admin cannot be limited to collections")
    return Identity(
        tenant=_tenant(issuer, claims),
        name=_name(claims["sub"]),
        roles=roles,
        collections=collections,
        account=_account(issuer, claims["sub"]),
    )


def _tenant(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    if issuer.tenant is not None:
        return issuer.tenant
    tenant = claims.get(issuer.tenant_claim)
    if not isinstance(tenant, str) or not NAME.fullmatch(tenant):
        raise UnauthorizedError(f"{_REFUSED}: it names no tenant")
    if issuer.tenants is not None and tenant not in issuer.tenants:
        raise UnauthorizedError(f"{_REFUSED}: its issuer does not vouch for its tenant")
    return tenant


def _collections(issuer: Issuer, claims: Mapping[str, Any]) -> frozenset[str] | None:
    if issuer.collections_claim not in claims:
        return None
    names = _texts(claims[issuer.collections_claim], "collections")
    if len(names) > _MAX_COLLECTIONS:
        raise UnauthorizedError(f"{_REFUSED}: it names too many collections")
    return frozenset(names)


def _texts(value: object, what: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise UnauthorizedError(f"{_REFUSED}: its {what} are neither a text nor a list of texts")


def _account(issuer: Issuer, subject: object) -> str:
    """Digest issuer and whole subject: names are cut off, and may contain anything."""
    text = f"{issuer.issuer}\0{subject}"
    return f"token:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _name(subject: object) -> str:
    """Write a subject as it may stand in a log and in the audit."""
    text = "".join(each if each.isprintable() else "?" for each in str(subject))
    return f"token:{text[:58]}"
