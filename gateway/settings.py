"""All settings of the gateway and the tools: one frozen class, prefix `AURUM_`.

An unknown variable with this prefix stops the start, so that a misspelt name is not ignored
silently; `AURUM_TEST_*` is reserved for the test suite.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.checkout import CHECKOUT as CHECKOUT
from gateway.checkout import PREFIX as PREFIX
from gateway.checkout import SECRETS
from gateway.errors import ConfigurationError
from triton_python_backend.contract import MAX_FACES, MOST_FACES

_FREE_PREFIX = "AURUM_TEST_"


class Settings(BaseSettings):
    """All settings: field `x` is the variable `AURUM_X`. Names end with their unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, variables and files of secrets, in this order.

        Where no variable is ours, none is looked for: that would take most of the time.
        """
        ours = any(name.upper().startswith(PREFIX) for name in os.environ)
        variables = (env_settings,) if ours else ()
        return (init_settings, *variables, file_secret_settings)

    # Service
    home: Path = Path(".aurum")
    """Folder of all state: Triton's environment, logs, records, caches."""
    secrets_folder: Path | None = None
    """Folder with files named as variables (`AURUM_DATABASE_URL`), whose contents are their values,
    such as `/run/secrets` of a container; a variable that is set counts more than its file."""
    host: str = "127.0.0.1"
    """Address on which the gateway listens; Triton stays on loopback, see `AURUM_TRITON_HOST`."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Port of the gateway."""
    grpc_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of KServe v2 over gRPC at the gateway, which asks for keys; unset does not offer it."""

    # Triton
    triton_http_port: int = Field(default=8000, ge=1, le=65535)
    """Port of Triton's KServe v2 HTTP on loopback; clients use `/v2` of the gateway."""
    triton_grpc_port: int = Field(default=8001, ge=1, le=65535)
    """Port of Triton's KServe v2 gRPC, which asks nobody for a key; clients use
    `AURUM_GRPC_PORT`."""
    triton_metrics_port: int = Field(default=8002, ge=1, le=65535)
    """Port of Triton's Prometheus metrics."""
    triton_host: str = "127.0.0.1"
    """Address of Triton's gRPC and metrics. Triton asks nobody for a key: whoever reaches another
    address than loopback may do everything with the models."""
    triton_grpc_url: str | None = None
    """`host:port` of an external Triton, or of several: a name with several addresses, or
    `ipv4:address:port,address:port`. Those that can be reached take turns. Unset uses the Triton
    that `aurum serve` starts."""
    triton_http_url: str | None = None
    """`http://host:port` or `https://…` of KServe v2 on an external Triton, for `/v2` of the
    gateway."""
    triton_start_timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest time until all stages of a starting Triton are ready."""
    triton_folder: Path | None = None
    """Folder of the unpacked tritonserver, for several homes; unset uses a folder in `home`."""
    withdraw_after_seconds: float = Field(default=10.0, gt=0)
    """Take a version out of service (or abort its trial) when Triton refuses it for this long and
    nobody has written to it for half of that."""

    # Models
    model_repository: Path = CHECKOUT / "model_repository"
    """Folder of the models that Triton serves."""
    model_mirror: str | None = None
    """Folder or URL with weights, tried before every other source."""
    model_cache: Path | None = None
    """Folder that keeps fetched packs, for several homes; unset uses a folder in `home`."""
    onnx_backend: Literal["auto", "compiled", "python"] = "auto"
    """Backend that runs networks in the wheel's Triton: `compiled` runs them within the server,
    some percent faster (needs a C++ compiler at the first start); `python` uses a process for each
    instance; `auto` uses `compiled` where possible."""
    scoring: Literal["on", "off"] = "on"
    """`off` computes and shows no scores; everything else works."""

    # Requests
    max_image_bytes: int = Field(default=10 * 1024 * 1024, gt=0)
    """Largest encoded image, in bytes."""
    max_image_megapixels: float = Field(default=40.0, gt=0)
    """Largest image, in millions of pixels, read from its header."""
    max_tensor_bytes: int = Field(default=20 * 1024 * 1024, gt=0)
    """Largest body of a KServe request (`/v2`), in bytes after decompression; a body with an image
    of `max_image_bytes` may be larger."""
    request_timeout_seconds: float = Field(default=10.0, gt=0)
    """Deadline of a request, counted from the end of its body, including all waiting."""
    head_timeout_seconds: float = Field(default=10.0, gt=0)
    """Close a connection when the head of a request is not complete after this long, counted from
    its first byte, or from the start of a new connection."""
    body_idle_seconds: float = Field(default=10.0, gt=0)
    """Refuse a body when no byte of it arrives for this long."""
    body_min_bytes_per_second: int = Field(default=4000, ge=1)
    """Refuse a body whose mean rate is lower, after the first `body_idle_seconds`."""
    body_timeout_seconds: float = Field(default=600.0, gt=0)
    """Longest time for receiving a whole body, at any rate; the upload of a job has one more second
    for each 125 kB that has arrived."""
    max_receiving_megabytes: int = Field(default=1024, ge=1)
    """Memory for all bodies that are being received, and images that are being fetched; beyond it
    requests get 503."""
    max_in_flight: int = Field(default=256, gt=0)
    """Most requests that wait for Triton at a time; more get 503."""
    max_wait_seconds: float | None = Field(default=None, gt=0)
    """Reject with 503 when the expected wait for Triton exceeds this; unset uses a quarter of
    `request_timeout_seconds`."""
    fallback: Literal["on", "off"] = "on"
    """`on` answers with the same networks in a process of the gateway's own while Triton is away;
    `off` refuses with 503."""
    fallback_threads: int = Field(default=2, ge=1)
    """Images that the fallback engine works on at a time, one core each."""
    drain_seconds: float = Field(default=0.0, ge=0)
    """Time for which a stopping gateway is not ready but still answers, so that
    balancers stop sending requests; behind a balancer, twice the interval of its checks."""
    max_faces: int = Field(default=MAX_FACES, ge=1, le=MOST_FACES)
    """Most faces in an answer, largest first, unless the request asks for another number."""
    max_slow_at_once: int = Field(default=1, ge=1)
    """Slow requests that Triton works on at a time: `detail=high` (a 20-megapixel image makes
    several hundred detector inputs) and images that are slow to decode."""
    match_threshold: float = Field(default=0.32, ge=-1, le=1)
    """Lowest cosine similarity at which two faces match, for embedding models without a
    calibration."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    # Access
    authentication: Literal["on", "off", "proxy"] = "off"
    """`on` asks every caller for an API key or a token; `off` asks nobody and works on loopback
    only; `proxy` asks nobody on any address, because a proxy in front of the gateway does."""
    api_key_pepper_file: Path | None = None
    """File of the secrets under which API keys are hashed; unset creates one in `home`."""
    token_issuers_file: Path | None = None
    """TOML file of the issuers whose JSON Web Tokens are accepted; unset accepts none."""
    cors_origins: str = ""
    """Origins whose web pages may call the gateway from a browser, separated by commas
    (`https://app.example.com`). Pages of other origins read nothing, and while authentication is
    not `on` their requests are refused."""
    allowed_hosts: str = ""
    """Further host names under which the gateway is reached, separated by commas. While
    authentication is `off`, requests that name another host than these, `AURUM_HOST` or loopback
    are refused; otherwise only if this is set."""
    metrics_access: Literal["key", "public"] = "key"
    """Whether `/metrics` needs a key, of any role, while authentication is on."""
    docs_access: Literal["key", "public"] = "public"
    """Whether `/api/docs` and `/api/openapi.json` need a key, of any role, while authentication is
    on."""
    audit_reads: Literal["on", "off"] = "on"
    """`on` writes a line into the audit log for each search and each reading of what is stored
    about people, too; `off` for changes only."""
    audit_key_file: Path | None = None
    """File of the keys under which the chain of the audit log is hashed, the same for all gateways
    of one database; unset creates one in `home`."""
    audit_anchor_file: Path | None = None
    """File to which the head of the audit log is appended, best on another machine's disk; unset
    uses `audit.anchor` in `home`."""
    audit_anchor_url: str | None = None
    """`s3://bucket/prefix` to which the head of the audit log is written as well, as one object for
    each; endpoint and credentials are those of `AURUM_OBJECT_STORE_…`."""
    audit_anchor_seconds: float = Field(default=60.0, gt=0)
    """Interval at which the head of the audit log is anchored, if it has changed."""
    audit_retention_days: float | None = Field(default=None, gt=0)
    """Time after which lines of the audit log are deleted; unset keeps them for good."""
    erasure_register_file: Path | None = None
    """File in which erasures of people and revocations of API keys are recorded, without names, so
    that they can be repeated after a backup was restored; best on another machine's disk. Unset
    uses `erasures.register` in `home`."""
    erasure_register_url: str | None = None
    """`s3://bucket/prefix` in which erasures are recorded instead of the file, one object
    each; endpoint and credentials are those of `AURUM_OBJECT_STORE_…`."""
    tenant_max_collections: int | None = Field(default=None, ge=0)
    """Most collections of a tenant; unset sets no limit."""
    tenant_max_faces: int | None = Field(default=None, ge=0)
    """Most enrolled faces of a tenant, in all its collections; unset sets no limit."""
    tenant_images_per_day: int | None = Field(default=None, ge=0)
    """Most images that a tenant may send on a day (UTC); more get 429. Unset sets no limit."""
    key_requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """Requests a minute of each API key, or of each subject of tokens, unless the key has limits of
    its own; more get 429. Unset sets no limit."""
    key_burst: int | None = Field(default=None, ge=1, le=1_000_000)
    """Requests that a key may send at once after a pause; unset allows those of a minute."""
    key_megapixels_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """Megapixels a minute of the images that a key sends; one that sent more must wait until they
    are paid back. Unset sets no limit."""
    key_concurrent: int | None = Field(default=None, ge=1, le=100_000)
    """Requests of a key that are answered at a time; more get 429. Unset sets no limit."""
    limits_timeout_seconds: float = Field(default=0.1, gt=0)
    """Longest time for counting in Redis what a key uses; then this gateway counts for itself."""
    api_key: SecretStr | None = None
    """Key that `aurum score`, `enrol`, `search`, `jobs`, `draw` and `vectors migrate` send to the
    gateway; processes that Aurum starts do not see it."""
    api_key_file: Path | None = None
    """File with that key, instead of `AURUM_API_KEY`."""

    # Encrypted connections
    tls_certificate_file: Path | None = None
    """PEM file of the gateway's certificate, with the intermediate ones after it; set, the gateway
    speaks https, and TLS on `AURUM_GRPC_PORT`."""
    tls_key_file: Path | None = None
    """PEM file of its private key, without a password."""
    tls_client_ca_file: Path | None = None
    """PEM file of the authorities of client certificates; set, every client needs one."""
    gateway_ca_file: Path | None = None
    """PEM file of the authorities by which commands check a gateway on another machine; unset uses
    the system's."""
    gateway_client_certificate_file: Path | None = None
    """PEM file of the client certificate that commands and health checks show to the gateway."""
    gateway_client_key_file: Path | None = None
    """PEM file of its private key."""
    triton_ca_file: Path | None = None
    """PEM file of the authorities of Triton's certificate; set, gRPC to Triton is encrypted."""
    triton_certificate_file: Path | None = None
    """PEM file of the client certificate that Triton is shown."""
    triton_key_file: Path | None = None
    """PEM file of its private key."""
    redis_ca_file: Path | None = None
    """PEM file of the authorities of the certificate of a `rediss://` server; unset uses the
    system's."""
    redis_certificate_file: Path | None = None
    """PEM file of the client certificate that Redis is shown."""
    redis_key_file: Path | None = None
    """PEM file of its private key."""
    database_ca_file: Path | None = None
    """PEM file of the authorities of PostgreSQL's certificate; set, the connection is encrypted and
    the server's name is checked, as `sslmode=verify-full` in the URL does."""
    database_certificate_file: Path | None = None
    """PEM file of the client certificate that PostgreSQL is shown."""
    database_key_file: Path | None = None
    """PEM file of its private key."""
    qdrant_ca_file: Path | None = None
    """PEM file of the authorities of the certificate of an `https://` Qdrant; unset uses the
    system's."""
    qdrant_certificate_file: Path | None = None
    """PEM file of the client certificate that Qdrant is shown."""
    qdrant_key_file: Path | None = None
    """PEM file of its private key."""

    # Image URLs
    image_urls: Literal["off", "listed", "public"] = "off"
    """Whether callers may send the URL of an image instead of the image: `listed` fetches from
    `image_url_hosts` only, `public` from every public host."""
    image_url_hosts: str = ""
    """Hosts from which images are fetched, separated by commas; `*.example.com` is all names below
    it."""
    image_url_ports: str = "80,443"
    """Ports from which images are fetched, separated by commas."""
    image_url_networks: str = ""
    """Private networks (CIDR, separated by commas) from which images may be fetched as well; no
    other setting opens a private address."""
    image_url_timeout_seconds: float = Field(default=5.0, gt=0)
    """Longest time for fetching an image, with its redirects; half of it until the head of the
    answer is there."""

    # Monitoring
    portrait_interval_seconds: float = Field(default=60.0, ge=0)
    """Interval at which the live models analyse the shipped portrait; 0 disables it."""
    drift_window_faces: int = Field(default=2000, ge=10)
    """Number of latest faces whose confidence, quality, score and embedding are compared with the
    reference."""
    drift_min_faces: int = Field(default=200, ge=10)
    """Report no drift before this many faces were seen."""
    drift_psi_alert: float = Field(default=0.25, gt=0)
    """Population stability index from which faces count as drifted."""

    # Vectors, records, collections
    qdrant_url: str | None = None
    """`http://host:6333` or `https://…` of a Qdrant server or cluster; unset uses Qdrant Edge in
    `home`."""
    qdrant_api_key: SecretStr | None = None
    """API key of the Qdrant server."""
    qdrant_timeout_seconds: float = Field(default=5.0, gt=0)
    """Longest time for one call to the Qdrant server."""
    qdrant_shard_number: int = Field(default=1, ge=1)
    """Shards of a new vector collection; in a cluster, several times its number of nodes."""
    qdrant_replication_factor: int = Field(default=1, ge=1)
    """Copies of each shard; a majority of them acknowledges each write. Use 2 or more in a
    cluster."""
    vector_hnsw_m: int = Field(default=16, ge=4, le=128)
    """Edges of each node in the HNSW graph (8 bytes each); more raise recall and memory."""
    vector_hnsw_ef_construct: int = Field(default=128, ge=8)
    """Candidates examined when a point is indexed; more raise recall and indexing time."""
    vector_hnsw_ef_search: int = Field(default=1024, ge=8)
    """Candidates examined in a search; more raise recall and search time. Collections with one
    face per person need many, see the table in `docs/capacity.md`."""
    vector_quantization: Literal["int8", "off"] = "int8"
    """`int8` searches vectors of a quarter of the size and compares the best candidates in full
    precision; `off` uses full precision only."""
    vector_oversampling: float = Field(default=2.0, ge=1)
    """Candidates fetched from the quantised vectors, as a multiple of the search limit."""
    vector_indexed_metadata: str = ""
    """Metadata keys that get an index, separated by commas; filters on other keys are slower."""
    vector_seal_points: int = Field(default=10_000, ge=100)
    """Qdrant Edge: points that a shard collects before it is sealed and indexed."""
    vector_purge_seconds: float = Field(default=900.0, ge=0)
    """Qdrant Edge: time after the deletion of a face until its shard is rebuilt, which removes the
    bytes of its vector from the disk."""
    vector_threads: int = Field(default=2, ge=1)
    """Qdrant Edge: threads of a search, and of indexing."""
    min_free_disk_megabytes: int = Field(default=256, ge=0)
    """Refuse uploads of jobs, and with Qdrant Edge new faces, with 507 when less disk space is
    free."""
    database_url: SecretStr | None = None
    """`postgresql://…` of the records, also with `sslmode`, `sslrootcert`, `sslcert` and `sslkey`;
    `postgresql://user@/name?host=one:5432&host=two:5432&target_session_attrs=primary` uses the one
    that is the primary; unset uses SQLite in `home`."""
    database_timeout_seconds: float = Field(default=5.0, gt=0)
    """Longest time for connecting to the database, and for one transaction of a request."""
    stores_start_timeout_seconds: float = Field(default=60.0, ge=0)
    """How long a starting gateway waits for a PostgreSQL or a Qdrant server that does not answer
    yet."""
    crop_key_file: Path | None = None
    """File of the storage keys, which encrypt crops, images and results of jobs, and metadata;
    unset creates one in `home`. `aurum keys rotate-storage` adds keys to it."""
    storage_keys: SecretStr | None = None
    """Storage keys instead of the file: 64 hexadecimal digits each, separated by commas, the
    current one last; `index:` and 64 digits for the blind index of sealed metadata."""
    seal_metadata: Literal["on", "off"] = "off"
    """`on` encrypts the metadata of faces and subjects in the records, and keeps a blind index of
    it beside the vectors, which finds equal values only."""
    max_metadata_entries: int = Field(default=16, ge=0)
    """Most metadata entries of a face."""
    max_enrol_images: int = Field(default=32, ge=1)
    """Most images, or embeddings, of one enrolment."""
    max_enrol_megabytes: int = Field(default=64, ge=1)
    """Largest total size of the images of one enrolment."""
    retention_interval_seconds: float = Field(default=600.0, gt=0)
    """Interval at which expired faces are deleted and leftovers of failures are repaired."""
    max_cluster_faces: int = Field(default=200_000, ge=1)
    """Largest collection that can be clustered; its vectors are held in memory."""

    # Jobs
    object_store_url: str | None = None
    """`s3://bucket` or `s3://bucket/prefix` for the images of jobs; unset keeps them in `home`."""
    object_store_endpoint: str | None = None
    """`http://host:port` of an S3 server that is not AWS's, addressed in path style."""
    object_store_region: str = "us-east-1"
    """Region of the bucket."""
    object_store_key_id: str | None = None
    """Access key id for the bucket; unset uses the credentials of the machine's role."""
    object_store_secret: SecretStr | None = None
    """Secret access key for the bucket."""
    job_max_images: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most images of a job."""
    job_max_megabytes: int = Field(default=5120, ge=1)
    """Largest upload of a job, also after unpacking its archives; JSON has a limit of its own."""
    job_retention_hours: float = Field(default=24.0, gt=0)
    """Time after its end for which a job keeps its results."""
    object_store_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest time for one call to the bucket, with its retries."""
    job_slice_images: int = Field(default=8, ge=1, le=256)
    """Images that a worker takes of one job at a time; then the next tenant has its turn."""
    job_lease_seconds: float = Field(default=30.0, ge=3)
    """Time after which the images of a worker that no longer reports are given to another."""
    job_attempts: int = Field(default=5, ge=1)
    """Attempts at an image of a job, until it ends with the error of the last one."""
    workers: int = Field(default=1, ge=0, le=64)
    """Workers that `aurum serve` starts for jobs; 0 leaves jobs to workers started elsewhere."""
    worker_concurrency: int = Field(default=4, ge=1, le=256)
    """Most images that a worker has in Triton at a time; it is 1 while other callers wait for
    answers."""
    worker_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Name of this worker, which no other has; one that starts again under its name gives back at
    once what it held when it was killed. Unset uses host and process."""

    # Webhooks
    webhook_hosts: str = ""
    """Hosts to which jobs may report their end, separated by commas; `host:port` allows one port
    only. Empty refuses webhooks."""
    webhook_secret: SecretStr | None = Field(default=None, min_length=16)
    """Secret that signs webhooks, 16 characters or more."""
    webhook_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest time for one delivery of a webhook."""

    # Backups
    backup_passphrase: SecretStr | None = Field(default=None, min_length=12)
    """Passphrase that encrypts backups, 12 characters or more."""
    backup_passphrase_file: Path | None = None
    """File with that passphrase in its first line, instead of `AURUM_BACKUP_PASSPHRASE`."""
    backup_key_file: Path | None = None
    """File with a key of 64 hexadecimal digits that encrypts backups, instead of a passphrase."""

    # Cache
    cache: Literal["on", "off"] = "on"
    """`off` computes every answer, even for identical images that arrive at the same time."""
    redis_url: SecretStr | None = None
    """`redis://`, `rediss://` or `unix://` of a Redis 7 or newer that all gateways share, or
    `redis+sentinel://host:26379,host2:26379/name` of the master that Sentinels name; unset uses
    the one that `aurum serve` starts, if any."""
    cache_ttl_seconds: float = Field(default=86_400.0, gt=0)
    """Time for which an answer is kept."""
    cache_memory_megabytes: int = Field(default=64, ge=1)
    """Size of the cache in the gateway's process."""
    cache_memory_ttl_seconds: float = Field(default=60.0, gt=0)
    """Time for which this process keeps an answer while Redis is in use; another process may have
    deleted the image meanwhile."""
    cache_max_entry_kilobytes: int = Field(default=1024, ge=1)
    """Largest answer that is cached; one with many crops may be larger."""
    cache_timeout_seconds: float = Field(default=0.02, gt=0)
    """Longest time for a cache operation in Redis; then the answer is computed."""
    redis_memory_megabytes: int = Field(default=256, ge=16)
    """Memory limit of the Redis that `aurum serve` starts."""

    @property
    def longest_wait_seconds(self) -> float:
        """Expected wait for inference beyond which requests are refused."""
        return self.max_wait_seconds or self.request_timeout_seconds / 4

    @property
    def triton_address(self) -> str:
        """`host:port` of the gRPC endpoint that the gateway calls."""
        return self.triton_grpc_url or f"127.0.0.1:{self.triton_grpc_port}"

    @property
    def triton_http_address(self) -> str | None:
        """URL of Triton's HTTP endpoint; None if Triton is external and its URL is not set."""
        if self.triton_http_url is not None:
            return self.triton_http_url.rstrip("/")
        if self.triton_grpc_url is not None:
            return None
        return f"http://127.0.0.1:{self.triton_http_port}"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Build the settings from the environment.

    Raises ConfigurationError that names an unknown or malformed variable, or a folder of secrets
    that cannot be read.
    """
    environment = os.environ if environment is None else environment
    folder = environment.get(PREFIX + "SECRETS_FOLDER") or None
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in (*sorted(environment), *_files(folder)):
        upper = name.upper()
        if upper.startswith(PREFIX) and not upper.startswith(_FREE_PREFIX) and upper not in known:
            raise ConfigurationError(_unknown(name, known))
    try:
        return Settings(_secrets_dir=folder)  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors()[0]
        variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        if variable in SECRETS:
            # not chained: its text quotes the value
            raise ConfigurationError(f"{variable}: {first['msg']}") from None
        message = f"{variable}: {first['msg']} (got {first['input']!r})"
        raise ConfigurationError(message) from error


def _files(folder: str | None) -> list[str]:
    """List the names in the folder of secrets; raises ConfigurationError if they cannot be read."""
    if folder is None:
        return []
    try:
        files = sorted(Path(folder).iterdir())
        within = Path(folder).resolve()
        for file in files:
            # pydantic passes over it with a warning, and a gateway without its database would start
            if file.name.startswith(PREFIX) and not file.resolve().is_relative_to(within):
                message = f"{PREFIX}SECRETS_FOLDER: {file} is a link that leads out of the folder"
                raise ConfigurationError(message)
        return [file.name for file in files]
    except OSError as error:
        message = f"{PREFIX}SECRETS_FOLDER: {folder}: {error.strerror}"
        raise ConfigurationError(message) from error


def _unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown setting {name}{hint}"
