"""Decides who a caller is and whether it may use a route, from the head of its request alone."""

from collections.abc import Mapping

from gateway.errors import ForbiddenError
from gateway.security.credentials import Credentials, read_credentials
from gateway.security.key_authenticator import KeyAuthenticator
from gateway.security.roles import Permission, grants
from gateway.security.tokens import Identity, TokenAuthenticator
from gateway.types import Caller


class CredentialAuthorizer:
    """Asks every caller for an API key or a token."""

    def __init__(self, keys: KeyAuthenticator, tokens: TokenAuthenticator) -> None:
        self._keys = keys
        self._tokens = tokens

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        """See `api.auth.Authorizer.authorize`."""
        identity = await self._identify(read_credentials(headers))
        if not grants(identity.roles, permission):
            has = ", ".join(identity.roles) or "none"
            message = f"this needs the role {permission}; roles of {identity.name}: {has}"
            raise ForbiddenError(message, known=(identity.tenant, identity.name))
        return Caller(
            identity.tenant,
            identity.name,
            identity.collections,
            account=identity.account,
            limits=identity.limits,
        )

    async def _identify(self, credentials: Credentials) -> Identity:
        if credentials.kind == "token":
            return await self._tokens.authenticate(credentials.text)
        record = await self._keys.authenticate(credentials.text)
        collections = record.collections
        return Identity(
            record.tenant,
            f"key:{record.id}",
            record.roles,
            None if collections is None else frozenset(collections),
            account=f"key:{record.id}",
            limits=record.limits,
        )
