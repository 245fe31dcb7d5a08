"""The main engine: the ensembles on a Triton server, over gRPC."""

import numpy as np

from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.answer import read_beyond, read_faces, read_ids, read_rotation
from gateway.inference.client import TritonCalls, readable
from gateway.inference.version_index import VersionIndex
from gateway.inference.work_done import WorkDone
from gateway.tls import NO_FILES, TlsFiles
from gateway.types import ActiveVersions, Analysis, EngineStatus, Need, StageStatus
from triton_python_backend import contract
from triton_python_backend.needs import ensemble_for, outputs_for


class TritonInference:
    """`Inference` by a Triton server; opened within a running event loop.

    priority: of its requests, as in `config.pbtxt`; 0 for the default.
    """

    def __init__(self, address: str, *, priority: int = 0, files: TlsFiles = NO_FILES) -> None:
        """files: as `TritonCalls`."""
        self._address = address
        self._calls = TritonCalls(address, priority=priority, files=files)
        self._versions = VersionIndex(self._calls)

    async def analyse(
        self,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: contract.Look = contract.DEFAULT_LOOK,
    ) -> Analysis:
        """See `Inference.analyse`. Triton runs only the stages whose outputs are asked for."""
        answer = await self._calls.infer(
            ensemble_for(need),
            {contract.IMAGE: np.array([image], dtype=np.object_)},
            outputs_for(need),
            deadline=deadline,
            parameters=look.parameters(),
        )
        with readable():
            ids = dict(read_ids(answer))
            faces, beyond = read_faces(answer, need), read_beyond(answer)
            rotation = read_rotation(answer)
        if contract.DETECTION.name not in ids:
            raise AurumError("inference failed")
        weights = {
            stage: await self._versions.name(stage, identifier, deadline=deadline)
            for stage, identifier in ids.items()
        }
        return Analysis(faces=faces, weights=weights, beyond=beyond, rotation=rotation)

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """See `Inference.status`."""
        try:
            stages = await self._calls.stages(deadline=deadline)
        except AurumError as error:
            return EngineStatus(False, f"{self._address}: {error.detail}", ())
        return EngineStatus(True, self._address, stages)

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """See `Inference.stages`."""
        stages = await self._calls.stages(deadline=deadline)
        return await self._versions.with_ids(stages, deadline=deadline)

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """See `Inference.in_service`."""
        return await self._versions.in_service(deadline=deadline)

    async def work_done(self, *, deadline: Deadline) -> WorkDone:
        """Sum up what Triton did for all its callers since it started. Raises as `analyse`."""
        return await self._calls.work_done(deadline=deadline)

    async def close(self) -> None:
        """See `Inference.close`."""
        await self._versions.close()
        await self._calls.close()
