"""The limits of a key, from the headers of answers."""

import httpx
import pytest
from aurum_client import AurumClient, RateLimit, RateLimitedError, RetryPolicy
from aurum_client.rate_limits import read_rate_limits

from gateway.security.limits.base import Left, Policy
from gateway.security.limits.fields import rate_limit_fields

STANDING = {
    Policy.REQUESTS: Left(quota=600, burst=60, available=59, seconds=1),
    Policy.MEGAPIXELS: Left(quota=300, burst=None, available=0, seconds=7),
    Policy.CONCURRENT: Left(quota=8, burst=None, available=3, seconds=None),
}
LIMITS = {
    "requests": RateLimit(600, 59, 60, 1),
    "megapixels": RateLimit(300, 0, 60, 7),
    "concurrent": RateLimit(8, 3, None, None),
}


def test_what_the_gateway_writes_is_read():
    assert read_rate_limits(rate_limit_fields(STANDING)) == LIMITS


@pytest.mark.parametrize(
    ("policy", "left", "expected"),
    [
        ("", "", {}),
        ('"a";q=1', "", {}),
        ("", '"a";r=1', {}),
        ('"a";q=1;w=60', '"b";r=1', {}),
        ("a;q=1", "a;r=1", {}),
        ('"a";w=60', '"a";r=1;t=2', {}),
        ("100, 50", "limit=100, remaining=1", {}),
        # parameters of others, in any order
        (
            '"a, b";pk=:cHs=:;w=9 ; q=1;x-y="1;q=7", "c";q=2',
            '"c";r=0, "a, b";t=3;r=1;new',
            {"c": RateLimit(2, 0), "a, b": RateLimit(1, 1, 9, 3)},
        ),
    ],
)
def test_other_fields_are_read_as_far_as_they_are_understood(policy, left, expected):
    assert read_rate_limits({"RateLimit-Policy": policy, "RateLimit": left}) == expected


def test_a_client_knows_the_limits_of_its_last_answer():
    problem = {"code": "rate_limited", "violated-policies": ["megapixels"]}
    answers = [
        httpx.Response(200, json={"status": "live"}, headers=rate_limit_fields(STANDING)),
        httpx.Response(200, json={"status": "live"}),
        httpx.Response(429, json=problem, headers={"Retry-After": "0"}),
    ]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    with AurumClient(transport=transport, retry=RetryPolicy(attempts=1)) as client:
        other = client.with_options()
        assert client.rate_limits == {}
        other.live()
        # answers that say nothing, like those to health checks, change nothing
        client.live()
        assert client.rate_limits == other.rate_limits == LIMITS
        with pytest.raises(RateLimitedError) as caught:
            client.live()
    assert caught.value.violated_policies == ("megapixels",)
