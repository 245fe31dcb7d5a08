"""`deploy/qdrant/snapshots.py` against a server that speaks Qdrant's API of snapshots.

A Qdrant server was not at hand; the shapes are those of its API reference for 1.15.
"""

import asyncio
import sys
from collections import defaultdict

from aiohttp import web

from gateway.settings import CHECKOUT
from tests.support.serving import free_ports

SCRIPT = CHECKOUT / "deploy" / "qdrant" / "snapshots.py"


class Node:
    """A node that keeps names of snapshots, for callers with the key."""

    def __init__(self, collections: list[str]) -> None:
        self.collections = collections
        self.snapshots: defaultdict[str, list[str]] = defaultdict(list)
        self.made = 0

    def app(self) -> web.Application:
        @web.middleware
        async def with_key(request, handler):
            if request.headers.get("api-key") != "secret":
                raise web.HTTPUnauthorized
            return await handler(request)

        app = web.Application(middlewares=[with_key])
        path = "/collections/{name}/snapshots"
        app.router.add_get("/collections", self.list)
        app.router.add_post(path, self.make)
        app.router.add_get(path, self.show)
        app.router.add_delete(path + "/{snapshot}", self.delete)
        return app

    async def list(self, _):
        named = [{"name": name} for name in self.collections]
        return web.json_response({"result": {"collections": named}, "status": "ok"})

    async def make(self, request):
        assert request.query["wait"] == "true"
        self.made += 1
        # names say nothing about the order
        self.snapshots[request.match_info["name"]].append(f"{-self.made}.snapshot")
        return web.json_response({"result": {"name": f"{-self.made}.snapshot"}})

    async def show(self, request):
        names = self.snapshots[request.match_info["name"]]
        shown = [
            {"name": name, "creation_time": f"2026-01-01T00:00:{-int(name.split('.')[0]):02}"}
            for name in names
        ]
        return web.json_response({"result": shown})

    async def delete(self, request):
        self.snapshots[request.match_info["name"]].remove(request.match_info["snapshot"])
        return web.json_response({"result": True})


async def test_each_collection_keeps_its_newest_snapshots_and_a_lost_node_is_named(tmp_path):
    node = Node(["faces/a", "b"])
    runner = web.AppRunner(node.app())
    await runner.setup()
    port, gone = free_ports(2)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    (tmp_path / "key").write_text("secret\n")

    async def run(*nodes: int) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", SCRIPT, "--hours=0", "--keep=2"),
            *(f"--key-file={tmp_path / 'key'}", *(f"http://127.0.0.1:{each}" for each in nodes)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        return process.returncode, said.decode()

    try:
        for _ in range(3):
            assert await run(port) == (0, f"http://127.0.0.1:{port}: 2 snapshots\n")
        assert node.snapshots == {
            "faces/a": ["-3.snapshot", "-5.snapshot"],
            "b": ["-4.snapshot", "-6.snapshot"],
        }
        status, said = await run(gone, port)
        assert status == 1
        assert f"http://127.0.0.1:{gone}: no snapshots:" in said
        assert f"http://127.0.0.1:{port}: 2 snapshots" in said
        (tmp_path / "key").write_text("wrong")
        status, said = await run(port)
        assert status == 1
        assert "401" in said
    finally:
        await runner.cleanup()
