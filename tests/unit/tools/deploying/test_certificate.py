"""Certificates of nginx are tried before anything is started."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.settings import Settings
from tests.support.certificates import Authority
from tools.deploying.certificate import certificate_problems
from tools.deploying.configuration import Configuration

NAME = "faces.example.com"


def found(
    folder: Path, url: str | None, *, authority: Path | None = None
) -> tuple[list[str], list[str]]:
    """Return problems and notes for the files `edge.pem` and `edge.key` of a folder."""
    files = {name: {"file": str(folder / name)} for name in ("edge.pem", "edge.key")}
    nginx = {
        "secrets": [{"source": name} for name in files],
        "ports": [{"published": "443", "target": 8443}],
    }
    stack = Configuration({"name": "p", "services": {"nginx": nginx}, "secrets": files})
    notes: list[str] = []
    settings = Settings(home=folder, gateway_ca_file=authority)
    problems = list(certificate_problems(url, stack, settings, note=notes.append))
    return problems, notes


def test_a_certificate_that_fits_is_no_problem(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(NAME, name="edge")
    assert found(tmp_path, f"https://{NAME}", authority=authority.file) == ([], [])


def test_what_the_photo_would_refuse_is_said_with_what_to_do(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(NAME, name="edge")
    [problem], _ = found(tmp_path, None, authority=authority.file)
    assert problem.startswith(f"{tmp_path}/edge.pem is not accepted for 127.0.0.1: IP address mis")
    assert "--url" in problem
    # there another server may answer, with a certificate of its own
    [], [note] = found(tmp_path, f"https://{NAME}")
    assert "unable to get local issuer certificate" in note
    assert "AURUM_GATEWAY_CA_FILE" in note
    yesterday = datetime.now(UTC) - timedelta(days=1)
    authority.issue(NAME, name="edge", not_after=yesterday)
    [], [note] = found(tmp_path, f"https://{NAME}", authority=authority.file)
    assert "certificate has expired" in note


def test_a_key_of_another_certificate_is_a_problem(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    other = authority.issue(NAME, name="other")
    authority.issue(NAME, name="edge")
    other.key.replace(tmp_path / "edge.key")
    [problem], _ = found(tmp_path, f"https://{NAME}", authority=authority.file)
    assert "are no certificate with its key: " in problem
    assert "key values mismatch" in problem


def test_nothing_is_asked_of_plain_http_or_of_missing_files(tmp_path: Path) -> None:
    # missing secrets are found by others
    assert found(tmp_path, f"https://{NAME}") == ([], [])
    Authority(tmp_path).issue(NAME, name="edge")
    assert found(tmp_path, "http://127.0.0.1:8080") == ([], [])
