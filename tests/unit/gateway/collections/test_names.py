"""Names of subjects, and metadata."""

import unicodedata

import pytest

from gateway.collections.base import check_metadata
from gateway.collections.names import subject_name, subject_of_file, subject_of_folder
from gateway.errors import InvalidRequestError

NAMES = [
    "José",
    "李明",
    "O'Brien",
    "John Smith",
    "山田\u3000太郎",
    "Ångström-Ž. d'Été, Jr.",
    "عبد الله",
    "می\u200cخواهم",  # noqa: RUF001
    "क्\u200dष",
    "a/b",
    "a\\b",
    "100%",
    "a%2Fb",
    "[Anna]",
    "{x}",
    "#1?",
    "...",
    "~",
    "👩🏽",
    "x" * 128,
    "a",
    "A.b_c-9",
]
NO_NAMES = [
    "",
    " ",
    " a",
    "a ",
    "a\u00a0",
    "\u3000a",
    "a\nb",
    "a\x00",
    "\x7f",
    "\x85",
    "a\u2028b",
    "\ud800",
    "a\u202eb",
    "\u2066a\u2069",
    "\ufeffa",
    "a\u200bb",
    "a\u00adb",
    "\u200d",
    "a\u200c",
    "\U000e0041",
    ".",
    "..",
    "x" * 129,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_people_are_accepted(name: str) -> None:
    assert subject_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_invisible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"it has|may not|begins or ends|no name"):
        subject_name(name)


def test_composed_and_decomposed_accents_are_one_name() -> None:
    decomposed = unicodedata.normalize("NFD", "José")
    assert decomposed != "José"
    assert subject_name(decomposed) == "José"
    # counted in its composed form
    assert subject_name(unicodedata.normalize("NFD", "é" * 128)) == "é" * 128


@pytest.mark.parametrize(
    "value", [True, False, 0, -0.0, 1.5, "", "x" * 256, 2**53, -(2**53), 2**53 - 1, 1e-300, 9e15]
)
def test_valid_metadata_is_accepted(value: object) -> None:
    (kept,) = check_metadata({"key": value}, max_entries=1).values()
    assert (type(kept), kept) == (type(value), value)


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**53) - 1, 2**63, 2**64, 2**2000, float(2**53), -float(2**64), 1e300]
)
def test_numbers_that_lose_digits_are_refused_with_the_reason(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"2\^53.*not exact.*text"):
        check_metadata({"key": value}, max_entries=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1], {"a": 1}, "x" * 257])
def test_metadata_of_other_kinds_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="boolean, a number, or a string"):
        check_metadata({"key": value}, max_entries=1)


def test_a_text_that_is_too_long_is_not_scanned():
    with pytest.raises(ValueError, match="it has 1000000 characters"):
        subject_name("\n" * 1_000_000)


@pytest.mark.parametrize(
    ("path", "folder", "file"),
    [
        ("people/ada/1.jpg", "ada", None),
        ("upload.zip/ada/grace_2.png", "ada", "grace"),
        ("ada/Grace Hopper (3).jpg", "ada", "Grace Hopper"),
        ("grace-12.jpeg", None, "grace"),
        ("../grace.jpeg", None, "grace"),
        ("ada\u0000/x.jpg", None, "x"),
        ("x/007.jpg", "x", None),
    ],
)
def test_subjects_of_photos_are_named_by_their_paths(path, folder, file):
    for name, expected in ((subject_of_folder, folder), (subject_of_file, file)):
        if expected is None:
            with pytest.raises(ValueError, match=r"\w"):
                name(path)
        else:
            assert name(path) == expected
