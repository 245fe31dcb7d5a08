"""The package that a person gets: JSON for programs, a page for people, the stored pictures."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import orjson

from gateway.api.collections.consent import moment
from gateway.api.collections.serializers import face_record_out, subject_out
from gateway.api.faces.serializers import png
from gateway.collections.people import Held

_STYLE: Final = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0}th,td{border:1px solid #bbb;padding:.2rem .6rem;"
    "text-align:left;vertical-align:top}img{width:112px;height:112px}"
)
_OTHERS: Final = "left out: it is about a picture that may show other people, too"
_AUDIT: Final = (
    "The audit log records that data was exported, changed or deleted, by whom and when. Its lines "
    "name no person and no face, so they cannot be matched to this person."
)


def package(
    held: Sequence[Held],
    results: Mapping[tuple[str, int], bytes],
    *,
    at: float,
    embeddings: bool,
) -> bytes:
    """Write the ZIP: `person.json`, `index.html`, `crops/`.

    Args:
        held: what is stored, by collection.
        results: decrypted answers of images of jobs, by job id and index.
        at: when it was made, seconds since 1970.
        embeddings: whether to add the numbers that faces are compared by.

    """
    document = {
        "made_at": moment(at),
        "collections": [_collection(each, results, embeddings=embeddings) for each in held],
        "audit_log": _AUDIT,
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("person.json", orjson.dumps(document, option=orjson.OPT_INDENT_2))
        archive.writestr("index.html", _page(document))
        for each in held:
            for face_id, crop in each.crops.items():
                # without compression: a PNG is compressed
                info = zipfile.ZipInfo(_crop_path(each, face_id))
                archive.writestr(info, png(crop))
    return target.getvalue()


def _collection(
    held: Held, results: Mapping[tuple[str, int], bytes], *, embeddings: bool
) -> dict[str, Any]:
    collection = held.person.collection
    return {
        "collection": collection.name,
        "description": collection.settings.description,
        "retention_days": collection.settings.retention_days,
        "record": subject_out(held.person.subject).model_dump(),
        "faces": [_face(held, number, embeddings=embeddings) for number in range(len(held.faces))],
        "kept_answers": [moment(at) for at in held.answers],
        "job_images": [_item(held, number, results) for number in range(len(held.items))],
        "do_not_enrol": [
            {"entry_id": each.id, "reason": each.reason, "created_at": moment(each.created_at)}
            for each in held.refusals
        ],
    }


def _face(held: Held, number: int, *, embeddings: bool) -> dict[str, Any]:
    face = held.faces[number]
    shape = face_record_out(face).model_dump()
    shape["crop"] = _crop_path(held, face.id) if face.id in held.crops else None
    shape["cluster_id"] = held.clusters.get(face.id)
    if embeddings and face.id in held.vectors:
        shape["embedding"] = [float(number) for number in held.vectors[face.id]]
    return shape


def _item(held: Held, number: int, results: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    item = held.items[number]
    shape: dict[str, Any] = {
        "job_id": item.job.id,
        "operation": item.job.operation,
        "created_at": moment(item.job.created_at),
        "index": item.index,
        "name": item.name,
        "status": item.status,
        "error": None if item.code is None else {"code": item.code, "detail": item.detail},
    }
    answer = results.get((item.job.id, item.index))
    if answer is not None:
        shape["result"] = _own_part(orjson.loads(answer), {face.id for face in held.faces})
    return shape


def _own_part(answer: dict[str, Any], face_ids: set[str]) -> dict[str, Any] | str:
    """Return what an answer says about the person alone: others have rights, too."""
    faces = answer.get("faces", [])
    own = [face for face in faces if face.get("face_id") in face_ids]
    if own:
        return {**answer, "faces": own, "rejected": []}
    return answer if len(faces) <= 1 else _OTHERS


def _crop_path(held: Held, face_id: str) -> str:
    return f"crops/{held.person.collection.name}/{face_id}.png"


def _page(document: Mapping[str, Any]) -> str:
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>Stored data</title><style>{_STYLE}</style></head><body>",
        f"<h1>Stored data</h1><p>Made at {escape(document['made_at'])}. The file "
        "<code>person.json</code> has the same data for programs.</p>",
    ]
    for each in document["collections"]:
        parts.append(f"<h2>Collection {escape(each['collection'])}</h2>")
        if each["description"]:
            parts.append(f"<p>{escape(each['description'])}</p>")
        days = each["retention_days"]
        kept = "until somebody deletes them" if days is None else f"for {days:g} days"
        parts.append(f"<p>New faces are kept {kept}.</p>{_table(each['record'])}")
        parts += [f"<h3>Faces</h3>{_pictures(each['faces'])}"]
        for title, name in (
            ("Answers kept for repeated requests, made at", "kept_answers"),
            ("Images of jobs", "job_images"),
            ("Entries of the do-not-enrol list", "do_not_enrol"),
        ):
            parts.append(f"<h3>{title}</h3>{_list(each[name])}")
    parts.append(f"<h2>Audit log</h2><p>{escape(document['audit_log'])}</p></body></html>")
    return "".join(parts)


def _table(record: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{_value(value)}</td></tr>"
        for name, value in record.items()
    )
    return f"<table>{rows}</table>"


def _pictures(faces: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for face in faces:
        crop = face["crop"]
        picture = "" if crop is None else f'<p><img src="{escape(crop)}" alt="stored face"></p>'
        numbers = {name: value for name, value in face.items() if name not in ("crop", "embedding")}
        shown.append(picture + _table(numbers))
    return "".join(shown) or "<p>None.</p>"


def _list(items: Sequence[Any]) -> str:
    rows = "".join(f"<li>{_value(each)}</li>" for each in items)
    return f"<ul>{rows}</ul>" if rows else "<p>None.</p>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _table(value) if value else "none"
    if value is None:
        return "none"
    return escape(value if isinstance(value, str) else orjson.dumps(value).decode())
