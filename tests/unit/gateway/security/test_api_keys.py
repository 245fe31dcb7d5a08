import string

import pytest

from gateway.security.api_keys import ApiKey, _base62, _checksum


def test_a_key_has_its_four_parts_and_is_read_again():
    key = ApiKey.generate()
    prefix, key_id, secret, checksum = key.text.split("_")
    assert (prefix, key_id, len(secret), len(checksum)) == ("aur", key.id, 43, 6)
    assert ApiKey.parse(key.text) == key


def test_secrets_have_256_bits_and_differ():
    assert 62**43 > 2**256 > 62**42
    # the largest secret still fits
    assert len(_base62(2**256 - 1, 43)) == 43
    assert len({ApiKey.generate().text.split("_")[2] for _ in range(100)}) == 100


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_cut_key_is_none(cut):
    assert ApiKey.parse(ApiKey.generate().text[:-cut]) is None


def test_every_changed_character_is_noticed():
    text = ApiKey.generate().text
    for at, character in enumerate(text):
        other = "0" if character != "0" else "1"
        assert ApiKey.parse(text[:at] + other + text[at + 1 :]) is None, at


@pytest.mark.parametrize(
    "text", ["", "aur_", "aur_a_b_c", "x" * 8000, "aur_" + "é" * 12, "\x00", "aur_a_b_c\n"]
)
def test_other_texts_are_none(text):
    assert ApiKey.parse(text) is None


def test_a_line_break_behind_a_key_is_none():
    assert ApiKey.parse(ApiKey.generate().text + "\n") is None


def test_neither_repr_nor_str_show_the_secret():
    key = ApiKey.generate()
    secret = key.text.split("_")[2]
    assert secret not in repr(key) + str(key) + f"{key}"
    assert key.id in str(key)


def test_the_checksum_is_that_of_everything_before_it():
    key = ApiKey.generate()
    start, _, checksum = key.text.rpartition("_")
    assert _checksum(start) == checksum
    assert set(checksum) <= set(string.ascii_letters + string.digits)
