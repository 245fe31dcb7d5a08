import fcntl
import hashlib
import io
import json
import shutil
import zipfile

import pytest
from typer.testing import CliRunner

from gateway.settings import CHECKOUT
from tests.support import photos
from tests.support.json_schemas import validator
from tests.support.pack_server import PackServer, pack_server
from tests.support.serving import free_ports
from tools.__main__ import app
from tools.errors import PackError
from tools.packs import download
from tools.packs.cache import Cache
from tools.packs.download import Patience
from tools.packs.manifest import (
    MANIFEST,
    Manifest,
    Pack,
    built_in_files,
    load_manifest,
    refresh_built_in,
)
from triton_python_backend.contract import ONNX_STAGES

HASTY = Patience(
    attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02, stalled_seconds=0.5
)
CONTENTS = {"det.onnx": b"detector" * 4000, "net.onnx": b"embedder" * 5000}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def zipped(contents: dict[str, bytes], folder: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents.items():
            archive.writestr(folder + name, data)
    return buffer.getvalue()


def describe(url: str, data: bytes, *, known: bool = True, **archive: object) -> Pack:
    """Return a pack with the archive `data`."""
    stages = {"det.onnx": "face_detection", "net.onnx": "face_embedding"}
    files = [
        {
            "name": name,
            "stage": stage,
            "bytes": len(CONTENTS[name]) if known else None,
            "sha256": sha(CONTENTS[name]) if known else None,
            "preprocessing": {"colour": "RGB", "mean": 127.5, "std": 127.5},
        }
        for name, stage in stages.items()
    ]
    source = {"url": f"{url}/p.zip", "bytes": None, "sha256": sha(data), **archive}
    fields = {"name": "p", "description": "d", "licence": "l", "commercial_use": False}
    return Pack.model_validate({**fields, "archive": source, "files": files})


@pytest.fixture
def server():
    with pack_server() as running:
        yield running


@pytest.fixture
def data() -> bytes:
    return zipped(CONTENTS)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache", patience=HASTY)


def offer(server: PackServer, data: bytes, **changes: object) -> Pack:
    server.files["/p.zip"] = data
    return describe(server.url, data, **changes)


def fetch(cache: Cache, pack: Pack) -> dict[str, bytes]:
    seen: list[tuple[int, int | None]] = []
    found = cache.fetch(pack, progress=lambda done, total: seen.append((done, total)))
    return {path.name: path.read_bytes() for path in found.values()}


def leftovers(cache: Cache) -> set[str]:
    return {path.name for path in (cache.folder / "p").iterdir()} - {"files.json"}


def test_a_pack_is_downloaded_once(server, cache, data):
    pack = offer(server, data)
    assert fetch(cache, pack) == CONTENTS
    assert fetch(cache, pack) == CONTENTS
    assert server.asked == [("/p.zip", None)]
    assert leftovers(cache) == set(CONTENTS)


def test_a_damaged_copy_is_downloaded_again(server, cache, data):
    pack = offer(server, data)
    fetch(cache, pack)
    (cache.folder / "p" / "net.onnx").write_bytes(b"x")
    assert cache.cached(pack) is None
    assert fetch(cache, pack) == CONTENTS
    assert len(server.asked) == 2


def test_networks_in_a_folder_of_the_archive_are_found(server, cache):
    assert fetch(cache, offer(server, zipped(CONTENTS, "antelopev2/"))) == CONTENTS


def test_a_broken_connection_is_resumed_where_it_broke(server, cache, data):
    server.cut = [20_000, 15_000]
    assert fetch(cache, offer(server, data)) == CONTENTS
    assert [part for _, part in server.asked] == [None, "bytes=20000-", "bytes=35000-"]


def test_a_later_run_resumes_an_earlier_one(server, cache, data):
    pack = offer(server, data)
    server.cut = [1000] * 3
    with pytest.raises(PackError, match="3 attempts; what came is kept"):
        fetch(cache, pack)
    server.cut = []
    assert fetch(cache, pack) == CONTENTS
    assert server.asked[-1] == ("/p.zip", "bytes=3000-")


def test_without_ranges_the_download_restarts(server, cache, data):
    server.ranges = False
    server.cut = [20_000]
    assert fetch(cache, offer(server, data)) == CONTENTS


def test_a_file_that_changed_meanwhile_is_not_joined(server, cache, data):
    pack = offer(server, data)
    server.cut = [20_000] * 3
    with pytest.raises(PackError):
        fetch(cache, offer(server, bytes(len(data))))
    server.cut, server.etag = [], '"two"'
    server.files["/p.zip"] = data
    assert fetch(cache, pack) == CONTENTS


def test_without_validators_the_whole_file_is_requested_again(server, cache, data):
    server.etag = ""
    server.cut = [20_000]
    assert fetch(cache, offer(server, data)) == CONTENTS
    assert [part for _, part in server.asked] == [None, None]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_server_is_tried_again(server, cache, data, status):
    server.failures = [status]
    assert fetch(cache, offer(server, data)) == CONTENTS


def test_a_silent_server_is_tried_again(server, cache, data):
    server.stalls = [5.0]
    assert fetch(cache, offer(server, data)) == CONTENTS
    assert len(server.asked) == 2


def test_a_missing_file_is_not_requested_again(server, cache, data):
    with pytest.raises(PackError, match=r"p\.zip answers 404"):
        fetch(cache, describe(server.url, data))
    assert len(server.asked) == 1


def test_a_wrong_digest_is_refused_and_nothing_is_stored(server, cache, data):
    with pytest.raises(PackError, match=f"{'0' * 64} was expected"):
        fetch(cache, offer(server, data, sha256="0" * 64))
    assert leftovers(cache) == set()


def test_a_wrong_size_is_refused(server, cache, data):
    with pytest.raises(PackError, match=f"has {len(data)} bytes; 7 were expected|has .* bytes"):
        fetch(cache, offer(server, data, bytes=7))
    assert leftovers(cache) == set()


def test_a_network_with_another_digest_is_refused(server, cache):
    other = zipped({**CONTENTS, "net.onnx": CONTENTS["net.onnx"][:-1] + b"x"})
    with pytest.raises(PackError, match=r"net\.onnx has the SHA-256"):
        fetch(cache, offer(server, other, sha256=None))
    assert "net.onnx" not in leftovers(cache)


@pytest.mark.parametrize(
    "name", ["../det.onnx", "/etc/det.onnx", "a/../../det.onnx", "c:\\det.onnx"]
)
def test_an_archive_that_points_outside_is_refused(server, cache, name, tmp_path):
    slip = zipped({**CONTENTS, name: b"evil"})
    before = sorted(tmp_path.parent.rglob("det.onnx"))
    with pytest.raises(PackError, match="outside itself"):
        fetch(cache, offer(server, slip))
    assert sorted(tmp_path.parent.rglob("det.onnx")) == before


def test_an_archive_without_the_network_is_refused(server, cache):
    with pytest.raises(PackError, match=r"does not hold net\.onnx"):
        fetch(cache, offer(server, zipped({"det.onnx": CONTENTS["det.onnx"]})))


def test_other_files_than_archives_are_refused(server, cache):
    with pytest.raises(PackError, match="no sound zip file"):
        fetch(cache, offer(server, b"garbage"))


def test_a_full_disk_is_reported_before_the_download(server, cache, data, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PackError, match="0 MB free; 67 MB are needed"):
        fetch(cache, offer(server, data))


def test_a_disk_that_fills_up_is_reported_and_the_rest_removed(server, cache, data):
    pack = offer(server, data)
    folder = cache.folder / "p"
    folder.mkdir(parents=True)
    mark = sha(f"{server.url}/p.zip".encode())[:8]
    (folder / f"p-{mark}.zip.part").symlink_to("/dev/full")
    with pytest.raises(PackError, match="is full"):
        fetch(cache, pack)
    assert leftovers(cache) == set()


def test_a_mirror_is_tried_first(server, cache, data, tmp_path):
    pack = offer(server, data)
    with pack_server() as mirror:
        mirror.files["/p.zip"] = data
        assert fetch(Cache(tmp_path / "a", mirror.url, HASTY), pack) == CONTENTS
        assert server.asked == []
        mirror.files["/p.zip"] = b"garbage"
        assert fetch(Cache(tmp_path / "b", mirror.url, HASTY), pack) == CONTENTS
        assert len(server.asked) == 1


def test_a_mirror_folder_contains_the_archive_or_the_networks(cache, data, tmp_path):
    pack = describe("http://127.0.0.1:9", data)
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    assert fetch(Cache(tmp_path / "a", str(folder)), pack) == CONTENTS
    (folder / "net.onnx").write_bytes(b"x")
    with pytest.raises(PackError, match=r"mirror/net\.onnx has the SHA-256"):
        fetch(Cache(tmp_path / "b", str(folder), HASTY), pack)
    (folder / "p.zip").write_bytes(data)
    assert fetch(Cache(tmp_path / "c", str(folder)), pack) == CONTENTS


def test_a_simultaneous_second_download_is_refused(server, cache, data):
    cache.folder.mkdir()
    with (cache.folder / "p.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PackError, match="another process is fetching p"):
            fetch(cache, offer(server, data))


def test_the_manifest_is_valid_and_its_schema_up_to_date():
    schema = json.loads(MANIFEST.with_name("models.schema.json").read_text())
    assert schema == Manifest.model_json_schema()
    check = validator(schema)
    check.check_schema(schema)
    check.validate(json.loads(MANIFEST.read_text()))
    assert [pack.name for pack in load_manifest().packs] == [
        "lite",
        "buffalo_s",
        "buffalo_l",
        "antelopev2",
    ]


def test_the_manifest_describes_the_built_in_files():
    lite = load_manifest().pack("lite")
    made = built_in_files(CHECKOUT / "model_repository")
    assert lite.files == made, (
        "models.json knows other built-in networks; `python -m tools.golden model_repository` "
        "writes it anew"
    )
    assert lite.bytes == sum(file.bytes for file in made)


def test_only_built_in_files_are_rewritten(tmp_path):
    for stage in ONNX_STAGES:
        folder = tmp_path / stage.name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(stage.name.encode())
    path = tmp_path / "models.json"
    shutil.copy(MANIFEST, path)
    refresh_built_in(tmp_path, path)
    before, after = load_manifest(), load_manifest(path)
    assert after.packs[1:] == before.packs[1:]
    detection = after.pack("lite").files[0]
    assert (detection.stage, detection.bytes) == ("face_detection", 14)
    assert detection.sha256 == sha(b"face_detection")
    refresh_built_in(CHECKOUT / "model_repository", path)
    assert path.read_text() == MANIFEST.read_text()
    with pytest.raises(PackError, match=r"model\.onnx cannot be read"):
        built_in_files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"archive": {"url": "http://x/y.zip", "bytes": None, "sha256": None}}, "no digest covers"),
        ({"licence": None}, "licence"),
        ({"extra": 1}, "extra"),
        ({"name": "../x"}, "name"),
    ],
)
def test_the_error_names_a_wrong_manifest(tmp_path, change, message):
    manifest = json.loads(MANIFEST.read_text())
    manifest["packs"][3].update(change)
    path = tmp_path / "models.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(PackError, match=message):
        load_manifest(path)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run `aurum models …` with its own repository, home and manifest."""
    monkeypatch.setenv("AURUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AURUM_MODEL_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("AURUM_TRITON_HTTP_PORT", str(free_ports(1)[0]))
    for stage in ONNX_STAGES:
        (tmp_path / "repository" / stage.name).mkdir(parents=True)
        config = CHECKOUT / "model_repository" / stage.name / "config.pbtxt"
        shutil.copy(config, tmp_path / "repository" / stage.name)

    def run(*arguments: object, answer: str = ""):
        return CliRunner().invoke(app, ["models", *map(str, arguments)], input=answer)

    return run


def test_real_networks_are_pulled_and_placed_once(command, server, tmp_path):
    models = photos.models_folder()
    names = {
        "scrfd_2.5g_bnkps.onnx": "face_detection",
        "mobilefacenet_arcface_128.onnx": "face_embedding",
    }
    data = zipped({name: (models / name).read_bytes() for name in names}, "pack/")
    server.files["/real.zip"] = data
    pack = {
        **{"name": "real", "description": "d", "licence": "for tests", "commercial_use": False},
        "archive": {"url": f"{server.url}/real.zip", "bytes": len(data), "sha256": sha(data)},
        "files": [
            {
                **{"name": name, "stage": stage, "bytes": None, "sha256": None},
                "preprocessing": {"colour": "RGB", "mean": 127.5, "std": 127.5},
            }
            for name, stage in names.items()
        ],
    }
    manifest = tmp_path / "models.json"
    manifest.write_text(json.dumps({"schema_version": 1, "packs": [pack]}))
    refused = command("pull", "real", "--manifest", manifest, answer="n\n")
    assert refused.exit_code == 1
    assert "licence: for tests" in refused.stdout
    assert server.asked == []
    for _ in range(2):
        done = command("pull", "real", "--manifest", manifest, "--accept-license")
        assert done.exit_code == 0, done.output
    assert "in service already" in done.stdout
    assert len(server.asked) == 1
    sidecar = json.loads((tmp_path / "repository/face_embedding/1/model.json").read_text())
    assert sidecar["licence"] == "for tests"
    assert "yes" in command("list", "--manifest", manifest).stdout
    assert "face_embedding" in command("status").stdout
    assert command("verify").exit_code == 0
    network = tmp_path / "repository/face_detection/1/model.onnx"
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    assert command("verify").exit_code == 1


def test_pull_explains_unknown_and_built_in_packs(command):
    unknown = command("pull", "buffalo_xl")
    assert unknown.exit_code == 1
    assert "there are lite, buffalo_s, buffalo_l, antelopev2" in unknown.stderr
    assert "built in" in command("pull", "lite").stdout
    shown = command("list").stdout
    assert "buffalo_l" in shown
    assert "research" in shown
    asked = command("pull", "buffalo_l", answer="n\n")
    assert asked.exit_code == 1
    assert "size unknown until download" in asked.stdout
