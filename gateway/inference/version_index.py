"""Which version of a stage carries which id.

Triton's answers name the weights that made them by id. Versions are looked up here: each ready
version of an ONNX stage is asked once for its id, with the smallest request that it accepts.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.client import Array, TritonCalls
from gateway.types import ActiveVersions, StageStatus, StageVersion, Weights
from triton_python_backend import contract

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 30.0
"""Age after which the ids are read again: a version number may get other weights."""
_PATIENCE_SECONDS: Final = 5.0
"""An id that no version carries is not looked up again within this time."""
_PROBE_EDGE: Final = 64
_COMMON_DIMENSIONS: Final = (512, 128, 256)
_NUMPY: Final = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
_LENGTHS_OF: Final = {
    stage.name: tuple(output.tensor for output in stage.face_outputs if output.is_vector)
    for stage in contract.ONNX_STAGES
}
"""Outputs by stage whose length is that of other stages' inputs."""

Clock = Callable[[], float]


class VersionIndex:
    """Ids and versions of the ONNX stages, as the running server answers them."""

    def __init__(self, calls: TritonCalls, *, clock: Clock = time.monotonic) -> None:
        self._calls = calls
        self._clock = clock
        self._versions: dict[tuple[str, int], str] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._gone: set[tuple[str, int]] = set()
        """Ids whose version was not ready when the versions were listed last."""
        self._unknown_since: dict[tuple[str, int], float] = {}
        self._dimensions: list[int] = []
        self._learnt_at = -REFRESH_SECONDS
        self._served: frozenset[tuple[str, str]] = frozenset()
        self._lock = asyncio.Lock()
        self._refreshes = BackgroundTasks()

    async def name(self, stage: str, identifier: int, *, deadline: Deadline) -> Weights:
        """Name the weights behind an id of an answer; version None if no ready version has it."""
        key = (stage, identifier)
        if key not in self._versions and self._worth_asking(key):
            seen_at = self._learnt_at
            async with self._lock:
                # another request may have found it while this one waited for the lock
                if key not in self._versions and self._learnt_at == seen_at:
                    await self._learn(deadline)
            if key not in self._versions:
                self._unknown_since[key] = self._clock()
        elif self._clock() - self._learnt_at > REFRESH_SECONDS:
            self._refresh_aside()
        return Weights(contract.format_id(identifier), self._versions.get(key))

    async def with_ids(
        self, stages: Iterable[StageStatus], *, deadline: Deadline
    ) -> tuple[StageStatus, ...]:
        """Read the ids again and add them to the versions of a status."""
        stages = tuple(stages)
        async with self._lock:
            await self._learn(deadline, stages)
        return tuple(
            StageStatus(stage.name, tuple(self._with_id(stage.name, v) for v in stage.versions))
            for stage in stages
        )

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """Name the newest ready version of each stage. Raises as `TritonCalls.stages`.

        One listing; versions are asked for their ids only if some came, went or are due again.
        """
        listed = await self._calls.stages(deadline=deadline)
        onnx = {stage.name for stage in contract.ONNX_STAGES}
        newest = {
            stage.name: ready[-1].version
            for stage in listed
            if stage.name in onnx and (ready := [each for each in stage.versions if each.ready])
        }
        served = frozenset(
            (s.name, v.version) for s in listed if s.name in onnx for v in s.versions if v.ready
        )
        if served != self._served or self._clock() - self._learnt_at > REFRESH_SECONDS:
            async with self._lock:
                # a removed number may come back with other weights
                for gone in self._ids.keys() - served:
                    del self._ids[gone]
                await self._learn(deadline, listed)
            known = served <= self._ids.keys()
            self._served = served if known else frozenset()
        return {
            stage: Weights(contract.format_id(self._ids[stage, version]), version)
            for stage, version in newest.items()
            if (stage, version) in self._ids
        }

    async def close(self) -> None:
        """Stop a refresh under way."""
        await self._refreshes.close()

    def _with_id(self, stage: str, version: StageVersion) -> StageVersion:
        found = self._ids.get((stage, version.version)) if version.ready else None
        text = None if found is None else contract.format_id(found)
        return StageVersion(version.version, version.state, version.reason, text)

    def _worth_asking(self, key: tuple[str, int]) -> bool:
        since = self._unknown_since.get(key)
        return since is None or self._clock() - since > _PATIENCE_SECONDS

    def _refresh_aside(self) -> None:
        if not self._refreshes:
            self._refreshes.start("versions", self._refresh())

    async def _refresh(self) -> None:
        async with self._lock:
            await self._learn(Deadline.after(_PATIENCE_SECONDS))

    async def _learn(self, deadline: Deadline, stages: tuple[StageStatus, ...] = ()) -> None:
        """Ask every ready version for its id; one that does not answer stays unknown."""
        try:
            listed = stages or await self._calls.stages(deadline=deadline)
        except AurumError as error:
            log.warning("versions not listed", extra={"reason": error.detail})
            return
        ready = {stage.name: [v.version for v in stage.versions if v.ready] for stage in listed}
        for stage in contract.ONNX_STAGES:
            for version in ready.get(stage.name, []):
                try:
                    identifier = await self._probe(stage.name, version, deadline)
                except AurumError as error:
                    reason = {"stage": stage.name, "version": version, "reason": error.detail}
                    log.warning("version does not answer its id", extra=reason)
                    continue
                self._ids[stage.name, version] = identifier
                self._versions[stage.name, identifier] = version
        self._forget_gone(ready)
        self._unknown_since.clear()
        self._learnt_at = self._clock()

    def _forget_gone(self, ready: Mapping[str, Sequence[str]]) -> None:
        """Forget the numbers of ids that other weights have now, or that are gone for long.

        The same weights may come back under another number. Until the second listing without a
        version, answers that were under way when it went are still named.
        """
        gone = set()
        for (stage, identifier), version in list(self._versions.items()):
            if version not in ready.get(stage, ()):
                gone.add((stage, identifier))
            elif self._ids.get((stage, version), identifier) != identifier:
                del self._versions[stage, identifier]
        for key in gone & self._gone:
            del self._versions[key]
        self._gone = gone - self._gone

    async def _probe(self, stage: str, version: str, deadline: Deadline) -> int:
        """Ask a version for its id.

        Triton does not report how long the vectors are that a network takes: lengths are tried,
        those of the vectors that other networks make first.
        """
        lengths = [*self._dimensions, *(d for d in _COMMON_DIMENSIONS if d not in self._dimensions)]
        refusal = AurumError("no length of a vector tried")
        wanted = [contract.ID_OUTPUT[stage], *_LENGTHS_OF[stage]]
        for inputs in smallest_inputs(stage, lengths):
            try:
                answer = await self._calls.infer(
                    stage, inputs, wanted, deadline=deadline, version=version
                )
            except AurumError as error:
                refusal = error
                continue
            for output in _LENGTHS_OF[stage]:
                dimension = answer[output].shape[-1]
                if dimension not in self._dimensions:
                    self._dimensions.insert(0, dimension)
            return int(answer[contract.ID_OUTPUT[stage]].reshape(-1)[0])
        raise refusal


def smallest_inputs(stage: str, lengths: Iterable[int]) -> Iterator[dict[str, Array]]:
    """Make one row of zeros for each input of an ONNX stage, once for each length of a vector.

    Without a vector of free length among its inputs, once.
    """
    (found,) = (each for each in contract.ONNX_STAGES if each.name == stage)
    is_free = any(tensor.dims == (-1,) for tensor in found.inputs)
    for length in lengths if is_free else (_PROBE_EDGE,):
        yield {
            tensor.name: np.zeros(
                (1, *(length if size < 0 else size for size in tensor.dims)), _NUMPY[tensor.dtype]
            )
            for tensor in found.inputs
        }
