"""What each bulk command asks for every photo, and how its answers are read."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

from tools.batch.asking import Reply, Request, Service
from tools.batch.options import FaceSelection
from tools.batch.subjects import SubjectError, SubjectSource
from tools.batch.types import Line, Outcome, Photo
from tools.errors import BatchError

Row = dict[str, Any]
Mark = Mapping[str, Any]
"""A face to draw: `box`, `label`, perhaps `landmarks`."""
_NO_FACE: Final = "no_face"


class Order(Protocol):
    """One command. header: members of each of its lines."""

    header: Mapping[str, str]

    @property
    def columns(self) -> Mapping[str, type]:
        """Columns of its rows with their types, beyond those that all commands have."""

    async def answer(self, photo: Photo) -> Line:
        """Ask for a photo; raises BatchError if no other photo would be answered either."""

    def rows(self, line: Line) -> Iterator[Row]:
        """Give the values of `columns`, once for each face of an answer."""

    def marks(self, line: Line) -> list[Mark]:
        """List the faces to draw."""


class ScoreOrder:
    """`aurum score`; ask: gets the encoded image, answers as `/api/ml/score`."""

    columns: Final[Mapping[str, type]] = {
        "face": int,
        "x1": float,
        "y1": float,
        "x2": float,
        "y2": float,
        "confidence": float,
        "score": float,
        "acceptable": bool,
    }

    def __init__(self, ask: Callable[[bytes], Awaitable[Reply]]) -> None:
        self.header: Mapping[str, str] = {"command": "score"}
        self._ask = ask

    async def answer(self, photo: Photo) -> Line:
        """See `Order.answer`."""
        return _read(photo, await self._ask(photo.data))

    def rows(self, line: Line) -> Iterator[Row]:
        """See `Order.rows`."""
        for number, face in enumerate(_faces(line)):
            yield {
                "face": number,
                **dict(zip(("x1", "y1", "x2", "y2"), face["box"], strict=True)),
                "confidence": face["confidence"],
                "score": face.get("score"),
                "acceptable": face["quality"]["acceptable"],
            }

    def marks(self, line: Line) -> list[Mark]:
        """See `Order.marks`."""
        return [
            {
                "box": face["box"],
                "landmarks": face["landmarks"],
                "label": _score_label(face),
            }
            for face in _faces(line)
        ]


class SearchOrder:
    """`aurum search COLLECTION`."""

    columns: Final[Mapping[str, type]] = {
        "face": int,
        "subject": str,
        "similarity": float,
        "matches": int,
        "face_id": str,
        "threshold": float,
    }

    def __init__(self, service: Service, collection: str, fields: Mapping[str, str]) -> None:
        self.header: Mapping[str, str] = {"command": "search", "collection": collection}
        self._service = service
        self._path = f"{_collection_path(collection)}/search"
        self._fields = fields

    async def answer(self, photo: Photo) -> Line:
        """See `Order.answer`."""
        request = Request(self._path, self._fields, image=photo.data)
        return _read(photo, await self._service.ask(request))

    def rows(self, line: Line) -> Iterator[Row]:
        """See `Order.rows`."""
        threshold = None if line.answer is None else line.answer.get("threshold")
        for number, face in enumerate(_faces(line)):
            best = face["matches"][0] if face["matches"] else {}
            yield {
                "face": number,
                "subject": best.get("subject"),
                "similarity": best.get("similarity"),
                "matches": len(face["matches"]),
                "face_id": best.get("face_id"),
                "threshold": threshold,
            }

    def marks(self, line: Line) -> list[Mark]:
        """See `Order.marks`."""
        return [
            {"box": face["box"], "label": _match_label(face)}
            for face in _faces(line)
            if face["box"] is not None
        ]


class EnrolOrder:
    """`aurum enrol COLLECTION`: each photo for one subject, once."""

    columns: Final[Mapping[str, type]] = {
        "subject": str,
        "face": int,
        "face_id": str,
        "duplicate": bool,
        "x1": float,
        "y1": float,
        "x2": float,
        "y2": float,
    }

    def __init__(
        self,
        service: Service,
        collection: str,
        subjects: SubjectSource,
        fields: Mapping[str, str],
    ) -> None:
        self.header: Mapping[str, str] = {"command": "enrol", "collection": collection}
        self._service = service
        self._collection = collection
        self._path = _collection_path(collection)
        self._subjects = subjects
        self._fields = fields
        self._named: set[str] = set()

    async def answer(self, photo: Photo) -> Line:
        """See `Order.answer`."""
        try:
            subject = self._subjects.of(photo)
        except SubjectError as error:
            wrong = {"code": "no_subject", "detail": str(error)}
            return Line.failed(photo, wrong, Outcome.REFUSED)
        reply = await self._enrol(photo, subject.name, self._key(photo, subject.name))
        if not reply.is_good:
            outcome = Outcome.REFUSED if reply.status < 500 else Outcome.FAILED
            return Line.failed(photo, reply.body, outcome, subject=subject.name)
        if subject.display_name and subject.name not in self._named:
            named = await self._name(subject.name, subject.display_name)
            if not named.is_good:
                return Line.failed(photo, named.body, subject=subject.name)
            self._named.add(subject.name)
        again = reply.replayed or all(face["duplicate"] for face in reply.body["faces"])
        outcome = Outcome.DUPLICATE if again else Outcome.ENROLLED
        more = {"subject": subject.name}
        return Line(photo.name, photo.sha256, outcome, answer=reply.body, more=more)

    def rows(self, line: Line) -> Iterator[Row]:
        """See `Order.rows`."""
        faces = _faces(line)
        if not faces:
            yield {"subject": line.more.get("subject")}
        for number, face in enumerate(faces):
            box = face["box"] or (None,) * 4
            yield {
                "subject": face["subject"],
                "face": number,
                "face_id": face["face_id"],
                "duplicate": line.outcome is Outcome.DUPLICATE,
                **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
            }

    def marks(self, line: Line) -> list[Mark]:
        """See `Order.marks`."""
        return [
            {"box": face["box"], "label": face["subject"]}
            for face in _faces(line)
            if face["box"] is not None
        ]

    async def _enrol(self, photo: Photo, subject: str, key: str) -> Reply:
        fields = {**self._fields, "subject": subject}
        request = Request(f"{self._path}/faces", fields, photo.data, {"Idempotency-Key": key})
        reply = await self._service.ask(request)
        if reply.status == 404 and not key.endswith("~"):
            # deleted since it was enrolled with this key, or there is no such collection
            return await self._enrol(photo, subject, f"{key}~")
        if reply.refuses_all:
            raise reply.problem()
        return reply

    async def _name(self, subject: str, display_name: str) -> Reply:
        path = f"{self._path}/subjects/{quote(subject, safe='')}"
        request = Request(path, {"display_name": display_name}, method="PATCH")
        return await self._service.ask(request)

    def _key(self, photo: Photo, subject: str) -> str:
        # all that makes it another request
        parts = (self._collection, subject, photo.sha256, *map(str, sorted(self._fields.items())))
        return "aurum-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def score_path(selection: FaceSelection) -> str:
    """Return the path of `/api/ml/score` with what differs from the defaults."""
    default = FaceSelection()
    query = {
        name: str(getattr(selection, name))
        for name in ("max_faces", "min_confidence", "detail")
        if getattr(selection, name) != getattr(default, name)
    }
    return "/api/ml/score" + (f"?{urlencode(query)}" if query else "")


async def need_collection(service: Service, collection: str, *, create: bool = False) -> bool:
    """Check that a collection exists; returns whether it was made now.

    Raises:
        BatchError: it does not exist and shall not be made, or its name is refused.
    """
    reply = await service.ask(Request(_collection_path(collection), method="GET"))
    if reply.is_good:
        return False
    if reply.code == "forbidden" and not create:
        # a key that may enrol need not be one that may look
        return False
    if reply.code not in ("not_found", "forbidden"):
        raise reply.problem()
    if not create:
        raise BatchError(f"there is no collection {collection}")
    reply = await service.ask(Request("/api/collections", {"name": collection}))
    # another process may have been faster
    if not reply.is_good and reply.code != "conflict":
        raise reply.problem()
    return reply.is_good


def _collection_path(collection: str) -> str:
    return f"/api/collections/{quote(collection, safe='')}"


def _read(photo: Photo, reply: Reply) -> Line:
    if reply.is_good:
        return Line(photo.name, photo.sha256, Outcome.ANSWERED, answer=reply.body)
    if reply.refuses_all:
        raise reply.problem()
    outcome = Outcome.NO_FACE if reply.code == _NO_FACE else Outcome.FAILED
    return Line.failed(photo, reply.body, outcome)


def _faces(line: Line) -> list[Mapping[str, Any]]:
    return [] if line.answer is None else list(line.answer.get("faces", []))


def _score_label(face: Mapping[str, Any]) -> str:
    score = face.get("score")
    return f"{face['confidence']:.2f}" if score is None else f"score {score:.1f}"


def _match_label(face: Mapping[str, Any]) -> str:
    if not face["matches"]:
        return "no match"
    best = face["matches"][0]
    return f"{best['subject']} {best['similarity']:.2f}"
