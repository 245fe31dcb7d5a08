"""Whose photo it is."""

import pytest

from tools.batch.subjects import Subject, SubjectError, SubjectFrom, open_subjects
from tools.batch.types import Photo
from tools.errors import BatchError


def subject(source, name, member=None):
    return source.of(Photo.of(name, b"", weight=0, member=member)).name


def test_the_folder_that_holds_the_photo():
    source = open_subjects(SubjectFrom.FOLDER, None)
    assert subject(source, "people/ada/1.jpg") == "ada"
    assert subject(source, "/x/José Ñ/2024.jpg") == "José Ñ"
    assert subject(source, "crew.zip/ada/1.jpg", "ada/1.jpg") == "ada"
    for name, member in (("1.jpg", None), ("crew.zip/1.jpg", "1.jpg"), ("../1.jpg", None)):
        with pytest.raises(SubjectError, match="no folder"):
            subject(source, name, member)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/ada.jpg", "ada"),
        ("ada_2.jpg", "ada"),
        ("George_W_Bush_0001.jpg", "George_W_Bush"),
        ("ada (3).png", "ada"),
        ("ada-lovelace.1.png", "ada-lovelace"),
    ],
)
def test_the_name_without_the_number_at_its_end(name, expected):
    assert subject(open_subjects(SubjectFrom.NAME, None), name) == expected


@pytest.mark.parametrize("name", ["1.jpg", "-", "_7.png"])
def test_a_name_of_a_number_names_nobody(name):
    with pytest.raises(SubjectError, match="nothing but a number"):
        subject(open_subjects(SubjectFrom.NAME, None), name)


def test_a_table_of_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "lists" / "people.csv"
    table.parent.mkdir()
    table.write_text(
        "\ufeffpath,subject,display_name\n"
        "../in/1.jpg,ada,Ada Lovelace\nin/2.jpg,bob,\ncrew/3.jpg,eve,\n"
    )
    source = open_subjects(SubjectFrom.CSV, table)
    # relative to the table, as it was given, within an archive
    assert source.of(Photo.of("in/1.jpg", b"", weight=0)) == Subject("ada", "Ada Lovelace")
    assert source.of(Photo.of("in/2.jpg", b"", weight=0)) == Subject("bob")
    assert subject(source, "x.zip/crew/3.jpg", "crew/3.jpg") == "eve"
    with pytest.raises(SubjectError, match=r"people\.csv has no row"):
        subject(source, "in/4.jpg")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,who\n", "no column path and no subject"),
        ("path,subject\n1.jpg,\n", "line 2: path and subject"),
        ("path,subject\n1.jpg,a\n1.jpg,b\n", "line 3: 1.jpg has two subjects"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, reason):
    table = tmp_path / "a.csv"
    table.write_text(text)
    with pytest.raises(BatchError, match=reason):
        open_subjects(SubjectFrom.CSV, table)


def test_options_must_fit(tmp_path):
    with pytest.raises(BatchError, match="needs --csv"):
        open_subjects(SubjectFrom.CSV, None)
    with pytest.raises(BatchError, match="--csv needs"):
        open_subjects(SubjectFrom.NAME, tmp_path / "a.csv")
    with pytest.raises(BatchError, match="cannot be read"):
        open_subjects(SubjectFrom.CSV, tmp_path / "missing.csv")
