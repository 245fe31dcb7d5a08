import pytest

from gateway.settings import Settings
from tools.clients.listeners import gateway_listeners, gateway_url, triton_listeners
from tools.serving.gateway_part import GatewayPart
from tools.serving.home import Home
from tools.serving.run_plan import RunPlan
from tools.serving.run_settings import RunSettings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "localhost"])
@pytest.mark.parametrize("authentication", ["on", "proxy", "off"])
def test_triton_stays_on_this_machine(host, authentication):
    listeners = triton_listeners(Settings(host=host, authentication=authentication))
    assert {listener.host for listener in listeners} == {"127.0.0.1"}


def test_grpc_and_metrics_of_triton_go_elsewhere_only_where_a_setting_says_so():
    http, grpc, metrics = triton_listeners(Settings(triton_host="192.0.2.7"))
    assert http.host == "127.0.0.1"
    assert {grpc.host, metrics.host} == {"192.0.2.7"}


def test_the_gateway_finds_a_triton_that_listens_on_one_address(tmp_path, monkeypatch):
    monkeypatch.delenv("AURUM_TRITON_HTTP_URL", raising=False)
    settings = Settings(home=tmp_path, triton_host="192.0.2.7", triton_http_port=8500)
    given = GatewayPart(settings, Home(tmp_path)).environment()
    assert given["AURUM_TRITON_GRPC_URL"] == "192.0.2.7:8001"
    assert given["AURUM_TRITON_HTTP_URL"] == "http://127.0.0.1:8500"


def test_the_gateway_has_one_port_or_two_and_says_whether_it_is_encrypted(tmp_path):
    assert [each.port for each in gateway_listeners(Settings())] == [8080]
    assert gateway_url(Settings()) == "http://127.0.0.1:8080"
    settings = Settings(host="::", grpc_port=9001, tls_certificate_file=tmp_path / "c.pem")
    assert [each.address for each in gateway_listeners(settings)] == ["[::1]:8080", "[::1]:9001"]
    assert gateway_url(settings) == "https://[::1]:8080"
    assert RunSettings.from_json(RunSettings.of(settings).to_json()) == RunSettings.of(settings)
    lines = list(RunPlan(RunSettings.of(settings), "all", None, with_redis=False).ready_lines())
    assert lines[-2:] == [
        "KServe v2 over gRPC with TLS: [::1]:9001",
        "Aurum is ready: https://[::1]:8080",
    ]
