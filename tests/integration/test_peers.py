"""The rounds of `benchmarks.peers` with small services of our own in place of the real ones."""

import io
import json
import sys

import psutil
import pytest
from rich.console import Console

from benchmarks.peers.measure import Plan, compare
from benchmarks.peers.peer import Peer
from benchmarks.peers.service import Request
from tests.support.serving import wait_until

SERVER = """
import json, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

kind, port = sys.argv[1], int(sys.argv[2])
if kind == "broken":
    raise ValueError("no networks")
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
answered = 0

class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global answered
        answered += 1
        photo = self.rfile.read(int(self.headers["Content-Length"]))
        until = time.process_time() + 0.002
        while time.process_time() < until:
            pass
        status = 500 if kind == "failing" and answered > 10 else 200
        body = json.dumps({"faces": len(photo)}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()
"""


class Small(Peer):
    """A service that answers as many faces as the photo has bytes."""

    name = "small"
    checkout = repository = marker = work = "small"

    def packages(self):
        return []

    def place(self, networks):
        pass

    def command(self, port):
        return [sys.executable, "-c", SERVER, self.name, str(port)]

    def environment(self, port):
        return {}

    def version(self):
        return "1"

    def request(self, photo):
        return Request("/faces", photo, "application/octet-stream")

    def faces(self, answer):
        return int(json.loads(answer)["faces"])


class Broken(Small):
    name = "broken"


class Failing(Small):
    name = "failing"


class Other(Small):
    name = "other"


@pytest.fixture
def services(tmp_path):
    return [kind(tmp_path, tmp_path) for kind in (Small, Broken, Failing, Other)]


def test_rounds_measure_what_answers_and_name_what_does_not(tmp_path, services):
    said = Console(record=True, width=200, file=io.StringIO())
    plan = Plan(rounds=2, seconds=0.1, rest_seconds=0.0)
    outcomes = compare(services, {"a": b"x", "b": b"xyz"}, plan, logs=tmp_path, console=said)
    assert "ValueError: no networks" in outcomes["broken"].not_run
    assert "500" in outcomes["failing"].not_run
    for name in ("small", "other"):
        outcome = outcomes[name]
        assert outcome.not_run is None
        assert outcome.faces == {"a": 1, "b": 3}
        assert {photo: len(rounds) for photo, rounds in outcome.figures.items()} == {"a": 2, "b": 2}
        for figures in outcome.figures["a"]:
            assert figures.photos_per_second > 0
            assert figures.one_caller_p50_ms <= figures.one_caller_p95_ms
            # it computes for 2 ms; the kernel counts in ticks of 10
            assert figures.processor_ms_per_photo > 1
            # the child of the service counts, too
            assert figures.peak_rss_mib >= figures.idle_rss_mib > 2 * 4
            assert figures.idle_pss_mib < figures.idle_rss_mib
    # the order changes from round to round
    lines = [line for line in said.export_text().splitlines() if line.startswith("round")]
    assert [line.split(": ")[1].split(",")[0] for line in lines] == [
        *("other", "small"),
        *("small", "other"),
    ]


def test_nothing_of_a_service_is_left(tmp_path, services):
    small = services[0]
    with (tmp_path / "log").open("wb") as log:
        launched = small.launch(0, log)
    assert wait_until(lambda: b"child" in (tmp_path / "log").read_bytes())
    child = int((tmp_path / "log").read_text().split()[1])
    assert set(small.processes(launched)) == {launched.pid, child}
    small.stop(launched)
    assert launched.returncode is not None
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
