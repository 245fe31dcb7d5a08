"""Links in documents lead somewhere, and the index lists every page."""

import re
import subprocess
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT

LISTED = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=CHECKOUT, capture_output=True, text=True, check=True
).stdout.split()
DOCUMENTS = [CHECKOUT / name for name in LISTED]
LINK = re.compile(r'(?:\]\(|src=")([^)"\s]+)[)"]')


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub generates them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in words}


@pytest.mark.parametrize("document", DOCUMENTS, ids=LISTED)
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert path.is_relative_to(CHECKOUT), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), target


def test_the_index_leads_to_every_document():
    linked = {
        (CHECKOUT / "docs" / target.partition("#")[0]).resolve()
        for target in LINK.findall((CHECKOUT / "docs" / "index.md").read_text())
    }
    documents = {each for each in DOCUMENTS if each.parts[len(CHECKOUT.parts)] == "docs"}
    assert documents - linked - {CHECKOUT / "docs" / "index.md"} == set()


def test_targets_of_make_in_documents_exist():
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    others = ["*.Dockerfile", "*.example", "*.py", "*.sh", "*.toml", "*.yaml", "*.yml"]
    listed = subprocess.run(
        ["git", "grep", "-hE", r"\bmake [a-z]", "--", "*.md", *others],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # within backticks, or a line of commands, which may be a comment
    named = set(
        re.findall(
            r"(?:`|^(?:# +)?)(?:[A-Z]+=\S+ )*make ([a-z-]+)(?=`|$| +#| [A-Z]+=)",
            listed,
            re.MULTILINE,
        )
    )
    assert {"images", "run", "test"} <= named
    assert named - targets == set()
