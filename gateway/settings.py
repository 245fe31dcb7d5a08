"""Every setting of gateway and tools, once: one frozen class, prefix `AURUM_`.

A variable that no field knows stops the start with its name, so that a misspelt one is not
silently ignored. Only `AURUM_TEST_*` is left to the test suite.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.checkout import CHECKOUT as CHECKOUT
from gateway.checkout import PREFIX as PREFIX
from gateway.errors import ConfigurationError
from triton_python_backend.contract import MAX_FACES, MOST_FACES

_FREE_PREFIX = "AURUM_TEST_"


class Settings(BaseSettings):
    """All settings. Each field is the variable `AURUM_<FIELD>`, its unit the end of its name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    home: Path = Path(".aurum")
    """Folder of all state: environment of Triton, logs, records, caches."""
    host: str = "127.0.0.1"
    """Address that all listeners bind, Triton's HTTP apart, which stays on this machine."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Port of the gateway."""

    triton_http_port: int = Field(default=8000, ge=1, le=65535)
    """Port of Triton's KServe v2 HTTP, on this machine only; clients use `/v2` of the gateway."""
    triton_grpc_port: int = Field(default=8001, ge=1, le=65535)
    """Port of Triton's KServe v2 gRPC."""
    triton_metrics_port: int = Field(default=8002, ge=1, le=65535)
    """Port of Triton's Prometheus metrics."""
    triton_grpc_url: str | None = None
    """`host:port` of a Triton that runs elsewhere; unset: the one that this program starts."""
    triton_http_url: str | None = None
    """`http://host:port` of KServe v2 of a Triton that runs elsewhere, for `/v2` of the gateway."""
    triton_start_timeout_seconds: float = Field(default=120.0, gt=0)
    """How long Triton may take until all stages are ready."""

    model_repository: Path = CHECKOUT / "model_repository"
    """The folder that Triton serves."""
    model_mirror: str | None = None
    """Folder (or URL) that holds weights, tried before any other source."""
    model_cache: Path | None = None
    """Folder in which fetched packs are kept, for several homes; else one below `home`."""
    onnx_backend: Literal["auto", "compiled", "python"] = "auto"
    """What runs networks in the wheel's Triton: `compiled`, within the server, some percent faster
    (needs a C++ compiler at the first start); `python`, a process for each instance; `auto`:
    compiled where that is possible."""
    scoring: Literal["on", "off"] = "on"
    """`off`: no scores are computed or shown; everything else works."""

    max_image_bytes: int = Field(default=10 * 1024 * 1024, gt=0)
    """Largest encoded image in bytes."""
    max_image_megapixels: float = Field(default=40.0, gt=0)
    """Largest image in millions of pixels, read from its header."""
    max_tensor_bytes: int = Field(default=20 * 1024 * 1024, gt=0)
    """Largest body of a KServe request (`/v2`) in bytes, unpacked; one that holds an image of
    `max_image_bytes` may be larger."""
    request_timeout_seconds: float = Field(default=10.0, gt=0)
    """Deadline of one request from the moment its body is complete, all waiting included."""
    body_idle_seconds: float = Field(default=10.0, gt=0)
    """A request's body is refused when no byte of it comes for so long."""
    body_min_bytes_per_second: int = Field(default=4000, ge=1)
    """Lowest mean rate of a body, `body_idle_seconds` at its start apart; slower is refused."""
    body_timeout_seconds: float = Field(default=600.0, gt=0)
    """Longest time for a whole body, however steadily it comes."""
    max_receiving_megabytes: int = Field(default=1024, ge=1)
    """Memory of all bodies that are being received; beyond it more is refused with 503."""
    max_in_flight: int = Field(default=256, gt=0)
    """Requests that may wait for Triton at a time; more are refused with 503."""
    max_wait_seconds: float | None = Field(default=None, gt=0)
    """Reject with 503 when the expected wait for Triton exceeds this; unset: a quarter of the
    deadline."""
    max_faces: int = Field(default=MAX_FACES, ge=1, le=MOST_FACES)
    """Faces of an image in an answer, the largest, unless the request asks for another number."""
    max_slow_at_once: int = Field(default=1, ge=1)
    """Slow requests that Triton works on at a time: `detail=high` (a 20-megapixel image is some
    hundred canvases for the detector), and pictures that are slow to decode."""
    match_threshold: float = Field(default=0.32, ge=-1, le=1)
    """Cosine similarity from which two faces are one person, until a calibration says better."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    # Watching
    portrait_interval_seconds: float = Field(default=60.0, ge=0)
    """How often the shipped portrait goes through the live models; 0: never."""
    drift_window_faces: int = Field(default=2000, ge=10)
    """Last faces whose confidence, quality, score and embedding are compared with the reference."""
    drift_min_faces: int = Field(default=200, ge=10)
    """Before so many nothing is said of them."""
    drift_psi_alert: float = Field(default=0.25, gt=0)
    """Population stability index from which faces count as drifted."""

    # Memory: vectors, records, collections
    qdrant_url: str | None = None
    """`http://host:6333` of a Qdrant server or cluster; unset: Qdrant Edge under `AURUM_HOME`."""
    qdrant_api_key: SecretStr | None = None
    """Key of that server."""
    qdrant_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long one call to that server may take."""
    qdrant_shard_number: int = Field(default=1, ge=1)
    """Shards of a new vector collection on a server; several times the nodes of a cluster."""
    qdrant_replication_factor: int = Field(default=1, ge=1)
    """Copies of each shard; a majority acknowledges a write. 2 or more on a cluster."""
    vector_hnsw_m: int = Field(default=16, ge=4, le=128)
    """Edges per node of the graph: more finds more and costs memory (8 bytes each)."""
    vector_hnsw_ef_construct: int = Field(default=128, ge=8)
    """Candidates looked at when a point enters the graph: more finds more and builds slower."""
    vector_hnsw_ef_search: int = Field(default=1024, ge=8)
    """Candidates looked at in a search: more finds more and takes longer. People with one face each
    need many, see the table in `docs/capacity.md`."""
    vector_quantization: Literal["int8", "off"] = "int8"
    """`int8`: graphs are walked on a quarter of the memory, the best are compared in full."""
    vector_oversampling: float = Field(default=2.0, ge=1)
    """How many times the limit is fetched from the quantised vectors before comparing in full."""
    vector_indexed_metadata: str = ""
    """Metadata keys with an index of their own, separated by commas; others filter slower."""
    vector_seal_points: int = Field(default=10_000, ge=100)
    """Qdrant Edge: points of the shard that is searched without a graph; then it is indexed."""
    vector_purge_seconds: float = Field(default=900.0, ge=0)
    """Qdrant Edge: how long after a face was forgotten the shard that held its vector is rebuilt
    without it, which takes its bytes off the disk."""
    vector_threads: int = Field(default=2, ge=1)
    """Qdrant Edge: threads of a search, and of indexing."""
    min_free_disk_megabytes: int = Field(default=256, ge=0)
    """Qdrant Edge: below so much free room new faces are refused (507), nothing breaks."""
    database_url: SecretStr | None = None
    """`postgresql://…` of the records; unset: SQLite under `AURUM_HOME`."""
    crop_key_file: Path | None = None
    """File of the 32-byte key that seals kept crops; unset: made once under `AURUM_HOME`."""
    max_metadata_entries: int = Field(default=16, ge=0)
    """Metadata entries a face may carry."""
    max_enrol_images: int = Field(default=32, ge=1)
    """Images, or embeddings, in one enrolment."""
    max_enrol_megabytes: int = Field(default=64, ge=1)
    """All images of one enrolment together."""
    retention_interval_seconds: float = Field(default=600.0, gt=0)
    """How often faces whose time is over are forgotten and leftovers of failures repaired."""
    max_cluster_faces: int = Field(default=200_000, ge=1)
    """Largest collection that is grouped into identities: its vectors are held in memory."""

    # Cache
    cache: Literal["on", "off"] = "on"
    """`off`: every answer is computed, also for identical images at the same time."""
    redis_url: SecretStr | None = None
    """`redis://`, `rediss://` or `unix://` of a Redis 7 or newer that all gateways share; unset:
    the one that `aurum serve` starts, or none."""
    cache_ttl_seconds: float = Field(default=86_400.0, gt=0)
    """How long an answer is kept."""
    cache_memory_megabytes: int = Field(default=64, ge=1)
    """Answers kept within the gateway's process."""
    cache_memory_ttl_seconds: float = Field(default=60.0, gt=0)
    """How long they are: another process may have forgotten the image in the meantime."""
    cache_max_entry_kilobytes: int = Field(default=1024, ge=1)
    """A larger answer (many crops) is not kept."""
    cache_timeout_seconds: float = Field(default=0.02, gt=0)
    """What Redis may take; then the answer is computed."""
    redis_memory_megabytes: int = Field(default=256, ge=16)
    """Bound of the Redis that `aurum serve` starts."""

    @property
    def triton_address(self) -> str:
        """`host:port` of the gRPC endpoint that the gateway calls."""
        return self.triton_grpc_url or f"127.0.0.1:{self.triton_grpc_port}"

    @property
    def triton_http_address(self) -> str | None:
        """URL of Triton's HTTP endpoint; None: Triton runs elsewhere, and nobody said where."""
        if self.triton_http_url is not None:
            return self.triton_http_url.rstrip("/")
        if self.triton_grpc_url is not None:
            return None
        return f"http://127.0.0.1:{self.triton_http_port}"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Build the settings from the environment.

    Raises ConfigurationError naming the variable for an unknown or malformed one.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith(PREFIX) and not upper.startswith(_FREE_PREFIX) and upper not in known:
            raise ConfigurationError(_unknown(name, known))
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        message = f"{variable}: {first['msg']} (got {first['input']!r})"
        raise ConfigurationError(message) from error


def _unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown setting {name}{hint}"
