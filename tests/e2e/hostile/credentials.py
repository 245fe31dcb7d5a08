"""Keys and tokens that nobody made, or that were changed: the head alone decides, as no body comes.

These go to a gateway that asks for keys; the stack of the other tests does not.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from tests.e2e.hostile.case import UNAUTHORIZED, Case
from tests.e2e.hostile.wire import BATCH, COLLECTIONS, INFER, KEYS, SCORE, head

SECRET: Final = b"0123456789abcdef0123456789abcdef"
ISSUERS: Final = """
[[issuer]]
issuer = "cron"
audience = "aurum"
algorithms = ["HS256"]
secret_file = "{secret}"
tenant = "default"
"""
_ROUTES: Final = {
    "score": SCORE,
    "batch": BATCH,
    "create": COLLECTIONS,
    "keys": KEYS,
    "infer": INFER,
}


def cases(valid_key: str) -> Iterator[Case]:
    """Yield all credentials; some are made of a valid key."""
    for name, lines in (_tokens() | _keys(valid_key)).items():
        sent = {
            # the megabyte that is announced never comes
            route: head("POST", path, "Content-Type: image/jpeg", "Content-Length: 1000000", *lines)
            for route, path in _ROUTES.items()
        }
        yield Case("credentials", name, sent, UNAUTHORIZED)


def _part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: object, claims: object, secret: bytes = SECRET) -> str:
    """Sign a token by HMAC, whatever it says."""
    signed = f"{_part(header)}.{_part(claims)}"
    return f"{signed}.{_part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _tokens() -> dict[str, list[str | bytes]]:
    good: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
    claims: dict[str, Any] = {
        "iss": "cron",
        "aud": "aurum",
        "sub": "x",
        "exp": time.time() + 600,
        "roles": ["admin"],
    }
    plain = f"{_part({'alg': 'none'})}.{_part(claims)}."
    whole = token(good, claims)
    deep = b"[" * 3000 + b"]" * 3000
    found = {
        "token of no algorithm": plain,
        "token of no algorithm, in capitals": f"{_part({'alg': 'NONE'})}.{_part(claims)}.",
        "token of no algorithm with a signature": plain + "AAAA",
        "token without an algorithm": token({"typ": "JWT"}, claims),
        "token of a list of algorithms": token({"alg": ["HS256"]}, claims),
        "token of RS256 signed by HMAC": token({"alg": "RS256"}, claims),
        "token of HS512": token({"alg": "HS512"}, claims),
        "token without a signature": whole.rpartition(".")[0] + ".",
        "token with another signature": whole[:-4] + "AAAA",
        "token of another secret": token(good, claims, b"x" * 32),
        "token of an empty secret": token(good, claims, b""),
        "token whose key is a path": token({**good, "kid": "../../../../dev/null"}, claims, b""),
        "token whose key is SQL": token({**good, "kid": "x' UNION SELECT 'a"}, claims, b"a"),
        "token whose key is a number": token({**good, "kid": 7}, claims, b"a"),
        "token that brings its key": token(
            {**good, "jwk": {"kty": "oct", "k": _part(b"a")}}, claims, b"a"
        ),
        "token whose keys are elsewhere": token(
            {**good, "jku": "http://127.0.0.1/keys"}, claims, b"a"
        ),
        "token with a certificate": token({**good, "x5c": ["AAAA"]}, claims, b"a"),
        "token with critical extensions": token({**good, "crit": ["exp2"], "exp2": 1}, claims),
        "token with detached claims": token({**good, "b64": False, "crit": ["b64"]}, claims),
        "token of another issuer": token(good, {**claims, "iss": "other"}),
        "token of an issuer in a list": token(good, {**claims, "iss": ["cron"]}),
        "token for another audience": token(good, {**claims, "aud": "other"}),
        "token for an audience in an object": token(good, {**claims, "aud": {"aurum": 1}}),
        "token that ended": token(good, {**claims, "exp": 1}),
        "token that never ends": token(good, {k: v for k, v in claims.items() if k != "exp"}),
        "token that ends at infinity": token(
            good, json.dumps({**claims, "exp": 0}).replace('"exp": 0', '"exp": 1e999').encode()
        ),
        "token that ends in words": token(good, {**claims, "exp": "tomorrow"}),
        "token that begins later": token(good, {**claims, "nbf": time.time() + 9999}),
        "token without a subject": token(good, {k: v for k, v in claims.items() if k != "sub"}),
        "token whose subject is an object": token(good, {**claims, "sub": {"a": 1}}),
        "token whose roles are an object": token(good, {**claims, "roles": {"admin": True}}),
        "token whose roles are numbers": token(good, {**claims, "roles": [1, 2]}),
        "token of 3,000 brackets": token(good, deep),
        "token of claims that are a list": token(good, [1]),
        "token of claims that are no JSON": token(good, b"\xff\xfe"),
        "token of a header that is a list": token([1], claims),
        "token of a header of 4,000 brackets": token(b"[" * 4000, claims),
        "token in base64 with blanks": whole.replace(".", " . "),
        "token of dots": "..",
        "token of four parts": whole + ".AAAA",
        "token of noise": "\u00ff\u00fe.\u00fd.\u00fc",
        "encrypted token": ".".join(
            [_part({"alg": "dir", "enc": "A256GCM"}), "", "AAAA", "AAAA", "AAAA"]
        ),
    }
    return {name: [f"Authorization: Bearer {text}"] for name, text in found.items()}


def _keys(valid: str) -> dict[str, list[str | bytes]]:
    prefix, key_id, secret, check = valid.split("_")
    return {
        "no key": [],
        "key twice": [f"Authorization: Bearer {valid}", f"Authorization: Bearer {valid}"],
        "key in both headers": [f"Authorization: Bearer {valid}", f"X-API-Key: {valid}"],
        "key with another end": [f"X-API-Key: {valid[:-1]}{'0' if valid[-1] != '0' else '1'}"],
        "key without its check": [f"X-API-Key: {prefix}_{key_id}_{secret}"],
        "key that is cut off": [f"X-API-Key: {valid[:-9]}"],
        "key with another id": [f"X-API-Key: {prefix}_{'0' * 12}_{secret}_{check}"],
        "key with an id in capitals": [f"X-API-Key: {prefix}_{key_id.upper()}x_{secret}_{check}"],
        "key with NUL escaped": [f"X-API-Key: {valid}%00"],
        "key with a tab": [f"X-API-Key: {prefix}_{key_id}\t_{secret}_{check}"],
        "key with a line behind it": [f"X-API-Key: {valid}, {valid}"],
        "key of other letters": ["X-API-Key: \uff41\uff55\uff52_x_y_z"],
        "key of SQL": ["X-API-Key: aur_' OR '1'='1"],
        "key of a pattern": ["X-API-Key: aur_%_%_%"],
        "key of 8,000 characters": [f"X-API-Key: aur_{'a' * 8000}"],
        "key of nothing": ["X-API-Key: "],
        "key of noise": [b"X-API-Key: \xff\xfe\xfd"],
        "key as a user": ["Authorization: Basic " + base64.b64encode(valid.encode()).decode()],
        "key as a digest": ['Authorization: Digest username="' + valid + '"'],
        "key without a scheme": [f"Authorization: {valid}"],
        "key in a cookie": [f"Cookie: key={valid}"],
        "key behind a proxy": [f"X-Forwarded-Authorization: Bearer {valid}"],
        "scheme of nothing": ["Authorization: Bearer "],
        "scheme of 8,000 characters": ["Authorization: " + "B" * 8000],
    }
