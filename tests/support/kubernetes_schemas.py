"""Manifests against the strict schemas of Kubernetes."""

import functools
from collections.abc import Iterable
from typing import Any, Final
from unittest import mock

import kubernetes_validate
from kubernetes_validate import utils

VERSIONS: Final = ("1.30", "1.37")
"""The oldest one that the chart takes, and the newest one that has schemas here."""
CUSTOM: Final = frozenset(
    {"ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute", "GRPCRoute"}
)
"""Kinds that operators bring."""

_READ: Final = functools.cache(utils.schema_contents)
"""Its own function reads a megabyte of definitions for each object."""


def faults(manifests: Iterable[dict[str, Any]], version: str) -> list[str]:
    """Return what is wrong with objects of the kinds that Kubernetes itself has."""
    found = []
    with mock.patch.object(utils, "schema_contents", _READ):
        for each in manifests:
            if each["kind"] in CUSTOM:
                continue
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = "/".join(str(part) for part in error.path)
                found.append(f"{each['kind']} {each['metadata']['name']}: {where}: {error.message}")
    return found
