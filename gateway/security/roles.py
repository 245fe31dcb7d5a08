"""The one table of roles: what each of them may do."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Literal


class Permission(StrEnum):
    """What a caller must be allowed to do to use a route; each route declares one."""

    PUBLIC = "public"
    """Nothing: health."""
    DOCS = "docs"
    """Read the documentation of the API; public unless AURUM_DOCS_ACCESS says otherwise."""
    METRICS = "metrics"
    """Read the metrics; needs any key unless AURUM_METRICS_ACCESS says otherwise."""
    INFER = "infer"
    """Have images analysed and look at the models."""
    ENROL = "enrol"
    """Add faces and describe their subjects."""
    SEARCH = "search"
    """Search collections and read their records."""
    MANAGE = "manage"
    """Create, change and delete collections, delete what is in them, see stored crops."""
    ADMIN = "admin"
    """Manage the keys of the tenant and read its audit log."""


class Role(StrEnum):
    """What a key or a token is given; it may have several."""

    INFER = "infer"
    ENROL = "enrol"
    SEARCH = "search"
    MANAGE = "manage"
    ADMIN = "admin"


RoleName = Literal["infer", "enrol", "search", "manage", "admin"]
"""Of each role, as JSON has it."""
_EVERYBODY: Final = frozenset({Permission.PUBLIC, Permission.DOCS, Permission.METRICS})

GRANTS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.INFER: _EVERYBODY | {Permission.INFER},
    Role.ENROL: _EVERYBODY | {Permission.ENROL},
    Role.SEARCH: _EVERYBODY | {Permission.SEARCH},
    Role.MANAGE: _EVERYBODY | {Permission.MANAGE},
    # it could give itself a key with any role, so it has them all
    Role.ADMIN: frozenset(Permission),
}
"""Permissions by role; `docs/security.md` is written from it."""


def grants(roles: Iterable[str], permission: Permission) -> bool:
    """Whether one of the roles grants a permission; an unknown role grants nothing."""
    known = set(Role)
    return any(permission in GRANTS[Role(role)] for role in roles if role in known)
