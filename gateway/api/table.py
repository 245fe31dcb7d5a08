"""All routes, in the order of the OpenAPI document."""

from typing import Final

from gateway.api.admin.table import ADMIN_ROUTES
from gateway.api.collections.table import COLLECTION_ROUTES
from gateway.api.docs import DOCS_ROUTES
from gateway.api.faces.table import FACE_ROUTES
from gateway.api.health.table import HEALTH_ROUTES
from gateway.api.jobs.table import JOB_ROUTES
from gateway.api.kserve.table import KSERVE_ROUTES
from gateway.api.models.table import MODEL_ROUTES
from gateway.api.people.table import PEOPLE_ROUTES
from gateway.api.route import Route

ROUTES: Final[tuple[Route, ...]] = (
    *FACE_ROUTES,
    *JOB_ROUTES,
    *MODEL_ROUTES,
    *COLLECTION_ROUTES,
    *PEOPLE_ROUTES,
    *KSERVE_ROUTES,
    *ADMIN_ROUTES,
    *HEALTH_ROUTES,
    *DOCS_ROUTES,
)
