import hashlib
import hmac
import re
import time
from typing import Any

import pytest

from gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError, NotFoundError
from gateway.jobs.webhook_policy import (
    RETRY_SECONDS,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    WebhookPolicy,
    origin_of,
    retry_delay,
    sign,
    tenant_secret,
)
from gateway.settings import CHECKOUT, Settings

SECRET = "sixteen characters"
HOSTS = "Hooks.example.com, 127.0.0.1:9000, [::1]:9000,localhost,Bücher.example,xn--caf-dma.test:99"
DAY = 86_400


def policy(hosts: str = HOSTS) -> WebhookPolicy:
    return WebhookPolicy.of(Settings(webhook_hosts=hosts, webhook_secret=SECRET))


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/a?b=c",
        "https://hooks.example.com:8443/",
        "http://127.0.0.1:9000/hook",
        "https://127.0.0.1:9000/hook",
        "http://[::1]:9000/",
        "http://localhost:1/",
        "https://xn--bcher-kva.example/",
        "https://xn--caf-dma.test:99/",
    ],
)
def test_listed_hosts_are_allowed(url):
    assert policy().check(url) == url
    assert policy().allows(url)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("HTTPS://HOOKS.example.com:443/a", "https://hooks.example.com/a"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://BÜCHER.example:8/ä", "https://xn--bcher-kva.example:8/%C3%A4"),
        ("https://café.test:99/", "https://xn--caf-dma.test:99/"),
        ("https://hooks.example.com?a=b", "https://hooks.example.com/?a=b"),
    ],
)
def test_a_url_is_kept_in_one_spelling(given, kept):
    """Deliveries to one receiver are counted together, whatever its callers write."""
    assert policy().check(given) == kept
    assert origin_of(kept) == "/".join(kept.split("/")[:3])


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("https://example.com/", ForbiddenError),
        ("https://hooks.example.com.evil.test/", ForbiddenError),
        ("https://evil.test/#@hooks.example.com", InvalidRequestError),
        ("https://evil.test\\@hooks.example.com/", InvalidRequestError),
        ("https://hooks.example.com@evil.test/", InvalidRequestError),
        ("https://user:word@hooks.example.com/", InvalidRequestError),
        ("http://127.0.0.1:9001/", ForbiddenError),
        ("http://127.1:9000/", ForbiddenError),
        ("http://[::1]/", ForbiddenError),
        # not encrypted, and not this machine
        ("http://hooks.example.com/", InvalidRequestError),
        ("ftp://hooks.example.com/", InvalidRequestError),
        ("file:///etc/passwd", InvalidRequestError),
        ("//hooks.example.com/", InvalidRequestError),
        ("hooks.example.com", InvalidRequestError),
        ("https://", InvalidRequestError),
        ("https://[", InvalidRequestError),
        ("https://hooks.example.com/a b", InvalidRequestError),
        ("https://hooks.example.com/\r\nX: y", InvalidRequestError),
        ("https://hooks.example.com/" + "a" * 2000, InvalidRequestError),
    ],
)
def test_other_urls_are_refused(url, error):
    with pytest.raises(error, match="webhook"):
        policy().check(url)
    assert not policy().allows(url)


def test_without_hosts_there_are_no_webhooks():
    with pytest.raises(ForbiddenError, match="AURUM_WEBHOOK_HOSTS"):
        WebhookPolicy.of(Settings()).check("https://hooks.example.com/")


@pytest.mark.parametrize("hosts", ["https://a.test", "a.test/b", "*", "a b", "u@a.test", "a:x"])
def test_a_setting_that_is_no_host_is_refused(hosts):
    with pytest.raises(ConfigurationError, match="AURUM_WEBHOOK_HOSTS"):
        policy(hosts)


def test_hosts_need_a_secret():
    with pytest.raises(ConfigurationError, match="AURUM_WEBHOOK_SECRET"):
        WebhookPolicy.of(Settings(webhook_hosts="a.test"))


def test_each_tenant_has_a_secret_of_its_own():
    """Known answer: receivers keep these secrets, so they never change by themselves."""
    assert policy().secret_of("acme") == tenant_secret(SECRET, "acme")
    assert tenant_secret(SECRET, "acme") == "whs_kuqN6ZW8FDz-YX4WunsUjxForNDj5BZnr-0WSaY9c9Y"
    others = {
        tenant_secret(SECRET, "acme "),
        tenant_secret(SECRET, "default"),
        tenant_secret(SECRET + "s", "acme"),
        SECRET,
    }
    assert len(others | {policy().secret_of("acme")}) == 5
    assert SECRET not in repr(policy())


def test_without_a_secret_there_is_none_for_a_tenant():
    with pytest.raises(NotFoundError, match="sends no webhooks"):
        WebhookPolicy.of(Settings()).secret_of("acme")


def test_a_signature_covers_time_and_body():
    signature = sign("key", "1700000000", b'{"a":1}')
    expected = hmac.new(b"key", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signature == f"v2={expected}"
    others = {
        sign("other", "1700000000", b'{"a":1}'),
        sign("key", "1700000001", b'{"a":1}'),
        sign("key", "1700000000", b'{"a":2}'),
    }
    assert signature not in others


def test_attempts_go_on_for_a_day_at_growing_intervals():
    delays = [retry_delay(attempts) for attempts in range(1, len(RETRY_SECONDS) + 2)]
    assert delays.pop() is None
    for delay, mean in zip(delays, RETRY_SECONDS, strict=True):
        assert delay == pytest.approx(mean, rel=0.1)
    assert list(RETRY_SECONDS) == sorted(RETRY_SECONDS)
    assert sum(RETRY_SECONDS) == pytest.approx(DAY, rel=0.05)


def test_the_documented_receiver_verifies_signatures():
    page = (CHECKOUT / "docs" / "jobs.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "v2=" in block)
    scope: dict[str, Any] = {}
    exec(code, scope)
    verified, body, now = scope["verified"], b'{"a":1}', str(int(time.time()))

    def headers(timestamp: str) -> dict[str, str]:
        return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(SECRET, timestamp, body)}

    assert verified(SECRET, headers(now), body)
    assert not verified(SECRET, headers(now), body + b" ")
    assert not verified("another secret", headers(now), body)
    assert not verified(SECRET, headers(str(int(now) - 301)), body)
