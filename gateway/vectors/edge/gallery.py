"""One vector collection on Qdrant Edge: shards that grow by merging.

New points go to the one open shard, which stays small and is searched exhaustively. A full shard is
sealed, and a new one is opened. `index_builder` indexes sealed shards and merges indexed shards of
about the same size, in a process beside the running engine. So enrolment costs the same in a small
and in a large collection, and a search visits few shards. A shard with deleted points is rebuilt
after a while, too: only then do their bytes leave the disk. The file `manifest.json` lists the
shards of the collection; a folder that it does not list was left by a crash and is removed.
"""

import heapq
import math
import shutil
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
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
from gateway.vectors.edge.folder import ShardFolder, empty_shard
from gateway.vectors.edge.index_builder import start_build, write_chunk, write_plan
from gateway.vectors.edge.protocol import MANIFEST
from gateway.vectors.edge.shard import EdgeShard
from gateway.vectors.edge.shards import Choice, Part, Rebuild, choose
from gateway.vectors.payload import VERSION

_SPOOL_CHUNK = 64
"""Points read at a time; that takes 4 ms, by which it may delay a search."""
_RETIRED_SECONDS = 30.0
"""Longest time that a replaced shard stays open, waiting for the engine to be idle."""
_LONGEST_PAUSE_SECONDS = 600.0
"""Longest pause after failed rebuilds; the first is 2 s, and each is twice the previous."""
_GROUP_FACTOR = 4
_MAX_CANDIDATES = 4096


class Gallery:
    """The shards of one vector collection; used by one thread."""

    def __init__(
        self, folder: Path, name: str, dimension: int, tuning: VectorTuning, files: Executor
    ) -> None:
        self.name = name
        self.dimension = dimension
        self._folder = ShardFolder(folder, files)
        self._tuning = tuning
        self._parts: list[Part] = []
        self._build: Rebuild | None = None
        self._build_failures = 0
        self._paused_until = 0.0
        self._purged_last = False
        self._open_points = 0
        self._spare: Future[str] | None = None
        self._retired: deque[tuple[float, str, EdgeShard, Future[None]]] = deque()

    @classmethod
    def create(
        cls, folder: Path, name: str, dimension: int, tuning: VectorTuning, files: Executor
    ) -> "Gallery":
        """Create an empty collection in a new folder."""
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        gallery = cls(folder, name, dimension, tuning, files)
        gallery._folder.remove_all_but(())
        gallery._open_new()
        return gallery

    @classmethod
    def load(cls, folder: Path, tuning: VectorTuning, files: Executor) -> "Gallery":
        """Open the shards of the manifest and remove all other folders."""
        home = ShardFolder(folder, files)
        manifest = home.read()
        gallery = cls(folder, manifest["name"], manifest["dimension"], tuning, files)
        gallery._folder = home
        for entry in manifest["shards"]:
            shard = EdgeShard.load(folder / entry["folder"], tuning)
            # older manifests have no time of the deletion
            since = entry.get("forgotten_at")
            if manifest.get("payload", 1) < VERSION and shard.count(FaceFilter()):
                # a rebuild writes the payload in its new form
                since = 0.0
            part = Part(entry["folder"], entry["built"], shard, entry["written"], since)
            gallery._parts.append(part)
        gallery._open_points = gallery._parts[-1].shard.count(FaceFilter())
        home.remove_all_but(part.folder for part in gallery._parts)
        return gallery

    # Points ------------------------------------------------------------------------------------

    def upsert(self, points: Sequence[FacePoint]) -> None:
        """Write points to the open shard, and remove older ones of these ids from the others."""
        for point in points:
            if point.vector.shape != (self.dimension,):
                message = f"a vector of {point.vector.shape} in a collection of {self.dimension}"
                raise DimensionMismatchError(message)
        latest = {point.face_id: point for point in points}
        self._parts[-1].shard.upsert(latest.values())
        self._delete_from(self._parts[:-1], list(latest))
        self._open_points = self._parts[-1].shard.count(FaceFilter())
        if self._open_points >= self._tuning.seal_points:
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
        """Return the nearest faces of all shards; see `VectorStore.search`."""
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
            # all matches that the shards have not returned yet have at most `unseen_below`
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
        """Return points by id."""
        return tuple(point for part in self._parts for point in part.shard.retrieve(face_ids))

    def count(self, where: FaceFilter) -> int:
        """Return the exact number of points."""
        return sum(part.shard.count(where) for part in self._parts)

    def info(self) -> VectorInfo:
        """Return the state of the collection."""
        return VectorInfo(
            dimension=self.dimension,
            points=self.count(FaceFilter()),
            indexed=sum(part.shard.indexed() for part in self._parts if part.built),
            shards=len(self._parts),
        )

    def flush(self) -> None:
        """Sync everything to the disk; a shard replays its log when it is loaded."""
        for part in self._parts:
            part.shard.sync()

    def folders(self) -> list[Path]:
        """Return the folders of the shards."""
        return [self._folder.path / part.folder for part in self._parts]

    def close(self) -> None:
        """Stop a build, flush, and release the folder."""
        if self._build is not None:
            self._abandon_build()
        for part in self._parts:
            part.shard.close()
        self._parts = []
        while self._retired:
            self._remove_retired()

    def drop(self) -> None:
        """Close and remove all files, the manifest first, so that a crash leaves only garbage."""
        self.close()
        if self._spare is not None:
            self._spare.result()
        (self._folder.path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._folder.path, ignore_errors=True)
        if self._folder.path.exists():
            # a thread was removing a shard at the same time
            shutil.rmtree(self._folder.path)

    # Growing -----------------------------------------------------------------------------------

    def maintain(self, *, idle: bool) -> bool:
        """Do a few milliseconds of maintenance; True if there may be more to do now.

        idle: no request has arrived for a while.
        """
        if self._retired and self._retired[0][3].done():
            overdue = self._retired[0][0] < time.monotonic() - _RETIRED_SECONDS
            if idle or overdue:
                self._remove_retired()
                return True
        if self._spare is None and self._open_points >= self._tuning.seal_points / 2:
            self._spare = self._copy_empty()
        if self._build is None:
            choice = self._choose() if time.monotonic() >= self._paused_until else None
            if choice is not None:
                self._begin_build(choice)
            return choice is not None
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

    def _choose(self) -> Choice | None:
        before = time.time() - self._tuning.purge_seconds
        since = self._parts[-1].forgotten_at
        if since is not None and since <= before:
            self._seal()
        return choose(
            self._parts[:-1],
            seal_points=self._tuning.seal_points,
            forgotten_before=before,
            purged_last=self._purged_last,
        )

    def _begin_build(self, choice: Choice) -> None:
        target = self._folder.new_name()
        spool = self._folder.path / f"{target}.spool"
        write_plan(spool, dimension=self.dimension, tuning=self._tuning)
        self._purged_last = choice.purges
        self._build = Rebuild(choice.sources, spool, target, 0, None, 0, 0, set(), None)

    def _spool_some(self, build: Rebuild) -> None:
        if build.source == len(build.sources):
            if build.points:
                build.process = start_build(build.spool, self._folder.path / build.target)
            else:
                # all its points were deleted
                self._replace(build, None)
            return
        part = next(p for p in self._parts if p.folder == build.sources[build.source])
        points = part.shard.scroll(limit=_SPOOL_CHUNK + 1, cursor=build.cursor, where=FaceFilter())
        write_chunk(build.spool, build.chunks, points[:_SPOOL_CHUNK])
        build.chunks += 1
        build.points += len(points[:_SPOOL_CHUNK])
        if len(points) > _SPOOL_CHUNK:
            build.cursor = points[_SPOOL_CHUNK].face_id
        else:
            build.source, build.cursor = build.source + 1, None

    def _finish_build(self, build: Rebuild, code: int) -> None:
        if code != 0:
            self._abandon_build()
            self._build_failures += 1
            pause = min(2.0**self._build_failures, _LONGEST_PAUSE_SECONDS)
            self._paused_until = time.monotonic() + pause
            message = f"rebuilding a shard of {self.name} ended with {code}, again in {pause:.0f} s"
            raise ChildProcessError(message)
        shard = EdgeShard.load(self._folder.path / build.target, self._tuning)
        since = None
        if build.removed:
            shard.delete(sorted(build.removed))
            shard.sync()
            since = time.time()
        self._replace(build, Part(build.target, True, shard, build.points, since))

    def _replace(self, build: Rebuild, made: Part | None) -> None:
        """Replace the sources by the built shard; they are removed while the engine is idle."""
        old = [part for part in self._parts if part.folder in build.sources]
        position = self._parts.index(old[0])
        self._parts = [part for part in self._parts if part not in old]
        if made is not None:
            self._parts.insert(position, made)
        self._build = None
        self._build_failures = 0
        self._write_manifest()
        self._folder.remove_later(build.spool)
        for part in old:
            synced = self._folder.sync_later(part.folder)
            self._retired.append((time.monotonic(), part.folder, part.shard, synced))

    def _remove_retired(self) -> None:
        # closing writes dirty data, which takes 0.01 to 0.3 s: one at a time
        _, folder, shard, synced = self._retired.popleft()
        wait([synced])
        shard.close()
        self._folder.remove_later(self._folder.path / folder)

    def _abandon_build(self) -> None:
        build = self._build
        self._build = None
        if build is None:
            return
        if build.process is not None:
            build.process.kill()
            build.process.wait()
        shutil.rmtree(build.spool, ignore_errors=True)
        shutil.rmtree(self._folder.path / build.target, ignore_errors=True)

    def _seal(self) -> None:
        full = self._parts[-1]
        full.shard.sync()
        full.written = full.shard.count(FaceFilter())
        self._open_new()

    def _open_new(self) -> None:
        spare = self._spare or self._copy_empty()
        self._spare = None
        folder = spare.result()
        shard = EdgeShard.load(self._folder.path / folder, self._tuning)
        self._parts.append(Part(folder, False, shard, 0))
        self._open_points = 0
        self._write_manifest()

    def _copy_empty(self) -> "Future[str]":
        root = self._folder.path.parent
        empty = empty_shard(root, dimension=self.dimension, tuning=self._tuning)
        return self._folder.copy_empty(empty)

    def _delete_from(self, parts: Sequence[Part], face_ids: Sequence[str]) -> int:
        found = [(part, part.shard.existing(face_ids)) for part in parts] if face_ids else []
        found = [(part, ids) for part, ids in found if ids]
        first = [part for part, _ in found if part.forgotten_at is None]
        if first:
            # recorded before the deletion: a crash in between causes only a needless rebuild
            for part in first:
                part.forgotten_at = time.time()
            self._write_manifest()
        for part, ids in found:
            part.shard.delete(ids)
            if self._build is not None and part.folder in self._build.sources:
                self._build.removed.update(ids)
        return sum(len(ids) for _, ids in found)

    def _write_manifest(self) -> None:
        self._folder.write(name=self.name, dimension=self.dimension, parts=self._parts)


def _rank(match: Match) -> tuple[float, str]:
    return (-match.similarity, match.face_id)
