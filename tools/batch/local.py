"""Answers as the service does, by the networks of the model repository in this process."""

import asyncio
import json
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from gateway.api.context import dump_json
from gateway.api.faces.schemas import FacesOut
from gateway.api.faces.serializers import faces_out
from gateway.error_policy import POLICIES
from gateway.errors import AurumError, ConfigurationError, NoFaceError
from gateway.images import ImageLimits, check_image
from gateway.inference.local import LocalEnsemble
from gateway.pipeline import Result, Timings, select
from gateway.settings import Settings
from gateway.types import Need
from tools.batch.asking import Reply
from tools.batch.options import FaceSelection
from tools.errors import BatchError
from triton_python_backend.contract import Look


class LocalEngine:
    """Scores photos without a service, a few at a time."""

    def __init__(self, settings: Settings, selection: FaceSelection, *, parallel: int) -> None:
        """Load the newest version of each network; raises BatchError where there is none."""
        try:
            self._ensemble = LocalEnsemble(settings.model_repository)
        except ConfigurationError as error:
            raise BatchError(str(error)) from error
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_megapixels)
        self._need = Need.SCORE if settings.scoring == "on" else Need.NOTHING_MORE
        self._most = selection.max_faces or settings.max_faces
        self._min_confidence = selection.min_confidence
        self._look = Look(max(self._most, settings.max_faces), detail=selection.detail)
        # more threads than cores only add memory: a network keeps a core busy
        threads = max(min(parallel, os.cpu_count() or 1), 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="score")

    async def score(self, image: bytes) -> Reply:
        """Answer as `POST /api/ml/score`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._reply, image)

    def close(self) -> None:
        """End the threads; what runs ends first."""
        self._pool.shutdown(cancel_futures=True)

    def _reply(self, image: bytes) -> Reply:
        try:
            return Reply(200, json.loads(dump_json(self._answer(image))))
        except AurumError as error:
            body = {"code": error.code, "detail": error.detail}
            return Reply(POLICIES[error.code].status, body)

    def _answer(self, image: bytes) -> FacesOut:
        started = time.perf_counter()
        checked = check_image(image, self._limits)
        validated = time.perf_counter()
        analysis = self._ensemble.analyse(image, self._need, self._look)
        inferred = time.perf_counter()
        faces = select(analysis.faces, self._most, self._min_confidence)
        if not faces:
            raise NoFaceError("the image shows no face")
        found = sum(each >= self._min_confidence for each in analysis.confidences)
        took = Timings(
            1000 * (validated - started), 1000 * (inferred - validated), 1000 * (inferred - started)
        )
        result = Result(checked, replace(analysis, faces=faces), took, False, found)
        return faces_out(result, request_id=uuid.uuid4().hex, need=self._need, total_ms=took.total)
