from types import SimpleNamespace

import pytest

from gateway.errors import ConfigurationError
from gateway.security.exposure import check_exposure, warning
from gateway.security.hosts import is_loopback

LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"]
OPEN = ["0.0.0.0", "::", "", "192.0.2.7", "2001:db8::1", "aurum.example.com", "127.0.0.1.nip.io"]


def settings(host: str, authentication: str) -> SimpleNamespace:
    return SimpleNamespace(host=host, authentication=authentication)


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_may_be_open_and_is_warned(host):
    assert is_loopback(host)
    check_exposure(settings(host, "off"))
    assert "every program on this machine" in str(warning(settings(host, "off")))


@pytest.mark.parametrize("host", OPEN)
def test_other_addresses_need_authentication(host):
    assert not is_loopback(host)
    with pytest.raises(ConfigurationError, match="AURUM_AUTHENTICATION=on") as caught:
        check_exposure(settings(host, "off"))
    assert "aurum keys create" in str(caught.value)
    for authentication in ("on", "proxy"):
        check_exposure(settings(host, authentication))
    assert warning(settings(host, "on")) is None
    assert "proxy" in str(warning(settings(host, "proxy")))
