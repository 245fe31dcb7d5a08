"""Every error has a row in the table of errors, and the Python client retries as it says."""

import pytest
from aurum_client import errors as client_errors
from aurum_client.request import Request
from aurum_client.retry import may_repeat

from gateway import errors
from gateway.api.table import ROUTES
from gateway.error_policy import KIND_MEANINGS, POLICIES, Kind


def kinds_of(base: type) -> set[type]:
    return {base, *(each for kind in base.__subclasses__() for each in kinds_of(kind))}


def test_every_error_of_the_gateway_has_a_row():
    codes = {kind.code for kind in kinds_of(errors.AurumError)}
    assert codes <= POLICIES.keys()
    assert len(codes) >= 17


def test_every_code_of_the_api_has_a_row():
    assert {code for route in ROUTES for code in route.errors} <= POLICIES.keys()


def test_every_kind_has_a_meaning():
    assert KIND_MEANINGS.keys() == set(Kind)
    assert {policy.kind for policy in POLICIES.values()} == set(Kind)


@pytest.mark.parametrize("code", POLICIES)
def test_a_row_agrees_with_itself(code):
    policy = POLICIES[code]
    assert (policy.kind is Kind.SYSTEM) == (policy.status >= 500)
    # what a client should repeat names a time; proxies and clients know these two statuses
    assert policy.client_retry == (policy.retry_after != "never")
    assert (policy.retry_after == "always") == (policy.status in (429, 503))
    # another engine cannot read an image that this one cannot read
    assert not policy.fall_back or policy.kind is Kind.SYSTEM
    assert policy.retry or not policy.client_retry


@pytest.mark.parametrize("retry_after", [None, 2.0])
@pytest.mark.parametrize("code", POLICIES)
def test_the_python_client_retries_as_the_table_says(code, retry_after):
    policy = POLICIES[code]
    problem = client_errors.Problem(code, policy.status, policy.title, "…", "1")
    error = client_errors.FAMILIES[code](problem, retry_after)
    request = Request("POST", "/x", dict, idempotency_key="k")
    named = policy.retry_after != "sometimes" or retry_after is not None
    assert may_repeat(request, error) == (policy.client_retry and named)
