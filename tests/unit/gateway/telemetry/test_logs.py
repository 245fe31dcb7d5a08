import json
import logging
import sys

from gateway.telemetry.logs import JsonFormatter


def record(message="hello", **extra):
    made = logging.LogRecord("gateway.x", logging.INFO, __file__, 1, message, (), None)
    vars(made).update(extra)
    return made


def test_a_record_is_one_json_line_with_its_extras():
    line = JsonFormatter().format(record("a\nb", status=200, path="/x"))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "info",
        "logger": "gateway.x",
        "message": "a\nb",
        "status": 200,
        "path": "/x",
    }


def test_an_exception_is_a_field():
    made = record()
    try:
        int("broken")
    except ValueError:
        made.exc_info = sys.exc_info()
    entry = json.loads(JsonFormatter().format(made))
    assert "ValueError: invalid literal" in entry["exception"]


def test_values_without_a_json_form_are_written_as_text(tmp_path):
    assert json.loads(JsonFormatter().format(record(path=tmp_path)))["path"] == str(tmp_path)
