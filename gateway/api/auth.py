"""Who may call a route: its permission, and what decides whether a caller has it."""

from collections.abc import Mapping
from typing import Final, Protocol

from gateway.security.roles import Permission as Permission
from gateway.settings import Settings
from gateway.types import DEFAULT_TENANT, Caller

UNRESOLVED_CALLER: Final = Caller(tenant="", name="unresolved")
"""The caller of a request that matches no route; nothing belongs to its tenant."""
ANONYMOUS_CALLER: Final = Caller(tenant=DEFAULT_TENANT, name="anonymous")


class Authorizer(Protocol):
    """Decides from the head of a request, before any byte of its body is read."""

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        """Resolve the caller; not asked for public routes.

        Args:
            headers: of the request; names in any case.
            permission: what the route declares.

        Raises:
            UnauthorizedError: there are no valid credentials.
            ForbiddenError: they do not grant the permission.

        """
        ...


class OpenAuthorizer:
    """`Authorizer` that lets everybody do everything, as one caller of the default tenant."""

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        """See `Authorizer.authorize`."""
        return ANONYMOUS_CALLER


def public_permissions(settings: Settings) -> frozenset[Permission]:
    """Return the permissions that nobody is asked for."""
    public = {Permission.PUBLIC}
    if settings.docs_access == "public":
        public.add(Permission.DOCS)
    if settings.metrics_access == "public":
        public.add(Permission.METRICS)
    return frozenset(public)
