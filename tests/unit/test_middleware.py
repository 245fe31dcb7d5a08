"""The one table from error codes to HTTP."""

import re
from pathlib import Path

from gateway import errors
from gateway.middleware import PROBLEMS

CODES = {
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.AurumError)
}


def test_every_error_has_its_status():
    assert set(PROBLEMS) >= CODES


def test_no_other_module_names_a_status_of_an_error():
    for path in Path(errors.__file__).parent.rglob("*.py"):
        if path.name not in ("middleware.py", "table.py", "examples.py", "health.py", "docs.py"):
            code = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)
            found = re.search(r"status=[45]\d|HTTPStatus|\b(413|415|422|503|504)\b", code)
            assert found is None, f"{path.name}: {found}"
