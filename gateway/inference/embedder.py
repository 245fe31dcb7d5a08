"""Aligned faces straight to the version of the embedding stage that makes a space."""

import numpy as np
import numpy.typing as npt

from gateway.deadline import Deadline
from gateway.errors import AurumError, ConflictError, InferenceUnavailableError
from gateway.inference.client import TritonCalls
from gateway.tls import NO_FILES, TlsFiles
from triton_python_backend import contract

_STAGE = contract.EMBEDDING_STAGE.name
_RETRY_SECONDS = 2


class TritonEmbedder:
    """Embeds crops by space, not by version; opened within a running event loop."""

    def __init__(self, address: str, *, files: TlsFiles = NO_FILES) -> None:
        """files: as `TritonCalls`."""
        self._calls = TritonCalls(address, files=files)
        self._versions: dict[str, str] = {}
        self._newest = ""
        self._dimension = 0

    async def embed(
        self, crops: npt.NDArray[np.uint8], *, space: str, deadline: Deadline
    ) -> npt.NDArray[np.float32]:
        """Embed crops ([N,112,112,3] uint8 RGB) in a space: [N,D] float32, unit length.

        Raises: ConflictError if no version in service makes that space; as `Inference.analyse`.
        """
        parts = [
            await self._embed(crops[start : start + contract.MAX_FACES], space, deadline)
            for start in range(0, len(crops), contract.MAX_FACES)
        ]
        return np.concatenate(parts)

    async def current_space(self, *, deadline: Deadline) -> tuple[str, int]:
        """The space of the newest ready version, and the length of its embeddings."""
        await self._learn(deadline)
        if not self._newest:
            raise InferenceUnavailableError(
                "no version of the embedding stage is ready", retry_after_seconds=_RETRY_SECONDS
            )
        return self._newest, self._dimension

    async def close(self) -> None:
        """Close the channel."""
        await self._calls.close()

    async def _embed(
        self, crops: npt.NDArray[np.uint8], space: str, deadline: Deadline
    ) -> npt.NDArray[np.float32]:
        if space in self._versions:
            try:
                made, embeddings = await self._ask(self._versions[space], crops, deadline)
            except InferenceUnavailableError:
                # perhaps only this version is gone: look again
                self._versions.pop(space)
            else:
                if made == space:
                    return embeddings
        await self._learn(deadline)
        if space not in self._versions:
            message = f"no version of the embedding stage in service makes space {space}"
            raise ConflictError(message)
        made, embeddings = await self._ask(self._versions[space], crops, deadline)
        if made != space:
            raise InferenceUnavailableError(
                "the embedding model is being exchanged", retry_after_seconds=1
            )
        return embeddings

    async def _learn(self, deadline: Deadline) -> None:
        """Ask every ready version which space it makes."""
        probe = np.zeros((1, contract.CROP_SIZE, contract.CROP_SIZE, 3), dtype=np.uint8)
        stages = {stage.name: stage for stage in await self._calls.stages(deadline=deadline)}
        versions: dict[str, str] = {}
        # lowest version first: of two that make one space, the newer answers
        for version in stages[_STAGE].versions:
            if not version.ready:
                continue
            try:
                space, embedding = await self._ask(version.version, probe, deadline)
            except AurumError:
                continue
            versions[space] = version.version
            self._newest, self._dimension = space, embedding.shape[-1]
        self._versions = versions

    async def _ask(
        self, version: str, crops: npt.NDArray[np.uint8], deadline: Deadline
    ) -> tuple[str, npt.NDArray[np.float32]]:
        answer = await self._calls.infer(
            _STAGE,
            {contract.CROPS: crops},
            [contract.EMBEDDING, contract.SPACE],
            deadline=deadline,
            version=version,
        )
        space = contract.format_id(int(answer[contract.SPACE].reshape(-1)[0]))
        return space, answer[contract.EMBEDDING].astype(np.float32)
