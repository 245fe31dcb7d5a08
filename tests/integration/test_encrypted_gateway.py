"""The gateway with TLS: HTTP and gRPC, renewed certificates, certificates of clients, tools."""

import asyncio
import signal
import socket
import ssl
from tempfile import TemporaryDirectory

import grpc
import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from aurum_client import AsyncAurumClient, RetryPolicy, ServiceUnreachableError
from tritonclient.grpc.aio import InferenceServerClient

from gateway import health_check
from gateway.app import create_app
from gateway.errors import ConfigurationError
from gateway.kserve.grpc_upstream import SERVICE
from gateway.settings import Settings
from tests.integration.test_gateway_process import start
from tests.support.certificates import Authority
from tests.support.command_line import run_in_process
from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.grpc_gateway import serving_grpc
from tests.support.grpc_triton import Script, running
from tests.support.serving import free_ports
from tools.clients.gateway_tls import own_gateway_context
from tools.clients.http import fetch

LIVE = "/api/health/live"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def trusting(authority: Authority, own=None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


async def test_http_and_grpc_speak_tls_and_nothing_else(authority, tmp_path):
    own = authority.issue("localhost", "127.0.0.1")
    other = Authority(tmp_path, "other")
    async with (
        running(Script()) as triton,
        serving_grpc(
            triton_grpc_url=triton, tls_certificate_file=own.certificate, tls_key_file=own.key
        ) as (address, http),
    ):
        base = str(http._base_url)
        data = form(image=photo())
        async with http.post("/api/ml/detect", data=data, ssl=trusting(authority)) as response:
            assert response.status == 200
        async with AsyncAurumClient(base, verify=trusting(authority)) as client:
            assert len((await client.detect(photo())).faces) == 1
        async with AsyncAurumClient(base, retry=RetryPolicy(attempts=1)) as client:
            with pytest.raises(ServiceUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.detect(photo())
        with pytest.raises(ClientConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get(LIVE, ssl=trusting(other))
        async with ClientSession(base.replace("https", "http")) as plain:
            with pytest.raises(ClientConnectionError):
                await plain.get(LIVE)
        where = {"AURUM_PORT": str(http._base_url.port)}
        mine = where | {"AURUM_TLS_CERTIFICATE_FILE": str(own.certificate)}
        wrong = where | {"AURUM_TLS_CERTIFICATE_FILE": str(other.file)}
        checks = [await asyncio.to_thread(health_check.main, each) for each in (mine, wrong, where)]
        assert checks == [0, 1, 1]
        options = {"ssl": True, "root_certificates": str(authority.file)}
        async with InferenceServerClient(address, **options) as client:
            assert await client.is_server_live()
        for given in ({}, {"ssl": True, "root_certificates": str(other.file)}):
            async with InferenceServerClient(address, **given) as client:
                with pytest.raises(Exception, match=r"(?i)unavailable|failed|closed"):
                    await client.is_server_live(client_timeout=60)


async def test_commands_check_a_gateway_elsewhere_by_the_authority_in_the_settings(
    authority, tmp_path
):
    own, other = authority.issue("localhost"), Authority(tmp_path, "other")
    async with serving_grpc(tls_certificate_file=own.certificate, tls_key_file=own.key) as (
        _,
        http,
    ):
        command = ("jobs", "list", "--url", f"https://localhost:{http._base_url.port}")
        for given, status, words in (
            (authority, 0, ""),
            (other, 3, "CERTIFICATE_VERIFY_FAILED"),
        ):
            environment = {"AURUM_HOME": str(tmp_path), "AURUM_GATEWAY_CA_FILE": str(given.file)}
            told = await asyncio.to_thread(
                run_in_process, command, environment=environment, folder=tmp_path
            )
            assert told.returncode == status, told.stderr
            assert words in told.stderr


async def test_renewed_certificates_are_shown_by_both_ports(authority):
    own = authority.issue("localhost", "127.0.0.1")
    async with serving_grpc(tls_certificate_file=own.certificate, tls_key_file=own.key) as (
        address,
        http,
    ):
        ports = [int(str(http._base_url.port)), int(address.rpartition(":")[2])]
        before = [await asyncio.to_thread(shown, port, authority) for port in ports]
        authority.issue("localhost", "127.0.0.1")
        after = [await asyncio.to_thread(shown, port, authority) for port in ports]
    assert before[0] == before[1]
    assert after[0] == after[1] != before[0]


def shown(port: int, authority: Authority) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as connection,
        trusting(authority).wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        return str((secured.getpeercert() or {})["serialNumber"])


async def test_clients_need_a_certificate_where_an_authority_for_them_is_set(authority, tmp_path):
    own = authority.issue("localhost", "127.0.0.1")
    callers = Authority(tmp_path, "callers")
    caller = callers.issue("caller", name="caller")
    async with (
        running(Script()) as triton,
        serving_grpc(
            triton_grpc_url=triton,
            tls_certificate_file=own.certificate,
            tls_key_file=own.key,
            tls_client_ca_file=callers.file,
        ) as (address, http),
    ):
        async with http.get(LIVE, ssl=trusting(authority, caller)) as response:
            assert response.status == 200
        stranger = authority.issue("stranger", name="stranger")
        for refused in (trusting(authority), trusting(authority, stranger)):
            with pytest.raises((ClientConnectionError, OSError)):
                await http.get(LIVE, ssl=refused)
        root = authority.file.read_bytes()
        for files, works in ((caller, True), (stranger, False), (None, False)):
            pair = () if files is None else (files.key.read_bytes(), files.certificate.read_bytes())
            credentials = grpc.ssl_channel_credentials(root, *pair)
            async with grpc.aio.secure_channel(address, credentials) as channel:
                call = channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=60)
                if works:
                    assert await call == b"\x08\x01"
                    continue
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_process_reads_renewed_files_on_sighup_and_tools_follow(authority, tmp_path):
    own = authority.issue("gateway.example")
    caller = authority.issue("caller", name="caller")
    port, grpc_port, triton = free_ports(3)
    variables = {
        "AURUM_HOME": tmp_path,
        "AURUM_PORT": port,
        "AURUM_GRPC_PORT": grpc_port,
        "AURUM_TRITON_GRPC_URL": f"127.0.0.1:{triton}",
        "AURUM_TLS_CERTIFICATE_FILE": own.certificate,
        "AURUM_TLS_KEY_FILE": own.key,
        "AURUM_TLS_CLIENT_CA_FILE": authority.file,
        "AURUM_GATEWAY_CLIENT_CERTIFICATE_FILE": caller.certificate,
        "AURUM_GATEWAY_CLIENT_KEY_FILE": caller.key,
        "AURUM_PORTRAIT_INTERVAL_SECONDS": 0,
    }
    process = await start(tmp_path, **variables)
    lines: list[bytes] = []

    async def until(words: bytes) -> None:
        async with asyncio.timeout(60):
            while words not in (line := await process.stderr.readline()):
                assert line, b"".join(lines)
                lines.append(line)

    try:
        await until(b"listening")
        given = {name.removeprefix("AURUM_").lower(): value for name, value in variables.items()}
        settings = Settings(**given)
        # its name is not in the certificate, but it is the very certificate of the settings
        context = own_gateway_context(settings)
        status, _ = await asyncio.to_thread(fetch, f"127.0.0.1:{port}", LIVE, context=context)
        assert status == 200
        environment = {name: str(value) for name, value in variables.items()}
        command = ("jobs", "list")
        told = await asyncio.to_thread(
            run_in_process, command, environment=environment, folder=tmp_path
        )
        assert told.returncode == 0, told.stderr
        # another certificate of the same authority is not the gateway's
        imposter = authority.issue("gateway.example", name="imposter")
        wrong = settings.model_copy(update={"tls_certificate_file": imposter.certificate})
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(
                fetch, f"127.0.0.1:{port}", LIVE, context=own_gateway_context(wrong)
            )
        authority.issue("gateway.example")
        process.send_signal(signal.SIGHUP)
        await until(b"certificates were read again")
        status, _ = await asyncio.to_thread(
            fetch, f"127.0.0.1:{port}", LIVE, context=own_gateway_context(settings)
        )
        assert status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_what_cannot_be_used_stops_the_start(authority, tmp_path):
    own = authority.issue("localhost")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases = {
            "AURUM_TLS_KEY_FILE: .*none: No such file": {
                "tls_certificate_file": own.certificate,
                "tls_key_file": tmp_path / "none",
            },
            "AURUM_TRITON_CA_FILE: .*none: No such file": {"triton_ca_file": tmp_path / "none"},
            "AURUM_GRPC_PORT: cannot listen on 127.0.0.1:": {"grpc_port": taken.getsockname()[1]},
        }
        for expected, given in cases.items():
            with pytest.raises(ConfigurationError, match=expected):
                await start_here(given)


async def start_here(given) -> None:
    """Start a gateway with Triton's real clients, and end it."""
    with TemporaryDirectory(prefix="aurum-home-") as home:
        app = create_app(Settings(home=home, portrait_interval_seconds=0, **given))
        runner = web.AppRunner(app)
        try:
            await runner.setup()
        finally:
            await runner.cleanup()
