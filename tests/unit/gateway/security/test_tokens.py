"""Tokens: what is accepted, and every way in which others try to get in."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError, StorageUnavailableError, UnauthorizedError
from gateway.outbound.documents import FetchError
from gateway.security import tokens
from gateway.security.issuers import load_issuers
from gateway.security.tokens import TokenAuthenticator

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER, CRON = "https://login.example.com/", "cron"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SIGNERS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
WRITERS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(algorithm: str, key=None) -> dict:
    public = (key or SIGNERS[algorithm]).public_key()
    return {**json.loads(WRITERS[algorithm].to_jwk(public)), "kid": algorithm, "use": "sig"}


JWKS = json.dumps({"keys": [jwk(algorithm) for algorithm in SIGNERS]}).encode()


@pytest.fixture
def served(monkeypatch):
    answers = {"body": JWKS, "asked": 0}

    async def fetch(url: str) -> bytes:
        answers["asked"] += 1
        if isinstance(answers["body"], Exception):
            raise answers["body"]
        return answers["body"]

    monkeypatch.setattr(tokens, "fetch", fetch)
    return answers


@pytest.fixture
async def checked(tmp_path, served):
    (tmp_path / "secret").write_text(SECRET + "\n")
    file = tmp_path / "issuers.toml"
    file.write_text(f"""
[[issuer]]
issuer = "{ISSUER}"
audience = "aurum"
algorithms = ["RS256", "ES256", "EdDSA"]
jwks_url = "https://login.example.com/keys"
tenants = ["acme", "initech"]

[[issuer]]
issuer = "{CRON}"
audience = "aurum"
algorithms = ["HS256"]
secret_file = "{tmp_path / "secret"}"
tenant = "default"
roles = ["infer", "admin"]
""")
    async with BackgroundTasks() as background:
        yield TokenAuthenticator(load_issuers(file), background)


def claims(**changes) -> dict:
    now = time.time()
    usual = {"iss": ISSUER, "aud": "aurum", "exp": now + 60, "sub": "ada", "tenant": "acme"}
    made = {**usual, "roles": ["infer", "search"], **changes}
    return {name: value for name, value in made.items() if value is not None}


def signed(algorithm: str = "RS256", key=None, *, kid: str | None = "", **changes) -> str:
    kid = algorithm if kid == "" else kid
    headers = {} if kid is None else {"kid": kid}
    # without the checks that PyJWT makes of claims that it signs
    body = json.dumps(claims(**changes)).encode()
    return jwt.PyJWS().encode(body, key or SIGNERS[algorithm], algorithm, headers=headers)


def shared(key: str = SECRET, **changes) -> str:
    return jwt.encode(claims(iss=CRON, **changes), key, "HS256")


def part(document: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


async def refused(authenticator, token: str) -> str:
    with pytest.raises(UnauthorizedError) as caught:
        await authenticator.authenticate(token)
    assert token not in caught.value.detail
    return caught.value.detail


@pytest.mark.parametrize("algorithm", SIGNERS)
async def test_a_token_says_tenant_and_roles(checked, algorithm):
    found = await checked.authenticate(signed(algorithm))
    assert (found.tenant, found.name) == ("acme", "token:ada")
    assert (found.roles, found.collections) == (("infer", "search"), None)


async def test_a_shared_secret_on_one_machine(checked):
    found = await checked.authenticate(shared(roles="admin infer manage"))
    # the issuer fixes the tenant, and the most that its tokens may
    assert (found.tenant, found.roles) == ("default", ("infer", "admin"))


async def test_admin_has_to_be_allowed(checked):
    found = await checked.authenticate(signed(roles=["admin", "infer", "owner"]))
    assert found.roles == ("infer",)


async def test_collections_limit_a_token(checked):
    assert (await checked.authenticate(signed(collections=["a", "b"]))).collections == {"a", "b"}
    assert (await checked.authenticate(signed(collections=[]))).collections == frozenset()
    # who can make keys can make one for every collection
    assert "admin" in await refused(checked, shared(roles="admin", collections=["a"]))


async def test_a_public_key_is_no_secret(checked):
    """The classic confusion: HS256 with the RSA key that everybody can fetch as the secret."""
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    start = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'RS256'})}.{part(claims())}"
    mac = hmac.new(pem, start.encode(), hashlib.sha256).digest()
    token = f"{start}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    assert "does not sign with its algorithm" in await refused(checked, token)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 7, ["RS256"]])
async def test_an_unsigned_token_is_refused(checked, algorithm):
    start = f"{part({'alg': algorithm, 'kid': 'RS256'})}.{part(claims())}"
    for signature in ("", "x", signed().rpartition(".")[2]):
        await refused(checked, f"{start}.{signature}")


async def test_an_algorithm_of_another_issuer_is_refused(checked):
    token = jwt.encode(claims(), SECRET, "HS256")
    assert "algorithm" in await refused(checked, token)
    token = jwt.encode(claims(iss=CRON), RSA_KEY, "RS256")
    assert "algorithm" in await refused(checked, token)


async def test_the_key_of_another_algorithm_is_refused(checked):
    assert "does not have its key" in await refused(checked, signed("RS256", kid="ES256"))


async def test_keys_within_the_token_are_not_looked_at(checked, served):
    for name, value in (
        ("jwk", jwk("RS256", OTHER_KEY)),
        ("jku", "https://evil.example.com/keys"),
        ("x5u", "https://evil.example.com/keys"),
    ):
        headers = {"kid": "RS256", name: value}
        token = jwt.encode(claims(), OTHER_KEY, "RS256", headers=headers)
        assert await refused(checked, token) == "the token is not valid"
    assert served["asked"] == 1


async def test_a_critical_header_that_nobody_understands_is_refused(checked):
    headers = {"kid": "RS256", "crit": ["x"], "x": 1}
    await refused(checked, jwt.encode(claims(), RSA_KEY, "RS256", headers=headers))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example.com/"}, "issuer"),
        ({"iss": ISSUER.rstrip("/")}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", "aurum2"]}, "audience"),
        ({"aud": None}, "lacks aud"),
        ({"exp": None}, "lacks exp"),
        ({"sub": None}, "lacks sub"),
        ({"exp": 1}, "expired"),
        ({"exp": "soon"}, ""),
        ({"exp": float("inf")}, ""),
        ({"nbf": 10**12}, "not valid yet"),
        ({"iat": 10**12}, "not valid yet"),
        ({"tenant": None}, "names no tenant"),
        ({"tenant": "../x"}, "names no tenant"),
        ({"tenant": ["acme"]}, "names no tenant"),
        ({"tenant": "other"}, "does not vouch"),
        ({"roles": {"infer": True}}, "roles"),
        ({"roles": [1]}, "roles"),
        ({"collections": 7}, "collections"),
    ],
)
async def test_claims_that_are_refused(checked, changes, why):
    assert why in await refused(checked, signed(**changes))


async def test_clocks_may_differ_a_little(checked):
    now = time.time()
    await checked.authenticate(signed(exp=now - 20))
    await checked.authenticate(signed(nbf=now + 20))
    await refused(checked, signed(exp=now - 40))
    await refused(checked, signed(nbf=now + 40))


async def test_a_token_without_roles_may_nothing(checked):
    assert (await checked.authenticate(signed(roles=None))).roles == ()


async def test_a_wrong_signature_is_refused(checked):
    assert await refused(checked, signed(key=OTHER_KEY)) == "the token is not valid"
    assert await refused(checked, shared("1" * 32)) == "the token is not valid"
    head, body, signature = signed().split(".")
    other = part(claims(tenant="initech"))
    await refused(checked, f"{head}.{other}.{signature}")
    await refused(checked, f"{head}.{body}.")


@pytest.mark.parametrize("text", ["..", "a.b.c", "x" * 9000 + "..", "e30.e30.", "é.é.é", "....."])
async def test_what_is_no_token_is_refused(checked, text):
    await refused(checked, text)


async def test_an_unknown_key_id_is_looked_for_once_in_a_while(checked, served):
    await checked.authenticate(signed())
    for _ in range(5):
        assert "does not have its key" in await refused(checked, signed(kid="new"))
    assert served["asked"] == 1


async def test_a_token_without_a_key_id_meets_the_only_key(checked, served):
    await checked.authenticate(signed(kid=None))


async def test_two_keys_without_an_id_are_not_guessed(checked, served):
    keys = [jwk("RS256"), {**jwk("RS256", OTHER_KEY), "kid": "other"}]
    served["body"] = json.dumps({"keys": keys}).encode()
    assert "does not have its key" in await refused(checked, signed(kid=None))


async def test_without_any_keys_it_is_not_the_callers_fault(checked, served):
    served["body"] = FetchError("it did not answer")
    with pytest.raises(StorageUnavailableError) as caught:
        await checked.authenticate(signed())
    assert caught.value.retry_after_seconds == 30


async def test_names_are_fit_for_logs(checked):
    found = await checked.authenticate(signed(sub="a\nb\x00" + "c" * 100))
    assert found.name.startswith("token:a?b?ccc")
    assert len(found.name) <= 64


BASE = {"issuer": '"x"', "audience": '"a"', "algorithms": '["RS256"]'}
URL = {"jwks_url": '"https://x/keys"'}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "need `jwks_url`"),
        ({"algorithms": '["HS256"]'}, "needs `secret_file`"),
        ({"algorithms": '["HS256", "RS256"]', **URL}, "cannot be mixed"),
        ({"algorithms": '["none"]', **URL}, "algorithms"),
        ({"algorithms": "[]", **URL}, "algorithms"),
        ({"jwks_url": '"http://login.example.com/keys"'}, "https"),
        ({"jwks_url": '"ftp://x/keys"'}, "https"),
        ({"jwks_url": '"https://user:pass@x/keys"'}, "password"),
        ({**URL, "colour": '"red"'}, "colour"),
        ({**URL, "tenant": '"../x"'}, "tenant"),
        ({**URL, "roles": '["root"]'}, "roles"),
        ({**URL, "leeway_seconds": "1000"}, "leeway"),
        ({**URL, "issuer": '""'}, "issuer"),
    ],
)
def test_issuers_that_contradict_themselves_stop_the_start(tmp_path, fields, why):
    file = tmp_path / "issuers.toml"
    lines = "\n".join(f"{name} = {value}" for name, value in {**BASE, **fields}.items())
    file.write_text(f"[[issuer]]\n{lines}\n")
    with pytest.raises(ConfigurationError, match=why) as caught:
        load_issuers(file)
    assert "AURUM_TOKEN_ISSUERS_FILE" in str(caught.value)


def test_an_issuer_twice_a_missing_file_and_broken_toml_stop_the_start(tmp_path):
    assert load_issuers(None) == ()
    with pytest.raises(ConfigurationError, match="No such file"):
        load_issuers(tmp_path / "none.toml")
    file = tmp_path / "issuers.toml"
    file.write_text("[[issuer]")
    with pytest.raises(ConfigurationError):
        load_issuers(file)
    lines = "\n".join(f"{name} = {value}" for name, value in {**BASE, **URL}.items())
    file.write_text(f"[[issuer]]\n{lines}\n" * 2)
    with pytest.raises(ConfigurationError, match="twice"):
        load_issuers(file)


async def test_a_short_secret_stops_the_start_and_is_not_shown(tmp_path):
    (tmp_path / "secret").write_text("short-secret")
    file = tmp_path / "issuers.toml"
    fields = {**BASE, "algorithms": '["HS256"]', "secret_file": f'"{tmp_path / "secret"}"'}
    file.write_text("[[issuer]]\n" + "\n".join(f"{k} = {v}" for k, v in fields.items()))
    with pytest.raises(ConfigurationError, match="fewer than 32") as caught:
        TokenAuthenticator(load_issuers(file), BackgroundTasks())
    assert "short-secret" not in str(caught.value)
