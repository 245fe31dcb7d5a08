"""Records of clustering: the latest run of a collection and the cluster of each face."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from gateway.records import clock
from gateway.records.database import Database
from gateway.records.subjects import living
from gateway.records.tables import CLUSTER_MEMBERS, CLUSTER_RUNS, FACES
from gateway.records.types import Cluster, ClusterRun

_ROWS_AT_ONCE = 1000


class ClusterRecords:
    """Clusters by collection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: ClusterRun) -> None:
        """Replace the previous run by a new one; its clusters stay until the new one is done."""
        mine = CLUSTER_RUNS.c.collection_id == run.collection_id
        row = {
            "collection_id": run.collection_id,
            "run_id": run.run_id,
            "state": run.state,
            "threshold": run.threshold,
            "total": run.total,
            "done": run.done,
            "detail": run.detail,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
        }
        async with self._database.write() as connection:
            await connection.execute(delete(CLUSTER_RUNS).where(mine))
            await connection.execute(insert(CLUSTER_RUNS).values(row))

    async def latest(self, collection_id: str) -> ClusterRun | None:
        """Return the latest run, finished or not."""
        query = select(CLUSTER_RUNS).where(CLUSTER_RUNS.c.collection_id == collection_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _run(row)

    async def running(self) -> tuple[ClusterRun, ...]:
        """Return unfinished runs, for a start after a crash."""
        query = select(CLUSTER_RUNS).where(CLUSTER_RUNS.c.state == "running")
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(_run(row) for row in rows)

    async def progress(self, run: ClusterRun, done: int) -> None:
        """Write the progress of a run."""
        query = update(CLUSTER_RUNS).where(CLUSTER_RUNS.c.run_id == run.run_id).values(done=done)
        async with self._database.write() as connection:
            await connection.execute(query)

    async def fail(self, run: ClusterRun, detail: str, *, at: float) -> None:
        """Mark a run as failed; the clusters of the previous one stay."""
        values = {"state": "failed", "detail": detail, "finished_at": at}
        query = update(CLUSTER_RUNS).where(CLUSTER_RUNS.c.run_id == run.run_id).values(values)
        async with self._database.write() as connection:
            await connection.execute(query)

    async def finish(self, run: ClusterRun, members: Mapping[str, str], *, at: float) -> None:
        """Replace the clusters of the previous run by (face id -> cluster id), atomically.

        Faces forgotten since the run began are left out.
        """
        async with self._database.write() as connection:
            mine = CLUSTER_MEMBERS.c.collection_id == run.collection_id
            await connection.execute(delete(CLUSTER_MEMBERS).where(mine))
            alive = select(FACES.c.id).where(
                FACES.c.collection_id == run.collection_id, living(clock.now())
            )
            known = set((await connection.execute(alive)).scalars())
            rows = [
                {"face_id": face, "collection_id": run.collection_id, "cluster_id": cluster}
                for face, cluster in members.items()
                if face in known
            ]
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                await connection.execute(
                    insert(CLUSTER_MEMBERS), rows[start : start + _ROWS_AT_ONCE]
                )
            values = {"state": "done", "done": run.total, "finished_at": at}
            await connection.execute(
                update(CLUSTER_RUNS).where(CLUSTER_RUNS.c.run_id == run.run_id).values(values)
            )

    async def members(self, collection_id: str) -> dict[str, str]:
        """Return face id -> cluster id of the latest finished run."""
        query = select(CLUSTER_MEMBERS.c.face_id, CLUSTER_MEMBERS.c.cluster_id).where(
            CLUSTER_MEMBERS.c.collection_id == collection_id
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {face: cluster for face, cluster in rows}

    async def page(
        self, collection_id: str, *, limit: int, after: str | None
    ) -> tuple[Cluster, ...]:
        """Return clusters by id, behind the id `after`, with the faces that exist."""
        own = and_(CLUSTER_MEMBERS.c.collection_id == collection_id, living(clock.now()))
        together = CLUSTER_MEMBERS.join(FACES, FACES.c.id == CLUSTER_MEMBERS.c.face_id)
        ids = select(CLUSTER_MEMBERS.c.cluster_id).select_from(together).where(own).distinct()
        if after is not None:
            ids = ids.where(CLUSTER_MEMBERS.c.cluster_id > after)
        ids = ids.order_by(CLUSTER_MEMBERS.c.cluster_id).limit(limit)
        members = (
            select(CLUSTER_MEMBERS.c.cluster_id, FACES.c.id, FACES.c.subject)
            .select_from(together)
            .where(own)
            .order_by(CLUSTER_MEMBERS.c.cluster_id, FACES.c.id)
        )
        async with self._database.read() as connection:
            wanted = list((await connection.execute(ids)).scalars())
            if not wanted:
                return ()
            rows = (
                await connection.execute(members.where(CLUSTER_MEMBERS.c.cluster_id.in_(wanted)))
            ).all()
        faces: dict[str, list[str]] = {}
        subjects: dict[str, Counter[str]] = {}
        for cluster, face, subject in rows:
            faces.setdefault(cluster, []).append(face)
            subjects.setdefault(cluster, Counter())[subject] += 1
        return tuple(
            Cluster(cluster, len(faces[cluster]), dict(subjects[cluster]), tuple(faces[cluster]))
            for cluster in wanted
            if cluster in faces
        )


def _run(row: RowMapping) -> ClusterRun:
    return ClusterRun(**row)
