import pytest

from gateway.settings import Settings
from tools.listeners import triton_listeners
from tools.serving.gateway_part import GatewayPart
from tools.serving.home import Home


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "localhost"])
def test_http_of_triton_stays_on_this_machine(host):
    http, grpc, metrics = triton_listeners(Settings(host=host))
    assert http.host == "127.0.0.1"
    assert {grpc.host, metrics.host} == {host}


def test_the_gateway_finds_triton_that_listens_on_one_address(tmp_path, monkeypatch):
    monkeypatch.delenv("AURUM_TRITON_HTTP_URL", raising=False)
    settings = Settings(home=tmp_path, host="192.0.2.7", triton_http_port=8500)
    given = GatewayPart(settings, Home(tmp_path)).environment()
    assert given["AURUM_TRITON_GRPC_URL"] == "192.0.2.7:8001"
    assert given["AURUM_TRITON_HTTP_URL"] == "http://127.0.0.1:8500"
