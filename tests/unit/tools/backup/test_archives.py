"""The sealed archive: whatever is changed, cut off or opened with another secret is refused."""

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr

from gateway.settings import Settings
from tools.backup import secret as secrets
from tools.backup.errors import BackupError
from tools.backup.members import ArchiveWriter, Begin, End, Finished, Items, read_members
from tools.backup.sealed_stream import CHUNK_BYTES, SealedWriter, read_head, read_sealed
from tools.backup.secret import BackupSecret, load_secret

KEY = BackupSecret("key", bytes(range(32)))
ITEMS = [[1, "a", b"\x00\xff", None, 0.1], [2, "b", b"", True, -1e300]]


class Memory(io.BytesIO):
    """A sink and a source."""

    async def write(self, data: bytes) -> None:  # type: ignore[override]
        super().write(data)

    async def read(self, size: int) -> bytes:  # type: ignore[override]
        return super().read(size)


async def archive(*pieces: bytes, secret: BackupSecret = KEY) -> bytes:
    memory = Memory()
    stream = await SealedWriter.open(memory, secret, {"release": "1"})
    writer = ArchiveWriter(stream)
    async with writer.member("rows", {"columns": ["a"]}):
        await writer.add(ITEMS)
    async with writer.member("file"):
        for piece in pieces:
            await writer.add([piece])
    await writer.finish({"rows": 2})
    assert stream.written == len(memory.getvalue())
    return memory.getvalue()


async def read(data: bytes, secret: BackupSecret = KEY) -> list[object]:
    return [frame async for frame in read_members(read_sealed(Memory(data), secret))]


async def test_everything_is_read_as_it_was_written() -> None:
    piece = os.urandom(CHUNK_BYTES)
    made = await archive(piece, b"last")
    frames = await read(made)
    assert frames[0] == Begin("rows", {"columns": ["a"]})
    assert [frame.items for frame in frames if isinstance(frame, Items)] == [
        ITEMS,
        [piece],
        [b"last"],
    ]
    assert isinstance(frames[-1], Finished)
    assert frames[-1].manifest == {"rows": 2}
    assert piece[:64] not in made


async def test_no_byte_can_be_changed() -> None:
    made = await archive(b"short")
    for position in range(len(made)):
        changed = bytearray(made)
        changed[position] ^= 1
        with pytest.raises(BackupError):
            await read(bytes(changed))


async def test_no_end_can_be_cut_off_and_nothing_added() -> None:
    made = await archive(os.urandom(CHUNK_BYTES), os.urandom(CHUNK_BYTES))
    head = len((await read_head(Memory(made)))[1])
    chunk = 4 + CHUNK_BYTES + 16
    # also exactly between two chunks
    for size in (0, 10, head, head + 2, head + chunk, head + 2 * chunk, len(made) - 1):
        with pytest.raises(BackupError):
            await read(made[:size])
    with pytest.raises(BackupError, match="cut off"):
        await read(made[: head + chunk])
    with pytest.raises(BackupError):
        await read(made + b"\0")
    exchanged = made[:head] + made[head + chunk : head + 2 * chunk] + made[head : head + chunk]
    with pytest.raises(BackupError, match="damaged in its chunk 1"):
        await read(exchanged + made[head + 2 * chunk :])


async def test_two_archives_share_no_chunk() -> None:
    first, second = await archive(bytes(1000)), await archive(bytes(1000))
    assert first[-1000:] != second[-1000:]
    # nor can the head of one be put before the chunks of the other
    head = len((await read_head(Memory(first)))[1])
    with pytest.raises(BackupError):
        await read(first[:head] + second[head:])


async def test_another_secret_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # a third of a second for each attempt otherwise
    monkeypatch.setitem(secrets._COST, "n", 1 << 10)
    right, wrong = BackupSecret("passphrase", b"correct horse"), BackupSecret("passphrase", b"no")
    made = await archive(b"x", secret=right)
    assert len(await read(made, right)) == 7
    with pytest.raises(BackupError, match="the passphrase is not that of the archive"):
        await read(made, wrong)
    with pytest.raises(BackupError, match="with a passphrase, not with a key"):
        await read(made, KEY)
    assert "correct horse" not in repr(right)


async def test_a_forged_head_costs_no_memory() -> None:
    with pytest.raises(BackupError, match="head"):
        BackupSecret("passphrase", b"x" * 12).key(
            {"kind": "passphrase", "salt": "00", "n": 1 << 30, "r": 8, "p": 1, "check": ""}
        )


def test_exactly_one_secret_is_taken(tmp_path: Path) -> None:
    phrase, key = tmp_path / "phrase", tmp_path / "key"
    phrase.write_text("a long passphrase\n")
    key.write_text("ab" * 32 + "\n")
    assert load_secret(Settings(backup_passphrase_file=phrase)).value == b"a long passphrase"
    assert load_secret(Settings(backup_key_file=key)).value == b"\xab" * 32
    given = SecretStr("a long passphrase")
    assert load_secret(Settings(backup_passphrase=given)).value == b"a long passphrase"
    with pytest.raises(BackupError, match="nothing encrypts backups"):
        load_secret(Settings())
    with pytest.raises(BackupError, match="two things"):
        load_secret(Settings(backup_passphrase_file=phrase, backup_key_file=key))
    phrase.write_text("short\n")
    with pytest.raises(BackupError, match="fewer than 12"):
        load_secret(Settings(backup_passphrase_file=phrase))
    key.write_text("ab")
    with pytest.raises(BackupError, match="64 hexadecimal digits"):
        load_secret(Settings(backup_key_file=key))


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([Begin("a", {}), Items([1]), End(2, "00")], "a in the archive is not as it was written"),
        ([Finished({}, {"a": (1, "00")})], "lacks parts that its manifest names"),
        ([Begin("a", {})], "no manifest"),
        ([b"\xc1"], "cannot be read"),
    ],
)
async def test_parts_that_do_not_fit_are_refused(frames: list[object], why: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for frame in frames:
            body = frame if isinstance(frame, bytes) else msgspec.msgpack.encode(frame)
            yield len(body).to_bytes(4, "big") + body

    with pytest.raises(BackupError, match=why):
        async for _ in read_members(chunks()):
            pass
