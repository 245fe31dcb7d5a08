"""All records, opened and closed together."""

from gateway.circuit_breaker import StateObserver
from gateway.records.audit import AuditRecords
from gateway.records.clusters import ClusterRecords
from gateway.records.collections import CollectionRecords
from gateway.records.database import TIMEOUT_SECONDS, Database, Observer
from gateway.records.faces import FaceRecords
from gateway.records.idempotency import IdempotencyRecords
from gateway.records.job_progress import JobProgress
from gateway.records.job_queue import JobQueue
from gateway.records.jobs import JobRecords
from gateway.records.keys import ApiKeyRecords
from gateway.records.subjects import SubjectRecords
from gateway.records.usage import UsageRecords
from gateway.tls import NO_FILES, TlsFiles


class RecordStore:
    """All records of one database, by what they are about."""

    """Collections, faces, subjects, clusters, idempotency, audit and jobs in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.collections = CollectionRecords(database)
        self.faces = FaceRecords(database)
        self.subjects = SubjectRecords(database)
        self.clusters = ClusterRecords(database)
        self.idempotency = IdempotencyRecords(database)
        self.audit = AuditRecords(database)
        self.keys = ApiKeyRecords(database)
        self.usage = UsageRecords(database)
        self.jobs = JobRecords(database)
        self.job_queue = JobQueue(database)
        self.job_progress = JobProgress(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        observer: StateObserver = lambda _: None,
        files: TlsFiles = NO_FILES,
    ) -> "RecordStore":
        """Connect and migrate; see `Database.open`."""
        return cls(
            await Database.open(
                url, timeout_seconds=timeout_seconds, observer=observer, files=files
            )
        )

    async def health(self) -> str:
        """Read a row and name the database; raises StorageUnavailableError where that fails."""
        return await self._database.health()

    def observe(self, observer: Observer) -> None:
        """Report each transaction to `observer`: its seconds and whether it worked."""
        self._database.observer = observer

    async def close(self) -> None:
        """Close all connections."""
        await self._database.close()
