"""The table of `docs/security.md`: every route, and what each kind of caller gets from it.

`tests/integration/test_access_matrix.py` asks every route as every one of them and compares.
"""

from collections.abc import Sequence
from typing import Final

from gateway.api.auth import Permission, public_permissions
from gateway.api.route import Route
from gateway.api.table import ROUTES
from gateway.security.roles import Role, grants
from gateway.settings import Settings

BEGIN: Final = "<!-- The matrix: written by `make docs`; do not edit. -->\n"
END: Final = "<!-- End of the matrix. -->\n"
YES: Final = "yes"
FORBIDDEN: Final = "403"
UNAUTHORIZED: Final = "401"
HIDDEN: Final = "404"
OWN: Final = "own"
_OWNED: Final = ("/api/collections/{name}", "/api/ml/jobs/{job_id}", "/api/admin/keys/{key_id}")
"""Paths that name something of a tenant."""
_OWN: Final = ("/api/collections", "/api/ml/jobs", "/api/subjects/", "/api/admin/")
HEAD: Final = ("route", "needs", *Role, "no valid key", "other tenant")


def cells(route: Route) -> tuple[str, ...]:
    """Return what each role gets, then a caller without a valid key, then another tenant."""
    if route.permission in public_permissions(Settings.model_construct()):
        return (*(YES for _ in Role), YES, YES)
    roles = (YES if grants([role], route.permission) else FORBIDDEN for role in Role)
    return (*roles, UNAUTHORIZED, _of_others(route))


def matrix(routes: Sequence[Route] = ROUTES) -> str:
    """Write the table in Markdown."""
    rows = [HEAD, tuple("---" for _ in HEAD)]
    for route in routes:
        needs = "nothing" if route.permission is Permission.PUBLIC else f"`{route.permission}`"
        rows.append((f"`{route.method} {route.path}`", needs, *cells(route)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def fill_in(page: str) -> str:
    """Return a page with the table of now between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{matrix()}\n{END}{after}"


def _of_others(route: Route) -> str:
    if route.path.startswith(_OWNED):
        return HIDDEN
    return OWN if route.path.startswith(_OWN) else YES
