import hashlib
import hmac

import pytest

from gateway.errors import ConfigurationError
from gateway.security.api_keys import ApiKey
from gateway.security.peppers import Peppers


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys" / "api-keys.pepper"


def test_a_missing_file_is_made_for_its_owner_only(file):
    made = Peppers.load(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert Peppers.load(file) == made
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_digest_is_an_hmac_under_the_pepper(file):
    peppers, key = Peppers.load(file), ApiKey.generate()
    pepper = peppers.by_id[peppers.active_id]
    expected = hmac.new(pepper, b"aurum api key\0" + key.text.encode(), hashlib.sha256)
    assert peppers.digest(key, peppers.active_id) == expected.hexdigest()
    assert len(pepper) == 32


def test_a_new_pepper_is_used_and_the_old_one_stays(file):
    key = ApiKey.generate()
    old = Peppers.load(file)
    new = Peppers.add(file)
    assert new.active_id != old.active_id
    assert new.digest(key, old.active_id) == old.digest(key, old.active_id)
    assert new.digest(key, new.active_id) != old.digest(key, old.active_id)
    assert file.stat().st_mode & 0o777 == 0o600


def test_under_an_unknown_pepper_something_is_computed_all_the_same(file):
    peppers, key = Peppers.load(file), ApiKey.generate()
    assert len(peppers.digest(key, "gone")) == 64


@pytest.mark.parametrize(
    "text",
    ["", "a", "a b", f"a {'0' * 63}", f"a {'g' * 64}", f"a {'0' * 64}\na {'1' * 64}", "é"],
)
def test_a_file_of_another_kind_is_refused_without_its_content(file, text):
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="AURUM_API_KEY_PEPPER_FILE") as caught:
        Peppers.load(file)
    assert "0" * 63 not in str(caught.value)


def test_an_unreadable_file_is_refused(file):
    file.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        Peppers.load(file)


def test_repr_shows_no_pepper(file):
    peppers = Peppers.load(file)
    secret = peppers.by_id[peppers.active_id]
    assert repr(secret) not in repr(peppers)
    assert secret.hex() not in repr(peppers)
