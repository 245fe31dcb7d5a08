"""nginx gives up a gateway that is silent because its link was cut.

What it does then is measured by `python -m benchmarks.cluster --only "gateway-2 cut"`.
"""

import re

from aurum_client.limits import TimeLimits

from gateway.settings import CHECKOUT, Settings

NGINX = CHECKOUT / "deploy" / "nginx"
STACK = CHECKOUT / "deploy" / "compose" / "app.yml"


def test_the_kernel_asks_silent_gateways_before_clients_give_up():
    nginx = STACK.read_text().partition("  nginx:\n")[2].partition("\n  gateway:\n")[0]
    limits = {name: int(value) for name, value in re.findall(r'ipv4\.(\w+): "(\d+)"', nginx)}
    silent = (
        limits["tcp_keepalive_time"]
        + limits["tcp_keepalive_intvl"] * limits["tcp_keepalive_probes"]
    )

    assert "proxy_socket_keepalive on;" in (NGINX / "locations.conf").read_text()
    assert "grpc_socket_keepalive on;" in (NGINX / "grpc.conf").read_text()
    # an answer that is merely late is not silence: that is acknowledged
    assert silent < TimeLimits().total - Settings().request_timeout_seconds
