"""The calls that are offered, and who may make them. All others of KServe v2 are refused."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gateway.grpc import handlers
from gateway.grpc.call import GrpcCall
from gateway.security.roles import Permission

Handler = Callable[[GrpcCall, bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Rpc:
    """A call.

    permission: what a caller must be allowed to do.
    kind: `ask` about the server or a model; `infer` once; `stream` of inferences.
    handler: answers what is asked.
    """

    permission: Permission
    kind: Literal["ask", "infer", "stream"]
    handler: Handler | None = None


RPCS: Final[Mapping[str, Rpc]] = {
    "ServerLive": Rpc(Permission.INFER, "ask", handlers.server_live),
    "ServerReady": Rpc(Permission.INFER, "ask", handlers.server_ready),
    "ServerMetadata": Rpc(Permission.INFER, "ask", handlers.server_metadata),
    "ModelReady": Rpc(Permission.INFER, "ask", handlers.model_ready),
    "ModelMetadata": Rpc(Permission.INFER, "ask", handlers.model_metadata),
    "ModelConfig": Rpc(Permission.INFER, "ask", handlers.model_config),
    "ModelInfer": Rpc(Permission.INFER, "infer"),
    "ModelStreamInfer": Rpc(Permission.INFER, "stream"),
}
"""By name. Repository control, statistics, shared memory, trace and log settings are not here."""
OTHERS: Final = Rpc(Permission.INFER, "ask")
"""Whatever else is called: the key is checked before it is said that there is no such call."""
