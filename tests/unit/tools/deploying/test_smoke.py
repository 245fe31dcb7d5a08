"""The photo of a deployment: what asking again cannot mend is said at once."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.support.certificates import Authority
from tools.deploying.errors import DeployError
from tools.deploying.smoke import prove


def test_a_certificate_that_is_not_accepted_is_not_asked_for_again(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(DeployError, match=r"verify failed.*--url.*AURUM_GATEWAY_CA_FILE"):
                prove(
                    f"https://127.0.0.1:{server.server_port}",
                    {},
                    scores=True,
                    settings=Settings(home=tmp_path),
                    headers={},
                    limit_seconds=3600,
                    report=print,
                )
        finally:
            server.shutdown()
            thread.join()
