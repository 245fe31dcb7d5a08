"""When the `onnxruntime` backend is compiled, and the message if it cannot be."""

import os
from pathlib import Path

import pytest

from tools.serving import compiled_backend
from tools.serving.errors import ServingError

COMPILER = """#!/bin/sh
echo "$@" >> {calls}
while [ "$1" != -o ]; do shift; done
echo library > "$2"
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def calls(tmp_path, monkeypatch) -> Path:
    """Make a compiler that records its calls the only one available."""
    path = tmp_path / "calls"
    write_compiler(tmp_path, monkeypatch, COMPILER.format(calls=path))
    return path


def write_compiler(folder: Path, monkeypatch, script: str) -> None:
    program = folder / "bin" / "c++"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), "/bin", "/usr/bin"]))


def test_the_python_backend_is_used_on_request(tmp_path, calls, said):
    assert compiled_backend.provide(tmp_path / "kept", "python", report=said.append) is None
    assert not calls.exists()
    assert said == []


@pytest.mark.parametrize("wanted", ["auto", "compiled"])
def test_the_backend_is_compiled_once(tmp_path, calls, said, wanted):
    first = compiled_backend.provide(tmp_path / "kept", wanted, report=said.append)
    again = compiled_backend.provide(tmp_path / "kept", wanted, report=said.append)
    assert first == again
    assert first.name == "libtriton_onnxruntime.so"
    assert first.read_text() == "library\n"
    assert len(calls.read_text().splitlines()) == 1
    assert len(said) == 1
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_changed_sources_are_compiled_again(tmp_path, calls, said, monkeypatch):
    first = compiled_backend.provide(tmp_path / "kept", "auto", report=said.append)
    changed = tmp_path / "sources"
    changed.mkdir()
    (changed / "backend.cc").write_text("// another")
    monkeypatch.setattr(compiled_backend, "SOURCES", changed)
    assert compiled_backend.provide(tmp_path / "kept", "auto", report=said.append) != first
    assert len(calls.read_text().splitlines()) == 2


def test_another_c_library_causes_a_new_compilation(tmp_path, calls, said, monkeypatch):
    first = compiled_backend.provide(tmp_path / "kept", "auto", report=said.append)
    monkeypatch.setattr(compiled_backend.platform, "libc_ver", lambda: ("glibc", "9.9"))
    assert compiled_backend.provide(tmp_path / "kept", "auto", report=said.append) != first
    assert len(calls.read_text().splitlines()) == 2


def test_without_a_compiler_python_serves_and_the_message_names_the_package(
    tmp_path, said, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compiled_backend.provide(tmp_path / "kept", "auto", report=said.append) is None
    assert "apt-get install g++" in said[0]
    with pytest.raises(ServingError, match=r"apt-get install g\+\+"):
        compiled_backend.provide(tmp_path / "kept", "compiled", report=said.append)


def test_a_failed_compilation_is_reported_and_nothing_is_stored(tmp_path, said, monkeypatch):
    script = "#!/bin/sh\necho 'backend.cc:3: error: no such thing' >&2\nexit 1\n"
    write_compiler(tmp_path, monkeypatch, script)
    assert compiled_backend.provide(tmp_path / "kept", "auto", report=said.append) is None
    assert "no such thing" in said[-1]
    with pytest.raises(ServingError, match="no such thing"):
        compiled_backend.provide(tmp_path / "kept", "compiled", report=said.append)
    assert list((tmp_path / "kept").rglob("*.so")) == []


def test_an_onnxruntime_for_gpus_uses_the_python_backend(tmp_path, calls, said, monkeypatch):
    package = tmp_path / "onnxruntime"
    (package / "capi").mkdir(parents=True)
    for name in ("libonnxruntime.so.9", "libonnxruntime_providers_cuda.so"):
        (package / "capi" / name).touch()
    spec = type("Spec", (), {"origin": str(package / "__init__.py")})
    monkeypatch.setattr(compiled_backend.importlib.util, "find_spec", lambda _: spec)
    assert compiled_backend.provide(tmp_path / "kept", "auto", report=said.append) is None
    assert "for GPUs" in said[0]
    assert not calls.exists()
