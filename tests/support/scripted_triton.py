"""A stand-in for `tritonserver`: starts in a moment, says that every stage is ready, runs none.

For tests of what surrounds the server. `tests/integration/test_serving.py` holds it against the
real one.
"""

import os
import shutil
import sys

from gateway.settings import Settings
from tests.support.serving import shared_installation
from tools.serving.triton_install import Installation
from triton_python_backend.contract import STAGES

_PROGRAM = """\
import json, signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

flags = dict(each.partition("=")[::2] for each in sys.argv[1:])
index = [{"name": stage, "version": "1", "state": "READY"} for stage in STAGES]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path in ("/v2/health/live", "/v2/health/ready") else 404, b"")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = self.path == "/v2/repository/index"
        self.answer(200 if known else 404, json.dumps(index).encode() if known else b"{}")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer((flags["--http-address"], int(flags["--http-port"])), Handler).serve_forever()
"""
STAND_IN = f"#!{sys.executable} -IS\nSTAGES = {[stage.name for stage in STAGES]!r}\n{_PROGRAM}"


def replace_server(settings: Settings, script: str = STAND_IN) -> None:
    """Give the home a server of its own whose binary is this script."""
    shared = shared_installation().root
    own = settings.home / "triton"
    own.unlink()
    shutil.copytree(shared, own / shared.name, copy_function=os.symlink)
    binary = Installation(own / shared.name).binary
    binary.unlink()
    binary.write_text(script)
    binary.chmod(0o755)
