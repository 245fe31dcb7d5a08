"""Imports point one way: a module imports only modules of a lower rank."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GATEWAY = {
    "errors": 0.0,
    "settings": 0.1,
    "models": 0.1,
    "deadline": 1.0,
    "json_costs": 1.0,
    "logs": 1.0,
    "metrics": 1.0,
    "sidecars": 1.0,
    "withdrawn": 1.0,
    "calibrations": 1.0,
    "candidates.plan": 1.0,
    "candidates.compare": 1.0,
    "candidates.judge": 1.0,
    "candidates.report": 1.1,
    "candidates.trials": 2.6,
    "references": 1.0,
    "images": 2.0,
    "inference.base": 2.0,
    "inference.calls": 2.1,
    "inference.versions": 2.2,
    "inference.triton": 2.3,
    "inference.embedder": 2.3,
    "inference.candidate": 2.4,
    "kserve.public": 2.0,
    "kserve.document": 2.0,
    "kserve.tensors": 2.1,
    "kserve.request": 2.2,
    "kserve.upstream": 2.3,
    "kserve.shapes": 3.0,
    "kserve.examples": 4.0,
    "kserve.routes": 4.2,
    "kserve.table": 4.5,
    "cache.breaker": 1.0,
    "cache.flights": 1.0,
    "cache.base": 2.0,
    "cache.keys": 2.0,
    "cache.codec": 2.0,
    "cache.memory": 2.1,
    "cache.redis": 2.1,
    "cache.belief": 2.1,
    "cache.answers": 2.2,
    "cache.opening": 2.3,
    "records.models": 0.1,
    "records.tables": 2.0,
    "records.migrations.env": 2.1,
    "records.migrations.versions.r0001_first": 2.0,
    "records.migrations.versions.r0002_answered_faces": 2.0,
    "records.migrations.versions.r0003_images_once": 2.0,
    "records.migrations.versions.r0004_subjects": 2.0,
    "records.database": 2.1,
    "records.crypt": 2.1,
    "records.collections": 2.2,
    "records.subjects": 2.15,
    "records.faces": 2.2,
    "records.clusters": 2.2,
    "records.store": 2.3,
    "vectors.base": 2.0,
    "vectors.payload": 2.1,
    "vectors.edge_shard": 2.2,
    "vectors.edge_frames": 2.2,
    "vectors.edge_files": 2.2,
    "vectors.edge_build": 2.3,
    "vectors.edge_parts": 2.3,
    "vectors.edge_folder": 2.4,
    "vectors.edge_gallery": 2.5,
    "vectors.edge_process": 2.6,
    "vectors.edge": 2.6,
    "vectors.server": 2.2,
    "vectors.metered": 2.2,
    "watch.turns": 2.0,
    "watch.parts": 2.0,
    "watch.distributions": 2.0,
    "watch.portrait": 2.1,
    "pipeline": 3.0,
    "collections.clustering": 3.0,
    "collections.quality": 3.0,
    "collections.names": 3.0,
    "collections.base": 3.1,
    "collections.enrolment": 3.2,
    "watch.opening": 3.2,
    "collections.search": 3.2,
    "collections.clusters": 3.2,
    "collections.forgetting": 3.3,
    "collections.repair": 3.4,
    "collections.migration": 3.5,
    "collections.service": 3.6,
    "collections.intake": 3.7,
    "collections.opening": 3.7,
    "collection_schemas": 3.2,
    "collection_answers": 3.8,
    "schemas": 3.0,
    "answers": 3.3,
    "routes.context": 4.0,
    "collection_examples": 4.0,
    "examples": 4.05,
    "routes.forms": 4.0,
    "routes.chunks": 4.05,
    "routes.fields": 4.1,
    "routes.receiving": 4.1,
    "routes.ml": 4.2,
    "routes.health": 4.2,
    "routes.docs": 4.2,
    "routes.body": 4.15,
    "routes.cursors": 4.1,
    "routes.route": 4.25,
    "routes.collections": 4.3,
    "routes.remembered": 4.4,
    "routes.subjects": 4.4,
    "routes.collection_table": 4.5,
    "routes.table": 4.6,
    "middleware": 4.7,
    "server": 4.8,
    "openapi": 5.0,
    "app": 5.1,
    "__main__": 6.0,
}
BACKEND = {
    "contract": 0.0,
    "geometry": 1.0,
    "formats.header": 1.0,
    "formats.exif": 1.0,
    "formats.jpeg": 1.1,
    "formats.png": 1.1,
    "formats.webp": 1.1,
    "formats.bmp": 1.1,
    "formats.reader": 1.2,
    "slow_lane": 1.0,
    "decoding": 2.0,
    "preprocess": 2.1,
    "detection": 2.1,
    "alignment": 2.1,
    "quality": 2.1,
    "parameters": 2.0,
    "turning": 2.1,
    "asking": 2.2,
    "tiles": 2.2,
    "directions": 2.2,
    "looking": 2.3,
    "onnx_session": 2.0,
    "results": 2.0,
    "stages": 3.0,
    "self_test": 3.0,
    "onnx_plan": 4.0,
    "adapter": 4.0,
}
RANKS = {f"gateway.{name}": rank for name, rank in GATEWAY.items()} | {
    f"triton_python_backend.{name}": rank for name, rank in BACKEND.items()
}


def modules(package: str) -> dict[str, Path]:
    """All modules of a package by dotted name, but those without an import path of their own."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] not in ("__init__", "model"):
            found[".".join(parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = modules("gateway") | modules("triton_python_backend")


def test_every_module_has_a_rank():
    assert set(FILES) == set(RANKS)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_only_lower_ranks(name):
    upward = {other for other in imports(FILES[name]) & set(RANKS) if RANKS[other] >= RANKS[name]}
    assert not upward


KNOWN_TO_THE_GATEWAY = ("triton_python_backend.contract", "triton_python_backend.formats")
"""Names and shapes, and what reads headers: neither loads OpenCV."""


def test_of_the_backend_the_gateway_knows_contract_and_formats_alone():
    for name in FILES:
        if name.startswith("gateway."):
            ours = {o for o in imports(FILES[name]) if o.startswith("triton_python_backend.")}
            assert not {o for o in ours if not o.startswith(KNOWN_TO_THE_GATEWAY)}, name


def test_reading_headers_loads_no_decoder():
    for name in FILES:
        if name.startswith("triton_python_backend.formats."):
            assert not {o for o in imports(FILES[name]) if o.split(".")[0] in ("cv2", "PIL")}, name


def test_the_backend_knows_neither_gateway_nor_tools():
    for name, path in modules("triton_python_backend").items():
        assert not {o for o in imports(path) if o.split(".")[0] in ("gateway", "tools")}, name


def test_the_gateway_does_not_know_the_tools():
    for name, path in modules("gateway").items():
        assert not {o for o in imports(path) if o.split(".")[0] == "tools"}, name
