import pytest

from gateway.errors import ConfigurationError
from gateway.security.origins import (
    HostNames,
    is_same_origin,
    parse_hosts,
    parse_origins,
    split_host,
)


def test_origins_are_read_as_browsers_write_them():
    text = " https://App.Example.com , http://localhost:3000,https://example.com:443,"
    assert parse_origins(text) == {
        "https://app.example.com",
        "http://localhost:3000",
        "https://example.com",
    }
    assert parse_origins("") == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "https://*.example.com",
        "example.com",
        "https://example.com/",
        "https://example.com/app",
        "https://user@example.com",
        "https://example.com:port",
        "ftp://example.com",
        "https://",
        "https://a b",
    ],
)
def test_what_is_no_origin_stops_the_start(text):
    with pytest.raises(ConfigurationError, match="AURUM_CORS_ORIGINS"):
        parse_origins(text)


def test_host_names_have_no_ports():
    assert parse_hosts("Faces.example.com, other") == {"faces.example.com", "other"}
    for text in ("faces:80", "http://faces", "*", "a/b", "a@b"):
        with pytest.raises(ConfigurationError, match="AURUM_ALLOWED_HOSTS"):
            parse_hosts(text)


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("localhost:8080", "localhost", "8080"),
        ("Localhost.", "localhost", ""),
        ("[::1]:8080", "::1", "8080"),
        ("127.0.0.1", "127.0.0.1", ""),
        ("a:b", None, ""),
        ("user@localhost", None, ""),
        ("localhost/x", None, ""),
        ("", None, ""),
    ],
)
def test_a_host_is_a_name_and_a_port(text, name, port):
    assert split_host(text) == (name, port)


def test_while_nobody_is_asked_only_own_names_are_answered():
    hosts = HostNames(own="127.0.0.1", more=frozenset({"faces"}), loopback_only=True)
    for name in ("localhost:8080", "127.0.0.1", "127.0.0.9:1", "[::1]:8080", "FACES:80", None):
        assert hosts.allow(name), name
    for name in ("evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "", "a b"):
        assert not hosts.allow(name), name


def test_with_keys_names_are_checked_only_if_they_are_set():
    assert HostNames(own="0.0.0.0", more=frozenset(), loopback_only=False).allow("any.example")
    named = HostNames(own="0.0.0.0", more=frozenset({"faces"}), loopback_only=False)
    assert named.allow("faces:443")
    assert named.allow("localhost")
    assert not named.allow("any.example")
    assert not named.allow("0.0.0.0")


def test_an_origin_is_the_same_if_host_and_port_are():
    assert is_same_origin("http://localhost:8080", "LOCALHOST:8080")
    assert not is_same_origin("http://localhost:3000", "localhost:8080")
    assert not is_same_origin("http://localhost", "localhost:8080")
    assert not is_same_origin("null", "null")
    assert not is_same_origin("http://localhost", None)
