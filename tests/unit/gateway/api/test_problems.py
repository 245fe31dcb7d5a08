"""Errors as HTTP problems: statuses come from one table."""

import re
from pathlib import Path

from gateway import errors

TABLES = {
    *("error_policy.py", "api/collections/table.py", "api/faces/table.py", "api/health/table.py"),
    *("api/kserve/table.py", "api/models/table.py"),
    *("api/examples.py", "api/collections/examples.py", "api/kserve/examples.py"),
    *("api/health/routes.py", "api/docs.py", "api/lifecycle.py"),
    "grpc/status.py",
    "kserve/grpc_upstream.py",
}
"""The table of errors, the tables of routes, and modules that answer without a problem."""


def test_no_other_module_names_a_status_of_an_error():
    root = Path(errors.__file__).parent
    for path in root.rglob("*.py"):
        if path.relative_to(root).as_posix() not in TABLES:
            code = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
            found = re.search(r"status=[45]\d|HTTPStatus|\b(413|415|422|503|504)\b", code)
            assert found is None, f"{path.name}: {found}"
