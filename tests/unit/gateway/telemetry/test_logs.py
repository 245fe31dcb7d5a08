import json
import logging
import sys

import jwt

from gateway.security.api_keys import ApiKey
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


def test_no_secret_is_in_a_line_however_it_came_there():
    key = ApiKey.generate()
    token = jwt.encode({"sub": "ada"}, "s" * 32, "HS256")
    made = record(
        f"path /{key.text}",
        request_id=token,
        url="redis://user:hunter2@redis:6379/0",
        cut=key.text[:40],
        lines=f"a\n{token}",
        nested={"secret": "whs_" + "x" * 43},
    )
    try:
        int(key.text)
    except ValueError:
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    secret = key.text.split("_")[2]
    for hidden in (secret, secret[:20], token.split(".")[2], "hunter2", "x" * 20):
        assert hidden not in line
    entry = json.loads(line)
    assert entry["message"] == f"path /aur_{key.id}_…"
    assert entry["url"] == "redis://…@redis:6379/0"
