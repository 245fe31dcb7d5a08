"""Storage keys: rings in files and variables, their ids, and a cipher that follows its file."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.errors import ConfigurationError
from gateway.records.encryption import FileKeyCipher, load_cipher
from gateway.records.key_ring import KeyRing, key_id
from gateway.settings import Settings

OLD, NEW, INDEX = (character * 64 for character in "abc")


def test_a_file_of_one_key_is_a_ring_of_one():
    ring = KeyRing.parse(b"k" * 32, "file")
    assert list(ring.by_id) == [ring.current_id] == [key_id(b"k" * 32)]
    # what was sealed before there were rings has this id
    assert ring.current_id == "b0360df08ade121d"


def test_the_last_entry_is_current_and_ids_follow_from_the_keys():
    ring = KeyRing.parse(f"{OLD},{NEW}".encode(), "variable")
    assert ring.current_id == key_id(bytes.fromhex(NEW))
    assert set(ring.by_id) == {key_id(bytes.fromhex(OLD)), ring.current_id}
    assert KeyRing.parse(f"{OLD}\n{NEW}\n".encode(), "file") == ring


def test_the_index_key_outlives_the_key_that_it_was_made_of(tmp_path: Path):
    first = KeyRing.parse(b"k" * 32, "file")
    rotated = first.with_new_key()
    rotated.save(tmp_path / "keys")
    alone = KeyRing.load(tmp_path / "keys").without(first.current_id)
    alone.save(tmp_path / "keys")
    again = KeyRing.load(tmp_path / "keys")
    assert list(again.by_id) == [rotated.current_id]
    assert again.index_key == first.index_key
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    assert KeyRing.parse(f"index:{INDEX} {OLD}".encode(), "x").index_key.hex() == INDEX


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"k" * 31,
        OLD[:-1].encode(),
        f"{OLD} {NEW}x".encode(),
        f"index:{OLD} index:{NEW} {OLD}".encode(),
        f"index:{OLD}".encode(),
        OLD.upper().encode(),
        b"\xff" * 64,
    ],
)
def test_what_is_no_ring_is_refused_and_not_shown(content: bytes):
    with pytest.raises(ConfigurationError, match="the file") as caught:
        KeyRing.parse(content, "the file")
    assert "aaaa" not in str(caught.value)
    assert "bbbb" not in repr(caught.value)


def test_no_key_shows_in_a_repr():
    ring = KeyRing.parse(f"index:{INDEX} {OLD}".encode(), "x")
    assert "aaaa" not in repr(ring)
    assert "cccc" not in repr(ring)
    assert "\\xaa" not in repr(ring)


def test_the_current_key_cannot_be_removed():
    ring = KeyRing.parse(f"{OLD},{NEW}".encode(), "x")
    with pytest.raises(ConfigurationError, match="cannot be retired"):
        ring.without(ring.current_id)


def test_a_cipher_follows_its_file(tmp_path: Path):
    file = tmp_path / "keys" / "crops.key"
    running = FileKeyCipher.load(file)
    before = running.seal("name", b"data")
    rotated = running.ring.with_new_key()
    rotated.save(file)
    after = running.seal("name", b"data")
    assert (before.key_id, after.key_id) != (after.key_id, before.key_id)
    assert after.key_id == rotated.current_id == running.current_key_id
    assert running.open("name", before) == running.open("name", after) == b"data"
    # a process that sealed nothing meanwhile meets an unknown key
    reader = FileKeyCipher.load(file)
    rotated.with_new_key().save(file)
    newest = running.seal("name", b"newest")
    assert reader.open("name", newest) == b"newest"


def test_a_file_that_is_lost_or_damaged_stops_nothing_that_runs(tmp_path: Path):
    file = tmp_path / "crops.key"
    running = FileKeyCipher.load(file)
    sealed = running.seal("name", b"data")
    kept = file.read_bytes()
    file.write_bytes(b"damaged")
    assert running.open("name", running.seal("name", b"more")) == b"more"
    file.unlink()
    assert running.open("name", sealed) == b"data"
    assert running.current_key_id == sealed.key_id
    file.write_bytes(kept)
    assert FileKeyCipher.load(file).open("name", sealed) == b"data"
    file.write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="entry 1"):
        FileKeyCipher.load(file)


def test_a_missing_key_is_named_and_may_come_back(tmp_path: Path):
    sealed = FileKeyCipher.load(tmp_path / "old").seal("face", b"data")
    other = FileKeyCipher.load(tmp_path / "new")
    with pytest.raises(ConfigurationError, match=f"AURUM_CROP_KEY_FILE.*{sealed.key_id}"):
        other.open("face", sealed)
    assert not other.knows(sealed.key_id)
    KeyRing.of((tmp_path / "old").read_bytes(), (tmp_path / "new").read_bytes()).save(
        tmp_path / "new"
    )
    assert other.open("face", sealed) == b"data"
    assert other.knows(sealed.key_id)


def test_keys_of_the_environment_make_no_file(tmp_path: Path):
    settings = Settings(home=tmp_path / "home", storage_keys=SecretStr(f"{OLD},{NEW}"))
    cipher = load_cipher(settings)
    assert cipher.current_key_id == key_id(bytes.fromhex(NEW))
    assert not os.path.exists(settings.home)
    assert OLD not in repr(settings)
    wrong = settings.model_copy(update={"storage_keys": SecretStr(OLD[:60])})
    with pytest.raises(ConfigurationError, match="AURUM_STORAGE_KEYS: entry 1"):
        load_cipher(wrong)
