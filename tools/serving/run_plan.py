"""The supervisor's plan, as the preparing process hands it over."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.checkout import name_in_home
from gateway.security.exposure import warning
from tools.clients.listeners import gateway_listeners, gateway_url, triton_listeners
from tools.serving.gateway_part import GatewayPart
from tools.serving.home import Home
from tools.serving.part import Part
from tools.serving.redis_part import RedisPart
from tools.serving.run_settings import RunSettings
from tools.serving.triton_install import Installation
from tools.serving.triton_part import TritonPart
from tools.serving.worker_part import WorkerPart, worker_names

Extent = Literal["all", "triton"]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The parts of a stack whose folders are assembled and whose weights are checked."""

    settings: RunSettings
    extent: Extent
    server: Path | None
    """The unpacked server; None: Triton runs elsewhere."""
    with_redis: bool

    @property
    def home(self) -> Home:
        """Where its state lies."""
        return Home(self.settings.home)

    @property
    def command(self) -> str:
        """The subcommand that serves it."""
        return "serve" if self.extent == "all" else "serve triton"

    @property
    def address(self) -> str:
        """The address for users."""
        return address_of(self.settings, self.extent)

    def parts(self) -> Iterator[Part]:
        """All parts, in the order in which they are started."""
        if self.server is not None:
            yield TritonPart(self.settings, self.home, Installation(self.server))
        if self.extent == "all":
            redis = RedisPart(self.settings, self.home) if self.with_redis else None
            if redis is not None:
                yield redis
            url = redis.url if redis is not None else None
            yield GatewayPart(self.settings, self.home, redis_url=url)
            for name in self.worker_names:
                worker_name = name_in_home(self.home.root, name)
                yield WorkerPart(self.settings, self.home, name, worker_name, url)

    @property
    def worker_names(self) -> tuple[str, ...]:
        """Names of the parts that work on jobs."""
        return worker_names(self.settings.workers) if self.extent == "all" else ()

    def ready_lines(self) -> Iterator[str]:
        """Addresses, for the user."""
        if self.server is not None:
            http, grpc, metrics = triton_listeners(self.settings)
            yield (
                f"Triton is ready: HTTP http://{http.address}, gRPC {grpc.address}, "
                f"metrics http://{metrics.address}/metrics"
            )
        if self.extent == "all":
            open_to = warning(self.settings)
            if open_to is not None:
                yield f"WARNING: {open_to}"
            for grpc in gateway_listeners(self.settings)[1:]:
                secured = "" if self.settings.tls_certificate_file is None else " with TLS"
                yield f"KServe v2 over gRPC{secured}: {grpc.address}"
            yield f"Aurum is ready: {self.address}"

    def to_json(self) -> str:
        """Serialise the plan for `from_json`."""
        server = None if self.server is None else str(self.server)
        return json.dumps([self.settings.to_json(), self.extent, server, self.with_redis])

    @classmethod
    def from_json(cls, text: str) -> "RunPlan":
        """Parse the output of `to_json`."""
        settings, extent, server, with_redis = json.loads(text)
        folder = None if server is None else Path(server)
        return cls(RunSettings.from_json(settings), extent, folder, with_redis)


def address_of(settings: RunSettings, extent: Extent) -> str:
    """Return the address for users."""
    if extent == "all":
        return gateway_url(settings)
    return f"http://{triton_listeners(settings)[0].address}"
