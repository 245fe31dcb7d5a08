"""One Qdrant Edge shard. Every call blocks and holds the interpreter lock."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import qdrant_edge as qe

from gateway.durable_files import sync_path
from gateway.vectors.base import FaceFilter, FacePoint, Match, Vector, VectorTuning
from gateway.vectors.payload import (
    FLAGS,
    KEYWORD_FIELDS,
    SUBJECT,
    flag,
    metadata_field,
    read_match,
    read_point,
    write_payload,
)

_FULL_SCAN_KB = 10_000
_INDEX_ALWAYS_KB = 1
_NEVER_INDEX_KB = 1 << 40
_MEMORY = qe.Memory.Cold
"""Memory-mapped and read when first touched. `Cached` reads everything from the disk (bypassing the
page cache) when it loads a shard, and answers nothing meanwhile: 3 s for 10,000 faces on a busy
disk; `Cold` takes 0.2 s. `warm` fills the page cache in the background."""
_READ_BYTES = 1 << 20
_LOG_FOLDER = "wal"
_SEGMENTS = "segments"
_LOG_OPEN = "open-"


class EdgeShard:
    """A folder of points; indexed shards have a graph, others are searched exhaustively."""

    def __init__(self, folder: Path, shard: qe.EdgeShard, tuning: VectorTuning) -> None:
        self._shard = shard
        self._log = folder / _LOG_FOLDER
        self._synced: set[str] = set()
        self._dirty = True
        self._params = qe.SearchParams(
            hnsw_ef=tuning.hnsw_ef_search,
            quantization=qe.QuantizationSearchParams(
                ignore=tuning.quantization == "off",
                rescore=True,
                oversampling=tuning.oversampling,
            ),
        )

    @classmethod
    def create(
        cls, folder: Path, *, dimension: int, tuning: VectorTuning, indexed: bool
    ) -> "EdgeShard":
        """Create an empty shard; `indexed`: `optimize` builds its graph."""
        folder.mkdir(parents=True)
        quantization = (
            qe.ScalarQuantizationConfig(type=qe.ScalarType.Int8, quantile=0.99, memory=_MEMORY)
            if indexed and tuning.quantization == "int8"
            else None
        )
        config = qe.EdgeConfig(
            vectors=qe.EdgeVectorParams(
                size=dimension, distance=qe.Distance.Cosine, memory=_MEMORY
            ),
            hnsw_config=qe.HnswIndexConfig(
                m=tuning.hnsw_m,
                ef_construct=tuning.hnsw_ef_construct,
                full_scan_threshold=_FULL_SCAN_KB,
                max_indexing_threads=tuning.threads,
                memory=_MEMORY,
            ),
            quantization_config=quantization,
            optimizers=qe.EdgeOptimizersConfig(
                default_segment_number=1,
                indexing_threshold=_INDEX_ALWAYS_KB if indexed else _NEVER_INDEX_KB,
            ),
            max_search_threads=tuning.threads,
        )
        shard = qe.EdgeShard.create(str(folder), config)
        for name in KEYWORD_FIELDS:
            shard.update(qe.UpdateOperation.create_field_index(name, qe.KeywordIndexParams()))
        for key in tuning.indexed_metadata:
            shard.update(
                qe.UpdateOperation.create_field_index(metadata_field(key), qe.KeywordIndexParams())
            )
        return cls(folder, shard, tuning)

    @classmethod
    def load(cls, folder: Path, tuning: VectorTuning) -> "EdgeShard":
        """Open a shard; its write-ahead log is replayed."""
        return cls(folder, qe.EdgeShard.load(str(folder)), tuning)

    def upsert(self, points: Iterable[FacePoint]) -> None:
        """Write points, in one record of the write-ahead log."""
        batch = [qe.Point(p.face_id, p.vector.tolist(), write_payload(p)) for p in points]
        self._dirty = True
        self._shard.update(qe.UpdateOperation.upsert_points(batch))

    def existing(self, face_ids: Sequence[str]) -> list[str]:
        """Return the ids that the shard contains."""
        found = self._shard.retrieve(list(face_ids), with_payload=False, with_vector=False)
        return [str(record.id) for record in found]

    def delete(self, face_ids: Sequence[str]) -> None:
        """Remove points by id."""
        self._dirty = True
        self._shard.update(qe.UpdateOperation.delete_points(list(face_ids)))

    def search(
        self, vector: Vector, *, limit: int, min_similarity: float, where: FaceFilter
    ) -> list[Match]:
        """Return the nearest points, best first, not grouped."""
        request = qe.QueryRequest(
            limit=limit,
            query=qe.Query.Nearest(vector.tolist()),
            with_payload=True,
            filter=_filter(where),
            score_threshold=min_similarity,
            params=self._params,
        )
        return [
            read_match(str(hit.id), hit.score, hit.payload or {})
            for hit in self._shard.query(request)
        ]

    def scroll(self, *, limit: int, cursor: str | None, where: FaceFilter) -> list[FacePoint]:
        """Return points from `cursor` on, sorted by id."""
        request = qe.ScrollRequest(
            offset=cursor, limit=limit, filter=_filter(where), with_payload=True, with_vector=True
        )
        records, _ = self._shard.scroll(request)
        return [read_point(str(r.id), r.vector, r.payload or {}) for r in records]

    def ids_of(self, subject: str) -> list[str]:
        """Return all face ids of a subject."""
        found: list[str] = []
        offset = None
        while True:
            records, offset = self._shard.scroll(
                qe.ScrollRequest(
                    offset=offset,
                    limit=1000,
                    filter=_filter(FaceFilter(subject)),
                    with_payload=False,
                    with_vector=False,
                )
            )
            found += [str(record.id) for record in records]
            if offset is None:
                return found

    def retrieve(self, face_ids: Sequence[str]) -> list[FacePoint]:
        """Return the existing points of these ids."""
        records = self._shard.retrieve(list(face_ids), with_payload=True, with_vector=True)
        return [read_point(str(r.id), r.vector, r.payload or {}) for r in records]

    def count(self, where: FaceFilter) -> int:
        """Return the exact number of points."""
        return self._shard.count(qe.CountRequest(exact=True, filter=_filter(where)))

    def indexed(self) -> int:
        """Return the number of vectors in an HNSW graph."""
        return self._shard.info().indexed_vectors_count

    def optimize(self) -> None:
        """Build the graph; takes minutes for a large shard and holds the interpreter lock."""
        self._shard.optimize()

    def sync(self) -> None:
        """Sync the write-ahead log to the disk, in 5 ms; that survives a power cut.

        Loading replays the log over the last flushed state of the segments.
        """
        if not self._dirty:
            return
        for file in sorted(self._log.iterdir()):
            if file.name in self._synced:
                continue
            sync_path(file)
            if not file.name.startswith(_LOG_OPEN):
                # a full log file does not change any more
                self._synced.add(file.name)
        sync_path(self._log)
        self._dirty = False

    def flush(self) -> None:
        """Sync the segments, too, and truncate the log; takes 80 to 150 ms."""
        self._shard.flush()
        self._synced.clear()
        self._dirty = True
        self.sync()

    def close(self) -> None:
        """Flush and release the lock of the folder."""
        self._shard.close()


def warm(folder: Path) -> None:
    """Read a shard's segments once, so that searches find them in the page cache."""
    for path in sorted((folder / _SEGMENTS).rglob("*")):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
                while file.read(_READ_BYTES):
                    pass


def _filter(where: FaceFilter) -> qe.Filter | None:
    must: list[qe.FieldCondition | qe.Filter] = []
    if where.subject is not None:
        must.append(qe.FieldCondition(SUBJECT, match=qe.MatchValue(where.subject)))
    for key, value in where.metadata.items():
        path = metadata_field(key)
        if isinstance(value, bool):
            must.append(qe.FieldCondition(FLAGS, match=qe.MatchValue(flag(key, value))))
        elif isinstance(value, str):
            must.append(qe.FieldCondition(path, match=qe.MatchValue(value)))
        else:
            # a match finds integers only, and metadata has no integer that a double cannot
            # represent. The text of a float is exact
            number = qe.FieldCondition(path, range=qe.RangeFloat(gte=value, lte=value))
            text = qe.FieldCondition(FLAGS, match=qe.MatchValue(flag(key, value)))
            must.append(qe.Filter(should=[number, text]))
    must_not = [qe.HasIdCondition(set(where.without))] if where.without else []
    return qe.Filter(must=list(must), must_not=list(must_not)) if must or must_not else None
