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
    "logs": 1.0,
    "metrics": 1.0,
    "sidecars": 1.0,
    "withdrawn": 1.0,
    "images": 2.0,
    "inference.base": 2.0,
    "inference.calls": 2.1,
    "inference.versions": 2.2,
    "inference.triton": 2.3,
    "pipeline": 3.0,
    "schemas": 3.0,
    "answers": 3.1,
    "routes.context": 4.0,
    "examples": 4.0,
    "routes.uploads": 4.1,
    "routes.ml": 4.2,
    "routes.health": 4.2,
    "routes.docs": 4.2,
    "routes.table": 4.3,
    "middleware": 4.4,
    "openapi": 5.0,
    "app": 5.1,
    "__main__": 6.0,
}
BACKEND = {
    "contract": 0.0,
    "geometry": 1.0,
    "preprocess": 2.0,
    "detection": 2.0,
    "alignment": 2.1,
    "quality": 2.1,
    "onnx_session": 2.0,
    "results": 2.0,
    "stages": 3.0,
    "self_test": 3.0,
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


def test_of_the_backend_only_its_contract_is_known_to_the_gateway():
    for name in FILES:
        if name.startswith("gateway."):
            ours = {o for o in imports(FILES[name]) if o.startswith("triton_python_backend")}
            assert ours <= {"triton_python_backend"} | {
                o for o in ours if o.startswith("triton_python_backend.contract")
            }, name


def test_the_backend_knows_neither_gateway_nor_tools():
    for name, path in modules("triton_python_backend").items():
        assert not {o for o in imports(path) if o.split(".")[0] in ("gateway", "tools")}, name


def test_the_gateway_does_not_know_the_tools():
    for name, path in modules("gateway").items():
        assert not {o for o in imports(path) if o.split(".")[0] == "tools"}, name
