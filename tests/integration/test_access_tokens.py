"""Tokens over HTTP, with the keys of an issuer that comes and goes; keys in the client and CLI."""

import asyncio
import json
import time
from pathlib import Path

import jwt
import pytest
from aiohttp import web
from aurum_client import AsyncAurumClient, AuthenticationError, PermissionDeniedError
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.security.roles import Role
from tests.support.access import MINE, bearer, guarded, managing, new_key
from tests.support.collection_client import call, make
from tests.support.command_line import run_in_process
from tests.support.fake_inference import photo
from tests.support.gateway_server import form

KEY = rsa.generate_private_key(65537, 2048)
WRITE = jwt.algorithms.RSAAlgorithm.to_jwk


def token(key=KEY, **changes) -> str:
    claims = {"iss": "login", "aud": "aurum", "sub": "ada", "exp": time.time() + 60}
    claims |= {"tenant": MINE, "roles": ["search", "manage"], **changes}
    return jwt.encode(claims, key, "RS256", headers={"kid": "1"})


class Issuer:
    """Serves its keys on loopback until it is stopped."""

    def __init__(self) -> None:
        self.asked = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        async def keys(_: web.Request) -> web.Response:
            self.asked += 1
            public = {**json.loads(WRITE(KEY.public_key())), "kid": "1", "use": "sig"}
            return web.json_response({"keys": [public]})

        app = web.Application()
        app.router.add_get("/keys", keys)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


@pytest.fixture
async def issuer():
    made = Issuer()
    await made.start()
    yield made
    await made.stop()


def trusting(folder: Path, issuer: Issuer) -> Path:
    file = folder / "issuers.toml"
    file.write_text(
        f'[[issuer]]\nissuer = "login"\naudience = "aurum"\nalgorithms = ["RS256"]\n'
        f'jwks_url = "http://127.0.0.1:{issuer.port}/keys"\n'
    )
    return file


async def test_tokens_and_keys_of_a_tenant_see_the_same(tmp_path, issuer):
    async with managing(tmp_path) as keys:
        search = bearer(await new_key(keys, Role.SEARCH))
    async with guarded(tmp_path, token_issuers_file=trusting(tmp_path, issuer)) as client:
        # nothing is fetched before a token comes
        assert issuer.asked == 0
        mine, body = bearer(token()), {"name": "people"}
        await call(client, "POST", "/api/collections", status=201, json=body, headers=mine)
        await call(client, "GET", "/api/collections/people", status=200, headers=search)
        other = bearer(token(tenant="initech"))
        await call(client, "GET", "/api/collections/people", status=404, headers=other)
        data = form(image=photo())
        refused = await call(client, "POST", "/api/ml/detect", status=403, data=data, headers=mine)
        assert "infer" in refused["detail"]
        # while the issuer is away its keys are known
        await issuer.stop()
        await call(client, "GET", "/api/collections/people", status=200, headers=bearer(token()))
        assert issuer.asked == 1
        forged = token(rsa.generate_private_key(65537, 2048))
        for wrong in (forged, token(exp=1), token(aud="other"), token(iss="other")):
            answer = await call(
                client, "GET", "/api/collections/people", status=401, headers=bearer(wrong)
            )
            assert wrong not in answer["detail"]


async def test_each_subject_has_limits_of_its_own(tmp_path, issuer):
    file = trusting(tmp_path, issuer)
    # names are cut off in logs; subjects do not share limits because of that
    one, two = "a" * 100 + "1", "a" * 100 + "2"
    async with guarded(tmp_path, token_issuers_file=file, key_requests_per_minute=1) as client:
        for subject, status in ((one, 200), (one, 429), (two, 200)):
            headers = bearer(token(sub=subject))
            await call(client, "GET", "/api/collections", status=status, headers=headers)


async def test_an_issuer_that_is_away_from_the_start_is_503(tmp_path, issuer):
    await issuer.stop()
    async with (
        guarded(tmp_path, token_issuers_file=trusting(tmp_path, issuer)) as client,
        client.get("/api/collections", headers=bearer(token())) as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"] == "30"


async def test_the_python_client_sends_its_key(tmp_path):
    async with managing(tmp_path) as keys:
        key = await new_key(keys, Role.INFER)
    async with guarded(tmp_path) as session:
        url = str(session._base_url)
        async with AsyncAurumClient(url, api_key=f" {key}\n") as client:
            assert (await client.detect(photo())).faces
            with pytest.raises(PermissionDeniedError):
                await client.list_collections()
            assert key not in repr(client._http.headers)
        async with AsyncAurumClient(url) as client:
            with pytest.raises(AuthenticationError):
                await client.detect(photo())
    with pytest.raises(ValueError, match="api_key") as caught:
        AsyncAurumClient(api_key="two words")
    assert "two words" not in str(caught.value)


async def test_commands_send_their_key(tmp_path):
    home = tmp_path / "served"
    home.mkdir()
    async with managing(home) as keys:
        admin = await new_key(keys, Role.ADMIN)
        enrols = await new_key(keys, Role.ENROL)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.png").write_bytes(photo())
    (tmp_path / "admin.key").write_text(f"{admin}\n")
    async with guarded(home) as client:
        client.headers.update(bearer(admin))
        await make(client)
        usual = {"AURUM_PORT": str(client._base_url.port), "AURUM_HOME": str(tmp_path / "home")}

        async def aurum(*arguments: str, **more: str):
            return await asyncio.to_thread(
                run_in_process, arguments, environment=usual | more, folder=tmp_path
            )

        # a key that may enrol need not be one that may look at the collection
        done = await aurum("enrol", "people", "in", AURUM_API_KEY=enrols)
        assert done.returncode == 0, done.stderr
        done = await aurum("score", "in", AURUM_API_KEY=enrols)
        assert done.returncode == 1
        assert "forbidden: this needs the role infer" in done.stderr
        done = await aurum("search", "people", "in", "--api-key-file", "admin.key")
        assert done.returncode == 0, done.stderr
        done = await aurum("score", "in", AURUM_API_KEY_FILE="admin.key")
        assert done.returncode == 0, done.stderr
        done = await aurum("score", "in")
        assert done.returncode == 1
        assert "unauthorized" in done.stderr
        done = await aurum("score", "in", "--api-key-file", "none.key")
        assert done.returncode == 1
        assert "none.key" in done.stderr
