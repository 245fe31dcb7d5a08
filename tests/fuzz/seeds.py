"""Writes the first inputs of each corpus: small valid ones, made by code.

`python -m tests.fuzz.seeds`; the fuzzer adds its own.
"""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from typing import Final

import cv2
import numpy as np

from gateway.api.pagination import write_cursor
from gateway.kserve.tensors import join_elements
from gateway.security.api_keys import ApiKey
from tests.fuzz.corpus_files import folder_of
from tests.support.image_files import (
    chunk,
    exif,
    many_scans,
    segment,
    tiff,
    with_chunks,
    with_segments,
)
from triton_python_backend import contract

_PIXELS: Final = np.random.default_rng(5).integers(0, 255, (9, 7, 3), dtype=np.uint8)


def encoded(suffix: str, *options: int) -> bytes:
    """Encode a tiny picture of noise."""
    return bytes(cv2.imencode(suffix, _PIXELS, list(options))[1])


def images() -> list[bytes]:
    """Return tiny images of each format and of unusual kinds."""
    jpeg, png, webp = (
        encoded(".jpg"),
        encoded(".png"),
        encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    )
    lossless = encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101)
    bitmap = encoded(".bmp")
    packed = bytearray(bitmap[:54] + struct.pack("<III", 0xF800, 0x7E0, 0x1F) + bytes(9 * 16))
    struct.pack_into("<I", packed, 10, 66)
    struct.pack_into("<HI", packed, 28, 16, 3)
    raw = b"Raw profile type exif\0\nexif\n      26\n" + exif(6).hex().encode() + b"\n"
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0, 6, 0, 0, 8, 0, 0])
    with_exif = webp[12:] + b"EXIF" + struct.pack("<I", len(tiff(8))) + tiff(8)
    animated = b"ANMF" + struct.pack("<I", 16 + len(webp) - 12) + bytes(16) + webp[12:]
    return [
        jpeg,
        with_segments(jpeg, segment(0xE1, exif(6)), segment(0xFE, b"said")),
        encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        jpeg[:-2],
        many_scans(16, 12),
        png,
        with_chunks(png, chunk(b"eXIf", tiff(3)), chunk(b"tEXt", raw)),
        bytes(cv2.imencode(".png", _PIXELS[..., 0])[1]),
        webp,
        lossless,
        b"RIFF" + struct.pack("<I", 0) + b"WEBP" + extended + with_exif,
        b"RIFF" + struct.pack("<I", 0) + b"WEBP" + extended + animated,
        bitmap,
        bytes(packed),
    ]


def archives() -> list[bytes]:
    """Return small archives of each kind, with members of each sort."""
    png = encoded(".png")
    members = {
        "a/1.png": png,
        "notes.txt": b"x",
        "../2.png": png,
        ".hidden.png": png,
        "n.zip": b"PK",
    }
    found = []
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", packing) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        found.append(target.getvalue())
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=form) as archive:
            for name, data in {**members, ("é" * 30 + "/" + "é" * 30 + ".png"): png}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        found += [target.getvalue()[:4096], gzip.compress(target.getvalue(), mtime=0)]
    return found


def forms() -> list[bytes]:
    """Return forms with the boundary `b`."""
    heads = [
        b'Content-Disposition: form-data; name="image"; filename="a;b.jpg"\r\n'
        b"Content-Type: image/jpeg",
        b"Content-Disposition: form-data; name=\"image\"; filename*=UTF-8''%c3%a9.png",
        b'Content-Disposition: form-data; name*0="im"; name*1*=age',
        b'content-disposition: form-data;\r\n name="max_faces"\r\n'
        b"content-type: text/plain; charset=utf-8",
    ]
    fields = b"".join(b"--b\r\n" + head + b"\r\n\r\n3\r\n" for head in heads)
    return [
        b"\3" + fields + b"--b--\r\n",
        b"\1--b\r\n\r\n\r\nx\r\n--b \t\r\n\r\n\r\n--b--",
        fields[3:],
    ]


def tokens() -> list[bytes]:
    """Return signed and unsigned tokens."""
    claims = {
        "iss": "cron",
        "aud": ["aurum"],
        "exp": 4e9,
        "sub": "é",
        "roles": "infer admin",
        "nbf": 1,
    }
    heads = [
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "none", "kid": "../x"},
        {"alg": "HS256", "crit": []},
    ]
    both = [json.dumps(head).encode() + b"\n" + json.dumps(claims).encode() for head in heads]
    plain = b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJjcm9uIiwiYXVkIjoiYXVydW0iLCJleHAiOjQwMDAwMDAwMDB9."
    return [b"\1" + each for each in both] + [b"\0" + plain, b"\0a.b.c"]


def requests() -> list[bytes]:
    """Return inference requests: in JSON, and with binary tensors."""
    image = encoded(".png")
    binary = {
        "inputs": [
            {
                "name": contract.IMAGE,
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": 4 + len(image)},
            }
        ]
    }
    crop = {
        "name": "x",
        "shape": [1, 3, 2],
        "datatype": "FP32",
        "data": [[1.5, -2, 1e5], [0, 0, 0]],
    }
    document = {"id": "1", "parameters": {"detail": "high"}, "inputs": [crop], "outputs": []}
    return [
        b"\0\1" + json.dumps(binary).encode() + join_elements([image]),
        b"\0\0" + json.dumps(document).encode(),
        b"\2\0" + json.dumps(document).encode(),
        b"\1\0" + gzip.compress(json.dumps(document).encode(), mtime=0),
    ]


def all_seeds() -> Mapping[str, Iterable[bytes]]:
    """Return the seeds of each target."""
    pictures, key = images(), ApiKey.generate().text.encode()
    starts = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"RIFF\0\0\0\0WEBP",
        b"BM" + bytes(8),
    ]
    rsa = {"kty": "RSA", "kid": "1", "use": "sig", "n": "u" * 350, "e": "AQAB"}
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    curve = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}
    return {
        "sniff": pictures,
        "walk": [
            bytes([index]) + picture[len(start) :]
            for picture in pictures
            for index, start in enumerate(starts)
            if picture[:2] == start[:2]
        ],
        "orientation": [tiff(6), exif(3, order=">"), exif(None, (0x10F, 2, b"abc\0")), tiff(9)],
        "decode": pictures,
        "cursors": [
            bytes([kind]) + write_cursor(*values).encode()
            for kind, values in enumerate([("ada",), (7,), (1.5, "x"), ("a", "b")])
        ],
        "json": [
            b'{"a":[1,2.5e3,{"b":"\\u00e9\\"["}],"c":null}',
            b"[[[[]]]]",
            b'"\\ud800"',
            b"1e400",
        ],
        "kserve": requests(),
        "credentials": [b"Bearer " + key, b"bearer a.b.c\n" + key, key, b"\n" + key],
        "tokens": tokens(),
        "key_sets": [json.dumps({"keys": [rsa, okp, curve]}).encode(), b'{"keys":[]}'],
        "archives": archives(),
        "forms": forms(),
    }


def main() -> None:
    """Write the seeds into the corpora."""
    for target, seeds in all_seeds().items():
        folder_of(target).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (folder_of(target) / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(
                seed
            )


if __name__ == "__main__":
    main()
