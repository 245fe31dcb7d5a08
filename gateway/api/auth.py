"""Who may call a route: its permission, and what decides whether a caller has it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol

from gateway.types import DEFAULT_TENANT, Caller


class Permission(StrEnum):
    """What a caller must be allowed to do to use a route; each route declares one."""

    PUBLIC = "public"
    """Nothing: health, metrics and documentation."""
    INFER = "infer"
    """Have images analysed and look at the models."""
    ENROL = "enrol"
    """Add faces and describe their subjects."""
    SEARCH = "search"
    """Search collections and read their records."""
    MANAGE = "manage"
    """Create, change and delete collections, delete what is in them, see stored crops."""
    ADMIN = "admin"
    """Operate the service."""


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
