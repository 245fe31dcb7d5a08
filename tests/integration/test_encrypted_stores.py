"""Encrypted connections to real Redis, PostgreSQL and gRPC servers that ask for certificates."""

import asyncio
import logging
import os
import ssl
import subprocess
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from aiohttp import web
from sqlalchemy import text

from gateway.collections.factory import tuning_of
from gateway.concurrency import AdmissionControl, SlowGate
from gateway.deadline import Deadline
from gateway.errors import ConfigurationError, InferenceUnavailableError, StorageUnavailableError
from gateway.inference.triton import TritonInference
from gateway.kserve.grpc_upstream import TritonGrpc
from gateway.kserve.upstream import TritonHttp
from gateway.records.database import Database
from gateway.redis import UNREACHABLE, connect
from gateway.settings import Settings
from gateway.tls_files import (
    files_for_database,
    files_for_qdrant,
    files_for_redis,
    files_for_triton,
)
from gateway.types import Need
from gateway.vectors.qdrant import QdrantVectorStore
from tests.support.certificates import Authority
from tests.support.fake_inference import photo
from tests.support.grpc_triton import Script, running
from tests.support.postgres import Encryption, private_postgres
from tests.support.redis import encrypted_server
from tests.support.serving import free_ports, shared_installation

PASSWORD = "s3cret-in-a-url"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


@pytest.fixture(scope="module")
def other(folder):
    return Authority(folder, "other")


@pytest.fixture(scope="module")
def server(authority):
    return authority.issue("localhost")


@pytest.fixture(scope="module")
def mine(authority):
    return authority.issue("me@example.org", name="mine", common_name="postgres")


def settings(part: str, ca=None, own=None) -> Settings:
    given = {"ca_file": ca and ca.file}
    if own is not None:
        given |= {"certificate_file": own.certificate, "key_file": own.key}
    return Settings(**{f"{part}_{name}": value for name, value in given.items()})


def said(caplog) -> str:
    """All that was logged, with its fields."""
    return "\n".join(str(vars(record)) for record in caplog.records)


async def test_redis(authority, other, server, mine, folder):
    async def ping(given: Settings, scheme: str = "rediss") -> bool:
        url = f"{scheme}://:{PASSWORD}@localhost:{port}"
        files = files_for_redis(given)
        client = connect(url, purpose="test", timeout_seconds=5, files=files)
        try:
            return bool(await client.ping())
        finally:
            await client.aclose()

    with encrypted_server(server, authority.file, PASSWORD) as port:
        assert await ping(settings("redis", authority, mine))
        # a renewed certificate is read when the next connection opens
        client = connect(
            f"rediss://:{PASSWORD}@localhost:{port}",
            purpose="test",
            timeout_seconds=5,
            files=files_for_redis(settings("redis", authority, own := other.issue("me", name="r"))),
        )
        with pytest.raises(UNREACHABLE):
            await client.ping()
        authority.issue("me", name="r")
        assert await client.ping()
        await client.aclose()
        assert own.key.exists()
        for given, expected in (
            (settings("redis", other, mine), "certificate verify failed"),
            (settings("redis", authority), r"(?i)certificate required|closed|reset"),
        ):
            with pytest.raises(UNREACHABLE, match=expected) as refused:
                await ping(given)
            assert PASSWORD not in str(refused.value)
        # plain text to the port for TLS
        with pytest.raises(UNREACHABLE):
            await ping(Settings(), "redis")
        with pytest.raises(ConfigurationError, match=r"AURUM_REDIS_CA_FILE.*rediss") as refused:
            await ping(settings("redis", authority), "redis")
        assert PASSWORD not in str(refused.value)


@pytest.fixture(scope="module")
def postgres(authority, server):
    (port,) = free_ports(1)
    with private_postgres(Encryption(port, server, authority.file)):
        yield port


@asynccontextmanager
async def database(port: int, given: Settings, query: str = "", host: str = "localhost"):
    url = f"postgresql://postgres:{PASSWORD}@{host}:{port}/postgres{query}"
    opened = await Database.open(url, timeout_seconds=10, files=files_for_database(given))
    try:
        yield opened
    finally:
        await opened.close()


async def test_postgresql_is_migrated_and_asked_over_tls(postgres, authority, mine):
    by_url = (
        f"?sslmode=verify-full&sslrootcert={authority.file}"
        f"&sslcert={mine.certificate}&sslkey={mine.key}"
    )
    for given, query in ((settings("database", authority, mine), ""), (Settings(), by_url)):
        async with database(postgres, given, query) as opened, opened.read() as connection:
            found = await connection.execute(
                text("SELECT ssl, version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            )
            is_encrypted, version, name = found.one()
            assert is_encrypted
            assert version in ("TLSv1.2", "TLSv1.3")
            assert "CN=postgres" in name


async def test_postgresql_without_the_right_certificates_is_not_used(
    postgres, authority, other, mine, caplog
):
    stranger = authority.issue("x", name="stranger", common_name="somebody")
    full = settings("database", authority, mine)
    cases = [
        (settings("database", other, mine), "", "localhost", "certificate is refused"),
        (full, "", "127.0.0.1", "certificate is refused: .*mismatch"),
        (settings("database", authority), "", "localhost", "client certificate"),
        (settings("database", authority, stranger), "", "localhost", "authentication failed"),
        (full, "?sslmode=prefer", "localhost", "DATABASE_.*_FILE is set, but sslmode=prefer"),
        (full, "?sslmode=often", "localhost", "sslmode is one of"),
        (Settings(), "?sslmode=disable", "localhost", "no encryption"),
    ]
    for given, query, host, expected in cases:
        with pytest.raises(ConfigurationError, match=expected) as refused:
            async with database(postgres, given, query, host):
                raise AssertionError(expected)
        assert PASSWORD not in str(refused.value)
    # libpq's weaker mode checks the authority alone
    async with database(postgres, full, "?sslmode=verify-ca", "127.0.0.1") as opened:
        assert await opened.health()
    assert PASSWORD not in said(caplog)


async def test_a_postgresql_without_tls_is_refused_where_tls_is_asked_for(authority, mine):
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # what PostgreSQL answers to a request for TLS with ssl=off
        await reader.readexactly(8)
        writer.write(b"N")

    plain = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with plain:
        port = plain.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError, match="offers no encryption"):
            async with database(port, settings("database", authority, mine)):
                raise AssertionError


def server_credentials(server, authority):
    pair = [(server.key.read_bytes(), server.certificate.read_bytes())]
    return grpc.ssl_server_credentials(
        pair, root_certificates=authority.file.read_bytes(), require_client_auth=True
    )


async def test_triton_over_grpc(authority, other, server, mine, caplog):
    script = Script()
    async with running(script, "localhost:0", server_credentials(server, authority)) as address:
        address = address.replace("127.0.0.1", "localhost")

        async def analyse(given: Settings):
            engine = TritonInference(address, files=files_for_triton(given))
            try:
                return await engine.analyse(
                    photo(), need=Need.NOTHING_MORE, deadline=Deadline.after(5)
                )
            finally:
                await engine.close()

        assert len((await analyse(settings("triton", authority, mine))).faces) == 1
        for given in (
            settings("triton", other, mine),
            settings("triton", authority),
            Settings(),
        ):
            with pytest.raises(InferenceUnavailableError):
                await analyse(given)
    assert "CERTIFICATE_VERIFY_FAILED" in said(caplog)
    with pytest.raises(ConfigurationError, match="set AURUM_TRITON_CA_FILE, too"):
        TritonInference("x:1", files=files_for_triton(settings("triton", None, mine)))


async def test_renewed_certificates_are_shown_to_triton(authority, other, server):
    admission = AdmissionControl(1)
    async with running(Script(), "localhost:0", server_credentials(server, authority)) as address:
        own = authority.issue("me", name="renewed")
        files = files_for_triton(settings("triton", authority, own))
        address = address.replace("127.0.0.1", "localhost")
        engine = TritonInference(address, files=files)
        slow = SlowGate(admission, at_once=1)
        passed_on = TritonGrpc(address, admission=admission, slow=slow, files=files)

        async def analyse() -> None:
            await engine.analyse(photo(), need=Need.NOTHING_MORE, deadline=Deadline.after(5))

        async def pass_on() -> None:
            assert await passed_on.ask("ServerLive", b"", deadline=Deadline.after(5)) == b"\x08\x01"

        try:
            for ask in (analyse, pass_on):
                await ask()
                # one that Triton does not accept is shown, although the connection was open
                other.issue("me", name="renewed")
                with pytest.raises(InferenceUnavailableError):
                    await ask()
                authority.issue("me", name="renewed")
                await ask()
        finally:
            await engine.close()
            await passed_on.close()


@contextmanager
def tritonserver(folder, server, authority):
    """Run the real server without models, with gRPC over TLS for clients with a certificate."""
    installed = shared_installation()
    (port,) = free_ports(1)
    models = folder / "models"
    models.mkdir()
    flags = {
        "model-repository": models,
        "allow-http": "false",
        "allow-metrics": "false",
        "grpc-address": "127.0.0.1",
        "grpc-port": port,
        "grpc-use-ssl": "true",
        "grpc-use-ssl-mutual": "true",
        "grpc-server-cert": server.certificate,
        "grpc-server-key": server.key,
        "grpc-root-cert": authority.file,
    }
    process = subprocess.Popen(
        [installed.binary, *(f"--{name}={value}" for name, value in flags.items())],
        env={**os.environ, "LD_LIBRARY_PATH": str(installed.libraries)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(30)


async def test_the_real_tritonserver(tmp_path, authority, other, server, mine):
    with tritonserver(tmp_path, server, authority) as address:

        async def status(given: Settings, *, seconds: float):
            engine = TritonInference(address, files=files_for_triton(given))
            try:
                deadline = Deadline.after(seconds)
                while not (found := await engine.status(deadline=deadline)).reachable:
                    if not deadline.allows(0.1):
                        break
                    await asyncio.sleep(0.05)
                return found
            finally:
                await engine.close()

        assert (await status(settings("triton", authority, mine), seconds=60)).reachable
        for given in (settings("triton", authority), settings("triton", other, mine), Settings()):
            assert not (await status(given, seconds=0.5)).reachable


@asynccontextmanager
async def https(server, authority, answer):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
        await site.start()
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_triton_over_https(authority, other, server, mine, caplog):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="{}")

    caplog.set_level(logging.WARNING)
    async with https(server, authority, answer) as url:

        async def ask(given: Settings):
            admission = AdmissionControl(1)
            client = TritonHttp(
                url,
                admission=admission,
                slow=SlowGate(admission, at_once=1),
                connections=1,
                files=files_for_triton(given),
            )
            try:
                return await client.get("/v2", deadline=Deadline.after(5))
            finally:
                await client.close()

        assert (await ask(settings("triton", authority, mine))).body == b"{}"
        for given in (settings("triton", other, mine), settings("triton", authority)):
            with pytest.raises(InferenceUnavailableError):
                await ask(given)
    # the log says why
    assert "CERTIFICATE_VERIFY_FAILED" in said(caplog)


class StandIn(grpc.GenericRpcHandler):
    """Answers every call with a message without fields: there are no collections."""

    def service(self, details):
        async def answer(request, context):
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_qdrant(authority, other, server, mine):
    """There is no Qdrant server here: stand-ins take the connections of its client."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"result": {"collections": []}, "status": "ok", "time": 0.0})

    async def ask(given: Settings, scheme: str = "https"):
        store = await QdrantVectorStore.open(
            f"{scheme}://localhost:{port}",
            tuning_of(given),
            api_key=None,
            timeout_seconds=5,
            files=files_for_qdrant(given),
        )
        try:
            assert (await store._client.http.collections_api.get_collections()).status == "ok"
        finally:
            await store.close()

    async def renew() -> None:
        own = authority.issue("me", name="renewed-qdrant")
        store = await QdrantVectorStore.open(
            f"https://localhost:{port}",
            tuning_of(Settings()),
            api_key=None,
            timeout_seconds=5,
            files=files_for_qdrant(settings("qdrant", authority, own)),
        )
        try:
            assert await store.collections() == ()
            # refused at once, although the connection was open
            other.issue("me", name="renewed-qdrant")
            with pytest.raises(StorageUnavailableError):
                await store.collections()
            authority.issue("me", name="renewed-qdrant")
            assert await store.collections() == ()
        finally:
            await store.close()

    async with https(server, authority, answer) as url:
        port = int(url.rpartition(":")[2])
        # gRPC is the port after the one of HTTP
        rpc = grpc.aio.server(handlers=[StandIn()])
        rpc.add_secure_port(f"localhost:{port + 1}", server_credentials(server, authority))
        await rpc.start()
        try:
            await ask(settings("qdrant", authority, mine))
            for given in (settings("qdrant", other, mine), settings("qdrant", authority)):
                with pytest.raises(StorageUnavailableError):
                    await ask(given)
            await renew()
        finally:
            await rpc.stop(None)
        with pytest.raises(ConfigurationError, match=r"AURUM_QDRANT_CA_FILE is set.*https://"):
            await ask(settings("qdrant", authority), "http")
