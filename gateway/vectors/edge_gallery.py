"""Rank 2: one vector collection on Qdrant Edge: shards that grow by merging.

New points go to the one open shard, which is searched exhaustively and stays small. When it is
full it is sealed, and a new one is opened; sealed shards are indexed, and four indexed ones of
about the same size are merged into one, each time by `edge_build` beside the running engine. So
enrolment costs the same in a small and in a large collection, and a search asks a number of
shards that grows with the logarithm of the collection. The file `manifest.json` alone says which
shards belong; what it does not name is rubbish of a crash and removed.
"""

import heapq
import json
import math
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.vectors.base import (
    DimensionMismatchError,
    FaceFilter,
    FacePoint,
    Match,
    Vector,
    VectorInfo,
    VectorPage,
    VectorTuning,
)
from gateway.vectors.edge_build import start_build, write_chunk, write_plan
from gateway.vectors.edge_frames import MANIFEST
from gateway.vectors.edge_shard import EdgeShard

MERGE_FAN_IN = 4
_MOST_SOURCES = 16
_SPOOL_CHUNK = 250
_VACUUM_FRACTION = 0.2
_GROUP_FACTOR = 4
_MAX_CANDIDATES = 4096


@dataclass(slots=True)
class _Part:
    folder: str
    built: bool
    shard: EdgeShard
    written: int
    """Points when it was sealed or built; what is missing since then was deleted."""


@dataclass(slots=True)
class _Build:
    """A merge under way: spooling (process is None), then indexing."""

    sources: tuple[str, ...]
    spool: Path
    target: str
    source: int
    cursor: str | None
    chunks: int
    points: int
    removed: set[str]
    """Ids deleted from a source since it was spooled."""
    process: "subprocess.Popen[bytes] | None"


class Gallery:
    """The shards of one vector collection. Used by one thread."""

    def __init__(self, folder: Path, name: str, dimension: int, tuning: VectorTuning) -> None:
        self.name = name
        self.dimension = dimension
        self._folder = folder
        self._tuning = tuning
        self._parts: list[_Part] = []
        self._next = 1
        self._build: _Build | None = None
        self._build_failures = 0

    @classmethod
    def create(cls, folder: Path, name: str, dimension: int, tuning: VectorTuning) -> "Gallery":
        """Make an empty collection in a new folder."""
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        gallery = cls(folder, name, dimension, tuning)
        gallery._remove_unknown()
        gallery._open_new()
        return gallery

    @classmethod
    def load(cls, folder: Path, tuning: VectorTuning) -> "Gallery":
        """Open what the manifest names and remove everything else."""
        manifest = json.loads((folder / MANIFEST).read_text())
        gallery = cls(folder, manifest["name"], manifest["dimension"], tuning)
        gallery._next = manifest["next"]
        for entry in manifest["shards"]:
            shard = EdgeShard.load(folder / entry["folder"], tuning)
            gallery._parts.append(_Part(entry["folder"], entry["built"], shard, entry["written"]))
        gallery._remove_unknown()
        return gallery

    # Points ------------------------------------------------------------------------------------

    def upsert(self, points: Sequence[FacePoint]) -> None:
        """Write points to the open shard, and take older ones of these ids out of the others."""
        for point in points:
            if point.vector.shape != (self.dimension,):
                message = f"a vector of {point.vector.shape} in a collection of {self.dimension}"
                raise DimensionMismatchError(message)
        latest = {point.face_id: point for point in points}
        self._parts[-1].shard.upsert(latest.values())
        self._delete_from(self._parts[:-1], list(latest))
        if self._parts[-1].shard.count(FaceFilter()) >= self._tuning.seal_points:
            self._seal()

    def delete(self, face_ids: Sequence[str]) -> int:
        """Remove points by id from every shard."""
        return self._delete_from(self._parts, face_ids)

    def delete_subject(self, subject: str) -> int:
        """Remove all points of a subject."""
        ids = [face_id for part in self._parts for face_id in part.shard.ids_of(subject)]
        return self._delete_from(self._parts, ids)

    def search(
        self,
        vector: Vector,
        *,
        limit: int,
        min_similarity: float,
        where: FaceFilter,
        by_subject: bool,
    ) -> tuple[Match, ...]:
        """The nearest faces over all shards; see `VectorStore.search`."""
        if vector.shape != (self.dimension,):
            message = f"a vector of {vector.shape} against a collection of {self.dimension}"
            raise DimensionMismatchError(message)
        fetch = limit * _GROUP_FACTOR if by_subject else limit
        while True:
            best: dict[str, Match] = {}
            unseen_below = -math.inf
            for part in self._parts:
                hits = part.shard.search(
                    vector, limit=fetch, min_similarity=min_similarity, where=where
                )
                if len(hits) == fetch:
                    unseen_below = max(unseen_below, hits[-1].similarity)
                for hit in hits:
                    key = hit.subject if by_subject else hit.face_id
                    if key not in best or hit.similarity > best[key].similarity:
                        best[key] = hit
            # what no shard has shown yet lies at or below `unseen_below`
            certain = sum(hit.similarity >= unseen_below for hit in best.values())
            if certain >= limit or unseen_below == -math.inf or fetch >= _MAX_CANDIDATES:
                return tuple(heapq.nsmallest(limit, best.values(), key=_rank))
            fetch = min(fetch * _GROUP_FACTOR, _MAX_CANDIDATES)

    def scroll(self, *, limit: int, cursor: str | None, where: FaceFilter) -> VectorPage:
        """Merge the shards' points by id."""
        seen: dict[str, FacePoint] = {}
        for part in self._parts:
            for point in part.shard.scroll(limit=limit + 1, cursor=cursor, where=where):
                seen[point.face_id] = point
        ordered = sorted(seen)[: limit + 1]
        following = ordered[limit] if len(ordered) > limit else None
        return VectorPage(tuple(seen[face_id] for face_id in ordered[:limit]), following)

    def retrieve(self, face_ids: Sequence[str]) -> tuple[FacePoint, ...]:
        """Points by id."""
        return tuple(point for part in self._parts for point in part.shard.retrieve(face_ids))

    def count(self, where: FaceFilter) -> int:
        """Exact number of points."""
        return sum(part.shard.count(where) for part in self._parts)

    def info(self) -> VectorInfo:
        """The state of the collection."""
        return VectorInfo(
            dimension=self.dimension,
            points=self.count(FaceFilter()),
            indexed=sum(part.shard.indexed() for part in self._parts if part.built),
            shards=len(self._parts),
        )

    def flush(self) -> None:
        """Bring everything to the disk: what a shard's log says is replayed when it is loaded."""
        for part in self._parts:
            part.shard.sync()

    def folders(self) -> list[Path]:
        """The folders of the shards."""
        return [self._folder / part.folder for part in self._parts]

    def close(self) -> None:
        """Stop a build, flush, release the folder."""
        if self._build is not None:
            self._abandon_build()
        for part in self._parts:
            part.shard.close()
        self._parts = []

    def drop(self) -> None:
        """Close and remove all files; the manifest goes first, so that a crash leaves rubbish."""
        self.close()
        (self._folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._folder)

    # Growing -----------------------------------------------------------------------------------

    def maintain(self) -> bool:
        """Do a few milliseconds of upkeep; True if there may be more to do at once."""
        if self._build is None:
            sources = self._choose()
            if not sources:
                return False
            self._begin_build(sources)
            return True
        if self._build.process is None:
            self._spool_some(self._build)
            return True
        if self._build.process.poll() is None:
            return False
        self._finish_build(self._build, self._build.process.returncode)
        return True

    @property
    def building(self) -> bool:
        """Whether a build is spooling or indexing."""
        return self._build is not None

    def _choose(self) -> tuple[str, ...]:
        sealed = self._parts[:-1]
        waiting = [part.folder for part in sealed if not part.built]
        if len(waiting) >= MERGE_FAN_IN:
            # faces come faster than they are indexed: index many at once instead of twice
            return tuple(waiting[:_MOST_SOURCES])
        if waiting:
            return (waiting[0],)
        tiers = Counter(self._tier(part) for part in sealed)
        for tier, number in sorted(tiers.items()):
            if number >= MERGE_FAN_IN:
                return tuple(part.folder for part in sealed if self._tier(part) == tier)
        for part in sealed:
            if part.shard.count(FaceFilter()) <= part.written * (1 - _VACUUM_FRACTION):
                return (part.folder,)
        return ()

    def _tier(self, part: _Part) -> int:
        ratio = max(part.written / self._tuning.seal_points, 1)
        return int(math.log(ratio, MERGE_FAN_IN) + 1e-9)

    def _begin_build(self, sources: tuple[str, ...]) -> None:
        target = self._new_folder()
        spool = self._folder / f"{target}.spool"
        write_plan(spool, dimension=self.dimension, tuning=self._tuning)
        self._build = _Build(sources, spool, target, 0, None, 0, 0, set(), None)

    def _spool_some(self, build: _Build) -> None:
        if build.source == len(build.sources):
            build.process = start_build(build.spool, self._folder / build.target)
            return
        part = self._part(build.sources[build.source])
        points = part.shard.scroll(limit=_SPOOL_CHUNK + 1, cursor=build.cursor, where=FaceFilter())
        write_chunk(build.spool, build.chunks, points[:_SPOOL_CHUNK])
        build.chunks += 1
        build.points += len(points[:_SPOOL_CHUNK])
        if len(points) > _SPOOL_CHUNK:
            build.cursor = points[_SPOOL_CHUNK].face_id
        else:
            build.source, build.cursor = build.source + 1, None

    def _finish_build(self, build: _Build, code: int) -> None:
        if code != 0:
            self._abandon_build()
            self._build_failures += 1
            message = f"indexing a shard of {self.name} ended with {code}"
            raise ChildProcessError(message)
        shard = EdgeShard.load(self._folder / build.target, self._tuning)
        if build.removed:
            shard.delete(sorted(build.removed))
            shard.flush()
        old = [part for part in self._parts if part.folder in build.sources]
        position = self._parts.index(old[0])
        self._parts = [part for part in self._parts if part not in old]
        self._parts.insert(position, _Part(build.target, True, shard, build.points))
        self._build = None
        self._build_failures = 0
        self._write_manifest()
        shutil.rmtree(build.spool)
        for part in old:
            part.shard.close()
            shutil.rmtree(self._folder / part.folder)

    def _abandon_build(self) -> None:
        build = self._build
        self._build = None
        if build is None:
            return
        if build.process is not None:
            build.process.kill()
            build.process.wait()
        shutil.rmtree(build.spool, ignore_errors=True)
        shutil.rmtree(self._folder / build.target, ignore_errors=True)

    @property
    def build_failures(self) -> int:
        """Builds that failed since the last one that did not."""
        return self._build_failures

    def _seal(self) -> None:
        full = self._parts[-1]
        full.shard.sync()
        full.written = full.shard.count(FaceFilter())
        self._open_new()

    def _open_new(self) -> None:
        folder = self._new_folder()
        shard = EdgeShard.create(
            self._folder / folder, dimension=self.dimension, tuning=self._tuning, indexed=False
        )
        shard.flush()
        self._parts.append(_Part(folder, False, shard, 0))
        self._write_manifest()

    def _new_folder(self) -> str:
        folder = f"{self._next:06d}"
        self._next += 1
        return folder

    def _part(self, folder: str) -> _Part:
        return next(part for part in self._parts if part.folder == folder)

    def _delete_from(self, parts: Sequence[_Part], face_ids: Sequence[str]) -> int:
        removed = 0
        for part in parts:
            found = part.shard.existing(face_ids) if face_ids else []
            if not found:
                continue
            part.shard.delete(found)
            removed += len(found)
            if self._build is not None and part.folder in self._build.sources:
                self._build.removed.update(found)
        return removed

    def _write_manifest(self) -> None:
        manifest = {
            "name": self.name,
            "dimension": self.dimension,
            "next": self._next,
            "shards": [
                {"folder": part.folder, "built": part.built, "written": part.written}
                for part in self._parts
            ],
        }
        temporary = self._folder / f"{MANIFEST}.new"
        with temporary.open("w") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / MANIFEST)

    def _remove_unknown(self) -> None:
        known = {part.folder for part in self._parts} | {MANIFEST}
        for path in self._folder.iterdir():
            if path.name in known:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _rank(match: Match) -> tuple[float, str]:
    return (-match.similarity, match.face_id)
