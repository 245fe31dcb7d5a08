"""All records, opened and closed together."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, insert, not_, select, update
from sqlalchemy.exc import IntegrityError

from gateway.records import clock
from gateway.records.clusters import ClusterRecords
from gateway.records.collections import CollectionRecords
from gateway.records.database import Database, Observer
from gateway.records.faces import FaceRecords
from gateway.records.subjects import SubjectRecords, living
from gateway.records.tables import ANSWERED_FACES, AUDIT, FACES, IDEMPOTENCY
from gateway.records.types import IDEMPOTENCY_SECONDS, Answered, AuditLine


class RecordStore:
    """Collections, faces, subjects, clusters, idempotency and audit in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.collections = CollectionRecords(database)
        self.faces = FaceRecords(database)
        self.subjects = SubjectRecords(database)
        self.clusters = ClusterRecords(database)
        self.answers = AnswerRecords(database)
        self.audit = AuditRecords(database)

    @classmethod
    async def open(cls, url: str) -> "RecordStore":
        """Connect and migrate; see `Database.open`."""
        return cls(await Database.open(url))

    async def health(self) -> str:
        """Read a row and name the database; raises StorageUnavailableError where that fails."""
        return await self._database.health()

    def observe(self, observer: Observer) -> None:
        """Report each transaction to `observer`: its seconds and whether it worked."""
        self._database.observer = observer

    async def close(self) -> None:
        """Close all connections."""
        await self._database.close()


class AnswerRecords:
    """Answers by `Idempotency-Key`, kept a day."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, *, tenant: str, key: str, fingerprint: str) -> Answered | None:
        """Claim a key; returns what is there if it is taken already.

        An answer that names a face whose time is over comes without its body.
        """
        oldest = clock.now() - IDEMPOTENCY_SECONDS
        mine = (IDEMPOTENCY.c.tenant == tenant) & (IDEMPOTENCY.c.key == key)
        row = {
            "tenant": tenant,
            "key": key,
            "fingerprint": fingerprint,
            "created_at": clock.now(),
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    delete(IDEMPOTENCY).where(IDEMPOTENCY.c.created_at < oldest)
                )
                await connection.execute(insert(IDEMPOTENCY).values(row))
        except IntegrityError:
            async with self._database.read() as connection:
                found = (await connection.execute(select(IDEMPOTENCY).where(mine))).mappings()
                taken = found.first()
        else:
            return None
        if taken is None:
            # given back between our two looks
            return await self.begin(tenant=tenant, key=key, fingerprint=fingerprint)
        body = taken["body"]
        if body is not None and await self._names_the_gone(tenant=tenant, key=key):
            body = None
        return Answered(taken["fingerprint"], taken["status"], body)

    async def _names_the_gone(self, *, tenant: str, key: str) -> bool:
        """Whether a kept answer names a face that does not exist any more."""
        query = (
            select(func.count())
            .select_from(ANSWERED_FACES.join(FACES, ANSWERED_FACES.c.face_id == FACES.c.id))
            .where(ANSWERED_FACES.c.tenant == tenant, ANSWERED_FACES.c.key == key)
            .where(not_(living(clock.now())))
        )
        async with self._database.read() as connection:
            return bool((await connection.execute(query)).scalar_one())

    async def finish(
        self, *, tenant: str, key: str, status: int, body: str, face_ids: Collection[str] = ()
    ) -> None:
        """Keep the answer until a day is over or one of the faces that it names is forgotten."""
        mine = (IDEMPOTENCY.c.tenant == tenant) & (IDEMPOTENCY.c.key == key)
        values = {"status": status, "body": body}
        named = [{"tenant": tenant, "key": key, "face_id": each} for each in sorted(set(face_ids))]
        async with self._database.write() as connection:
            await connection.execute(update(IDEMPOTENCY).where(mine).values(values))
            if named:
                await connection.execute(insert(ANSWERED_FACES), named)

    async def give_back(self, *, tenant: str, key: str) -> None:
        """The request failed: the key may be used again."""
        mine = (IDEMPOTENCY.c.tenant == tenant) & (IDEMPOTENCY.c.key == key)
        async with self._database.write() as connection:
            await connection.execute(delete(IDEMPOTENCY).where(mine))

    async def give_back_unfinished(self) -> None:
        """At start: requests that a crash cut off will not finish."""
        async with self._database.write() as connection:
            await connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.status.is_(None)))


class AuditRecords:
    """Who did what to how many."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, line: AuditLine) -> None:
        """Write a line."""
        row = {
            "at": line.at,
            "tenant": line.tenant,
            "actor": line.actor,
            "action": line.action,
            "collection": line.collection,
            "receipt": line.receipt,
            "counts": dict(line.counts),
            "request_id": line.request_id,
        }
        async with self._database.write() as connection:
            await connection.execute(insert(AUDIT).values(row))

    async def latest(self, *, tenant: str, limit: int) -> Sequence[AuditLine]:
        """The newest lines of a tenant, newest first."""
        query = (
            select(AUDIT).where(AUDIT.c.tenant == tenant).order_by(AUDIT.c.id.desc()).limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [AuditLine(**{k: v for k, v in row.items() if k != "id"}) for row in rows]

    async def count(self) -> int:
        """How many lines there are."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(AUDIT))).scalar_one()
