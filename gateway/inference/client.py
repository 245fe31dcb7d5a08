"""One gRPC channel to Triton: requests in, typed errors out."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc
import numpy as np
import numpy.typing as npt
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random,
)
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.error_policy import may_retry
from gateway.errors import (
    AurumError,
    ConfigurationError,
    InferenceUnavailableError,
    InvalidImageError,
    RequestTimeoutError,
)
from gateway.inference.work_done import WorkDone, sum_up
from gateway.renewed_client import RenewedClient
from gateway.tls import NO_FILES, Pem, TlsFiles
from gateway.types import StageStatus, StageVersion
from triton_python_backend import contract

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

RETRY_AFTER_SECONDS: Final = 2
"""When a client may try again while Triton is away; its supervisor restarts it."""
_ATTEMPTS: Final = 2
_JITTER_SECONDS: Final = (0.02, 0.15)
_LONGEST_REASON: Final = 200
_LEFT_ALONE_SECONDS: Final = 60.0
"""How long past its deadline an abandoned call goes on before it is cancelled."""
_CLOSING_SECONDS: Final = 5.0

CHANNEL: Final[list[tuple[str, int | str]]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # find a restarted Triton at once; gRPC would wait up to two minutes
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # channels of one process to one address share a connection (and its backoff) without this
    ("grpc.use_local_subchannel_pool", 1),
    # a name with several addresses is several Tritons, which take turns; the name is looked up
    # again when one of them closes its connection
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
]
_TOO_LATE: Final = "StatusCode.DEADLINE_EXCEEDED"
_ABSENT: Final = frozenset(
    f"StatusCode.{code}" for code in ("UNAVAILABLE", "NOT_FOUND", "CANCELLED")
)


_BROKEN: Final = (
    # a Python stage whose process died says so as an internal error, and is started again
    "Stub process",
    # gRPC's own words for bytes that are no HTTP/2, or no message
    "Stream removed",
    "Failed parsing HTTP/2",
    "deserializing",
)
_STUMBLES: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading an answer raises that has no sense; gRPC answers None for an unreadable message."""


class TritonCalls:
    """The calls that the gateway makes, on one channel; opened within a running event loop.

    priority: of all its requests; 0 for the default of each model.
    """

    def __init__(self, address: str, *, priority: int = 0, files: TlsFiles = NO_FILES) -> None:
        """files: certificates; their authorities switch encryption on.

        Raises ConfigurationError for a file that cannot be used.
        """
        self._priority = priority

        def connect(pem: Pem) -> InferenceServerClient:
            credentials = channel_credentials(files, pem)
            return InferenceServerClient(address, creds=credentials, channel_args=CHANNEL)

        self._clients = RenewedClient(files, connect, lambda client: client.close())
        self._under_way = BackgroundTasks()

    @property
    def _client(self) -> InferenceServerClient:
        return self._clients.now()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        deadline: Deadline,
        version: str = "",
        attempts: int = _ATTEMPTS,
        parameters: Mapping[str, int | str] | None = None,
    ) -> dict[str, Array]:
        """Run a model and return the outputs asked for, by name.

        A Triton that is not there is tried again after a short random wait, `attempts` in all.

        Raises: as `Inference.analyse`; AurumError ("internal") for what should not happen.
        """
        tensors = [_tensor(name, value) for name, value in inputs.items()]
        wanted = [InferRequestedOutput(name) for name in outputs]

        async def attempt() -> dict[str, Array]:
            seconds = deadline.remaining_seconds()
            try:
                answer = await self._uncancelled(
                    model, tensors, version, wanted, parameters, seconds
                )
            except TimeoutError as error:
                raise RequestTimeoutError("inference did not answer within the deadline") from error
            except InferenceServerException as error:
                raise translate(error) from error
            with readable():
                return {name: _output(answer.as_numpy(name), name) for name in outputs}

        def give_up(state: RetryCallState) -> bool:
            enough = stop_after_attempt(attempts)(state)
            return enough or not deadline.allows(_JITTER_SECONDS[1])

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_retry),
            stop=give_up,
            wait=wait_random(*_JITTER_SECONDS),
            reraise=True,
        )
        return await retrying(attempt)

    async def _uncancelled(
        self,
        model: str,
        tensors: list[InferInput],
        version: str,
        wanted: list[InferRequestedOutput],
        parameters: Mapping[str, int | str] | None,
        seconds: float,
    ) -> Any:
        """Wait for an answer; an abandoned call goes on.

        Triton 24.10 can crash (signal 11) when a call to the ensemble is cancelled while other
        calls run: a caller that hangs up must not take the server down.
        """
        call = self._client.infer(
            model,
            tensors,
            version,
            wanted,
            priority=self._priority,
            client_timeout=seconds + _LEFT_ALONE_SECONDS,
            parameters=dict(parameters) if parameters else None,
        )
        return await self._under_way.outlast(f"call-{model}", call, seconds=seconds)

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """List the stages of the contract with their versions, as Triton's index has them."""
        return await self.listed([stage.name for stage in contract.STAGES], deadline=deadline)

    async def listed(
        self, names: Collection[str], *, deadline: Deadline
    ) -> tuple[StageStatus, ...]:
        """List models with their versions, lowest first; without any where there is no such one."""
        seconds = deadline.remaining_seconds()
        try:
            index = await self._client.get_model_repository_index(client_timeout=seconds)
        except InferenceServerException as error:
            raise translate(error) from error
        versions: dict[str, list[StageVersion]] = {name: [] for name in names}
        with readable():
            for entry in index.models:
                if entry.name in versions and entry.version:
                    version = StageVersion(entry.version, entry.state, entry.reason)
                    versions[entry.name].append(version)
            return tuple(
                StageStatus(name, tuple(sorted(found, key=lambda each: int(each.version))))
                for name, found in versions.items()
            )

    async def work_done(self, *, deadline: Deadline) -> WorkDone:
        """Sum up what all models did since Triton started."""
        seconds = deadline.remaining_seconds()
        try:
            answer = await self._client.get_inference_statistics(client_timeout=seconds)
        except InferenceServerException as error:
            raise translate(error) from error
        return sum_up(answer.model_stats)

    async def parameter(self, model: str, key: str, *, deadline: Deadline) -> str | None:
        """Read a parameter of a model's configuration; None if it has none of this name."""
        seconds = deadline.remaining_seconds()
        try:
            answer = await self._client.get_model_config(model, client_timeout=seconds)
        except InferenceServerException as error:
            raise translate(error) from error
        with readable():
            parameters = answer.config.parameters
            return str(parameters[key].string_value) if key in parameters else None

    async def close(self) -> None:
        """Close the channel; calls under way have a moment, then end with an error."""
        await self._under_way.settle(seconds=_CLOSING_SECONDS)
        await self._clients.close()


def channel_credentials(files: TlsFiles, pem: Pem) -> grpc.ChannelCredentials | None:
    """Return what encrypts a channel to Triton; None without authorities: plain text.

    pem: what the files contain. Raises ConfigurationError for a certificate without authorities.
    """
    if pem.ca is None:
        if pem.certificate is not None:
            message = f"{files.certificate_variable} is set: set {files.ca_variable}, too"
            raise ConfigurationError(message)
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=pem.ca, private_key=pem.key, certificate_chain=pem.certificate
    )


@contextmanager
def readable() -> Iterator[None]:
    """Treat an answer on which reading stumbles as one of a Triton that is not there."""
    try:
        yield
    except _STUMBLES as error:
        log.exception("triton answered nonsense")
        raise _unavailable() from error


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, AurumError) and may_retry(error)


def translate(error: InferenceServerException) -> AurumError:
    """Turn an error of Triton or gRPC into one of ours, with a detail fit for clients."""
    status, text = str(error.status()), str(error.message())
    undecodable = find_undecodable(text)
    if undecodable is not None:
        return undecodable
    if status == _TOO_LATE:
        return RequestTimeoutError("inference did not answer within the deadline")
    if status in _ABSENT or any(words in text for words in _BROKEN):
        log.warning("triton unavailable", extra={"status": status, "reason": text})
        return _unavailable()
    log.error("triton failed", extra={"status": status, "reason": text})
    return AurumError("inference failed")


def _unavailable() -> InferenceUnavailableError:
    return InferenceUnavailableError(
        "inference is not available at the moment", retry_after_seconds=RETRY_AFTER_SECONDS
    )


def find_undecodable(text: str) -> InvalidImageError | None:
    """Give the error if Triton's text says that a stage could not decode the image."""
    _, found, reason = text.partition(contract.INVALID_IMAGE)
    if not found:
        return None
    # what a stage says may run on over several lines; the first is for the client
    lines = reason.lstrip(" :").splitlines()
    first = lines[0][:_LONGEST_REASON] if lines else "not decodable"
    return InvalidImageError(f"the image cannot be decoded: {first}")


def _tensor(name: str, value: Array) -> InferInput:
    kind = "BYTES" if value.dtype == np.object_ else np_to_triton_dtype(value.dtype)
    tensor = InferInput(name, list(value.shape), kind)
    tensor.set_data_from_numpy(value)
    return tensor


def _output(value: Array | None, name: str) -> Array:
    if value is None:
        message = f"Triton answered without {name}"
        raise LookupError(message)
    return value
