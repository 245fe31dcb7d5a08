"""All records, opened and closed together."""

from gateway.circuit_breaker import StateObserver
from gateway.records.audit import AuditRecords, ChainKeys
from gateway.records.clusters import ClusterRecords
from gateway.records.collections import CollectionRecords
from gateway.records.database import TIMEOUT_SECONDS, Database, Observer
from gateway.records.erasures import ErasureRecords
from gateway.records.face_spaces import FaceSpaceRecords
from gateway.records.faces import FaceRecords
from gateway.records.idempotency import IdempotencyRecords
from gateway.records.job_erasure import JobErasure
from gateway.records.job_progress import JobProgress
from gateway.records.job_queue import JobQueue
from gateway.records.jobs import JobRecords
from gateway.records.keys import ApiKeyRecords
from gateway.records.metadata_seal import MetadataSeal
from gateway.records.presence import Presence
from gateway.records.refusals import RefusalRecords
from gateway.records.sealed_rows import SealedRows
from gateway.records.subjects import SubjectRecords
from gateway.records.unfinished import UnfinishedFaces
from gateway.records.usage import UsageRecords
from gateway.tls import NO_FILES, TlsFiles


class RecordStore:
    """All records of one database, by what they are about."""

    def __init__(
        self,
        database: Database,
        audit_keys: ChainKeys | None = None,
        metadata_seal: MetadataSeal | None = None,
    ) -> None:
        self._database = database
        seal = metadata_seal or MetadataSeal()
        self.collections = CollectionRecords(database)
        self.presence = Presence(database)
        self.faces = FaceRecords(database, self.presence, seal)
        self.face_spaces = FaceSpaceRecords(database, seal)
        self.unfinished = UnfinishedFaces(database)
        self.subjects = SubjectRecords(database, seal)
        self.erasures = ErasureRecords(database)
        self.refusals = RefusalRecords(database)
        self.clusters = ClusterRecords(database)
        self.idempotency = IdempotencyRecords(database, self.presence)
        self.audit = AuditRecords(database, audit_keys)
        self.keys = ApiKeyRecords(database)
        self.usage = UsageRecords(database)
        self.sealed = SealedRows(database)
        self.jobs = JobRecords(database)
        self.job_queue = JobQueue(database)
        self.job_progress = JobProgress(database)
        self.job_erasure = JobErasure(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        observer: StateObserver = lambda _: None,
        files: TlsFiles = NO_FILES,
        audit_keys: ChainKeys | None = None,
        metadata_seal: MetadataSeal | None = None,
    ) -> "RecordStore":
        """Connect and migrate; see `Database.open`.

        audit_keys: see `AuditRecords`. metadata_seal: of faces and subjects; none by default.
        """
        database = await Database.open(
            url, timeout_seconds=timeout_seconds, observer=observer, files=files
        )
        return cls(database, audit_keys, metadata_seal)

    async def health(self) -> str:
        """Read a row and name the database; raises StorageUnavailableError where that fails."""
        return await self._database.health()

    async def empty_log(self) -> None:
        """Let the bytes of deleted rows leave the disk; see `Database.empty_log`."""
        await self._database.empty_log()

    def observe(self, observer: Observer) -> None:
        """Report each transaction to `observer`: its seconds and whether it worked."""
        self._database.observer = observer

    async def close(self) -> None:
        """Close all connections."""
        await self.audit.settle()
        await self._database.close()
