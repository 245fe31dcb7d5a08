"""JSON that is deep, doubled, endless, no UTF-8, of wrong types, or with numbers out of range."""

import json
import re
from collections.abc import Iterator

from gateway.api.body import BodySpec
from gateway.api.table import ROUTES as ROUTE_TABLE
from tests.e2e.hostile.case import BAD_IMAGE, INVALID, TOO_LARGE, UNKNOWN_TYPE, Case
from tests.e2e.hostile.wire import (
    BATCH,
    CLUSTERS,
    COLLECTION,
    COLLECTIONS,
    EMBED,
    ENROL,
    INFER,
    JSON,
    KEYS,
    MIGRATE,
    SEARCH,
    SUBJECT,
    VERIFY,
    document,
    post,
    send,
)

ROUTES = {
    "embed": ("POST", EMBED),
    "verify": ("POST", VERIFY),
    "batch": ("POST", BATCH),
    "create": ("POST", COLLECTIONS),
    "change": ("PATCH", f"{COLLECTIONS}/{COLLECTION}"),
    "enrol": ("POST", ENROL),
    "search": ("POST", SEARCH),
    "clusters": ("POST", CLUSTERS),
    "migrate": ("POST", MIGRATE),
    "subject": ("PATCH", SUBJECT),
    "keys": ("POST", KEYS),
    "rotate": ("POST", f"{KEYS}/x/rotate"),
    "infer": ("POST", INFER),
}
"""Routes that take JSON."""


def declared() -> dict[str, tuple[str, str]]:
    """Return every declared route that takes JSON, with its method and a path of it."""
    known = {"name": COLLECTION, "subject": "ada", "model": "face_pipeline", "version": "1"}
    return {
        f"{route.method} {route.path}": (
            route.method,
            re.sub(r"{(\w+)}", lambda found: known.get(found[1], "x"), route.path),
        )
        for route in ROUTE_TABLE
        if isinstance(route.fields, BodySpec)
        or (route.fields is not None and "application/json" in route.fields.shapes)
    }


def cases() -> Iterator[Case]:
    """Yield all documents."""
    every = declared()
    names = list(every)
    for number, (name, body) in enumerate(_unreadable().items()):
        # the routes of one reader take turns; batch and infer have readers of their own
        turns = {names[(3 * number + step) % len(names)] for step in range(3)}
        sent = {route: send(*every[route], body, JSON) for route in turns}
        sent |= {route: send(*ROUTES[route], body, JSON) for route in ("batch", "infer")}
        yield Case("json", name, sent, INVALID)
    for name, (route, value) in _wrong().items():
        method, path = ROUTES[route]
        yield Case("json", name, {route: document(path, value, method)}, INVALID)
    for name, text in _bad_base64().items():
        sent = {
            "embed": document(EMBED, {"image": text}),
            "verify": document(VERIFY, {"image_a": text, "image_b": text}),
            "search": document(SEARCH, {"image": text}),
        }
        yield Case("json", name, sent, BAD_IMAGE)
    yield from _types()


def _unreadable() -> dict[str, bytes]:
    return {
        "JSON with 100,000 brackets": b"[" * 100_000,
        "JSON with 50,000 objects in each other": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "JSON of 200,000 objects": b"[" + b"{}," * 200_000 + b"{}]",
        "JSON of 200,000 texts": b"[" + b'"",' * 200_000 + b'""]',
        "JSON with NaN": b'{"image": NaN, "name": NaN, "inputs": NaN}',
        "JSON with infinity": b'{"image": -Infinity, "inputs": -Infinity}',
        "JSON with a number of 100,000 digits": b'{"threshold": ' + b"9" * 100_000 + b"}",
        "JSON with a number of 1e999999": b'{"threshold": 1e999999}',
        "JSON that is cut off": b'{"image": "abc',
        "JSON with a lone surrogate": b'{"image": "\\ud800", "name": "\\udfff"}',
        "JSON that is no UTF-8": b'{"image": "\xff\xfe"}',
        "JSON in UTF-16": '{"image": 1}'.encode("utf-16"),
        "JSON with a line break in a text": b'{"image": "a\nb"}',
        "JSON with comments": b'{/* a */ "image": 1}',
        "JSON with a comma at its end": b'{"image": "x",}',
        "JSON with single quotes": b"{'image': 'x'}",
        "JSON with two documents": b'{"image": "x"}{"image": "y"}',
        "JSON with NUL behind it": b'{"image": "x"}\0',
        "JSON with a key given twice": b'{"name": "a", "name": "b", "inputs": [], "inputs": []}',
        "JSON with a key of a megabyte": b'{"' + b"k" * 1_000_000 + b'": 1}',
        "JSON with NUL in a key": b'{"na\\u0000me": 1}',
        "JSON with __proto__": b'{"__proto__": {"admin": true}}',
        "JSON with markup as a key": b'{"<script>alert(1)</script>": 1}',
        "JSON that is a list": b"[1, 2]",
        "JSON that is a text": b'"text"',
        "JSON that is a number": b"7",
        "JSON that is nothing but a mark": b"\xef\xbb\xbf\xef\xbb\xbf{}",
        "JSON of a pickle": b"\x80\4cposix\nsystem\n.",
        "JSON of YAML": b"!!python/object/apply:os.system ['id']",
    }


def _wrong() -> dict[str, tuple[str, object]]:
    vector, space = [0.1] * 512, "0" * 16
    huge = 10**400
    return {
        "image that is a number": ("embed", {"image": 7}),
        "image that is a list": ("embed", {"image": ["a"]}),
        "image that is an object": ("embed", {"image": {"$ne": ""}}),
        "image with a data URI that is no base64": (
            "embed",
            {"image": "data:image/svg+xml,<svg/>"},
        ),
        "threshold that is a text": ("verify", {"image_a": "", "image_b": "", "threshold": "0.5"}),
        "threshold of 1e308": ("verify", {"image_a": "", "image_b": "", "threshold": 1e308}),
        "images that are none": ("batch", {"images": []}),
        "images of a wrong kind": ("batch", {"images": {"0": "a"}}),
        "images with an unknown field": (
            "batch",
            {"images": [{"image": "", "path": "/etc/passwd"}]},
        ),
        "name of a job's image of 2,000 characters": (
            "batch",
            {"images": [{"image": "", "name": "x" * 2000}]},
        ),
        "20,001 images": ("batch", b'{"images":[' + b'"",' * 20_000 + b'""]}'),
        "collection that keeps everything": ("create", {"name": "a", "keep": "all"}),
        "collection kept for -1 days": ("create", {"name": "a", "retention_days": -1}),
        "collection kept for 1e300 days": ("create", {"name": "a", "retention_days": 1e300}),
        "collection with an owner": ("create", {"name": "a", "tenant": "other"}),
        "collection with a description of 10 KB": (
            "create",
            {"name": "a", "description": "x" * 10_000},
        ),
        "collection whose description has NUL": ("create", {"name": "a", "description": "\0"}),
        "collection that is renamed": ("change", {"name": "other"}),
        "embedding of texts": ("enrol", {"embedding": ["a"] * 512, "space": space}),
        "embedding of huge numbers": ("enrol", {"embedding": [1e308] * 512, "space": space}),
        "embedding of a number beyond floats": (
            "enrol",
            json.dumps({"embedding": [huge, 1], "space": space}).encode(),
        ),
        "embedding of zeros": ("enrol", {"embedding": [0.0] * 512, "space": space}),
        "embedding of 100,000 numbers": ("enrol", {"embedding": [0.1] * 100_000, "space": space}),
        "embedding of one number": ("enrol", {"embedding": [1.0], "space": space}),
        "embedding without a space": ("enrol", {"embedding": vector}),
        "embedding with a space of SQL": (
            "enrol",
            {"embedding": vector, "space": "' OR 1=1 --    "},
        ),
        "embedding and an image": ("enrol", {"embedding": vector, "space": space, "image": ""}),
        "no embeddings": ("enrol", {"embeddings": [], "space": space}),
        "metadata within metadata": (
            "enrol",
            {"embedding": vector, "space": space, "metadata": {"a": {"b": 1}}},
        ),
        "metadata of 1,000 entries": (
            "enrol",
            {"embedding": vector, "space": space, "metadata": {f"k{n}": n for n in range(1000)}},
        ),
        "metadata with an integer of 70 bits": (
            "enrol",
            {"embedding": vector, "space": space, "metadata": {"a": 2**70}},
        ),
        "metadata with a key of a query": (
            "enrol",
            {"embedding": vector, "space": space, "metadata": {"$where": "1"}},
        ),
        "metadata with a text of 100 KB": (
            "enrol",
            {"embedding": vector, "space": space, "metadata": {"a": "x" * 100_000}},
        ),
        "filter with an operator": (
            "search",
            {"embedding": vector, "space": space, "filter": {"a": {"$gt": ""}}},
        ),
        "filter with a list": (
            "search",
            {"embedding": vector, "space": space, "filter": {"a": [1]}},
        ),
        "filter of SQL": (
            "search",
            {"embedding": vector, "space": space, "filter": {"a' OR '1'='1": 1}},
        ),
        "search for 2**63 matches": (
            "search",
            {"embedding": vector, "space": space, "limit": 2**63},
        ),
        "search for -1 matches": ("search", {"embedding": vector, "space": space, "limit": -1}),
        "search with a rate of 0": (
            "search",
            {"embedding": vector, "space": space, "target_fmr": 0},
        ),
        "clusters with a threshold of 7": ("clusters", {"threshold": 7}),
        "clusters with a threshold that is true": ("clusters", {"threshold": True}),
        "move with an unknown step": ("migrate", {"action": "drop table"}),
        "subject with an id of NUL": ("subject", {"external_id": "\0"}),
        "subject with a name of 10 KB": ("subject", {"display_name": "x" * 10_000}),
        "subject with a name written backwards": ("subject", {"display_name": "\u202eada"}),
        "key with an unknown role": ("keys", {"name": "a", "roles": ["root"]}),
        "key without roles": ("keys", {"name": "a", "roles": []}),
        "key of another tenant": ("keys", {"name": "a", "roles": ["admin"], "tenant": "other"}),
        "key with a line break in its name": ("keys", {"name": "a\nb", "roles": ["infer"]}),
        "key that ends in 1e300 days": (
            "keys",
            {"name": "a", "roles": ["infer"], "expires_in_days": 1e300},
        ),
        "key that ended yesterday": (
            "keys",
            {"name": "a", "roles": ["infer"], "expires_in_days": -1},
        ),
        "key of 100,000 collections": (
            "keys",
            {"name": "a", "roles": ["infer"], "collections": ["a"] * 100_000},
        ),
        "rotation with an overlap of 1e300": ("rotate", {"overlap_hours": 1e300}),
        "rotation with a negative overlap": ("rotate", {"overlap_hours": -1}),
    }


def _bad_base64() -> dict[str, str]:
    return {
        "base64 with a foreign character": "AAAA*AAA",
        "base64 in both alphabets": "+-/_",
        "base64 with padding in its middle": "AA==AAAA",
        "base64 with too much padding": "AAAA====",
        "base64 of one digit": "A",
        "base64 with other digits": "\uff21" * 4,
        "base64 of nothing": "",
        "data URI with 50,000 escapes": "data:image/png;base64," + "%41" * 50_000,
    }


def _types() -> Iterator[Case]:
    for kind in (
        "text/html",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "*/*",
        ";;;",
    ):
        sent = {
            route: send(*place, b"{}", f"Content-Type: {kind}") for route, place in ROUTES.items()
        }
        # aiohttp reads a type that is none as bytes, which that route takes
        others = {"infer": INVALID} if kind == ";;;" else {}
        yield Case("json", f"body of the type {kind}", sent, UNKNOWN_TYPE, others)
    packed = {
        route: send(*place, b"\x1f\x8b\x08", JSON, "Content-Encoding: br")
        for route, place in ROUTES.items()
    }
    yield Case("json", "JSON in Brotli", packed, UNKNOWN_TYPE)
    large = document(EMBED, b'{"image": "' + b"A" * (15 << 20) + b'"}')
    yield Case("json", "image of 11 MB in base64", {"embed": large}, TOO_LARGE)
    padded = post(COLLECTIONS, b" " * (8 << 20), JSON)
    yield Case("json", "8 MB of blanks", {"create": padded}, TOO_LARGE)
