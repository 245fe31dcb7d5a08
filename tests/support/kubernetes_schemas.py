"""Manifests against the strict schemas of Kubernetes."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final
from unittest import mock

VERSIONS: Final = ("1.30", "1.37")
"""The oldest one that the chart takes, and the newest one that has schemas here."""
CUSTOM: Final = frozenset(
    {"ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute", "GRPCRoute"}
)
"""Kinds that operators bring."""


def faults(manifests: Iterable[dict[str, Any]], version: str) -> list[str]:
    """Return what is wrong with objects of the kinds that Kubernetes itself has."""
    # a second of a processor, which the workers that only collect these tests need not spend
    import kubernetes_validate

    found = []
    with mock.patch.object(kubernetes_validate.utils, "schema_contents", _read()):
        for each in manifests:
            if each["kind"] in CUSTOM:
                continue
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = "/".join(str(part) for part in error.path)
                found.append(f"{each['kind']} {each['metadata']['name']}: {where}: {error.message}")
    return found


@functools.cache
def _read() -> Callable[..., Any]:
    """Return the package's function, which reads a megabyte each time; this does so once."""
    from kubernetes_validate import utils

    return functools.cache(utils.schema_contents)
