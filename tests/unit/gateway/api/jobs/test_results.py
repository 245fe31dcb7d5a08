import pytest

from gateway.api.jobs.results import accepted_format


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html, */*;q=0.8", "json"),
        ("application/json", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("application/x-ndjson", "ndjson"),
        ("application/ndjson", "ndjson"),
        ("application/jsonl", "ndjson"),
        ("application/json;q=0.5, text/csv", "csv"),
        ("text/csv;q=0.5, application/x-ndjson;q=0.7", "ndjson"),
        ("text/csv;q=0", "json"),
        ("text/csv;q=x", "json"),
        ("text/csv, application/json", "csv"),
    ],
)
def test_the_preferred_format_is_chosen(accept, chosen):
    assert accepted_format(accept) == chosen
