"""JSON Schema and OpenAPI, loaded by the test that checks against them.

Loading `jsonschema` takes seconds of a processor, as it compiles grammars of URLs, and each worker
of a run in parallel collects all tests.
"""

from typing import Any


def validator(schema: Any) -> Any:
    """Return what checks values against a schema of the draft that OpenAPI 3.1 uses."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema)


def check_document(document: Any) -> None:
    """Raise what is wrong with a document of OpenAPI."""
    from openapi_spec_validator import validate

    validate(document)
