"""`aurum subjects`: a person's rights: find, export, erase, and who is not to be enrolled."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aurum_client import AurumClient
from aurum_client.results.rights import Candidate, ErasureReceipt, FoundPeople, RefusedFace
from rich.console import Console
from rich.table import Table

from tools.batch import options as given
from tools.batch.types import printable
from tools.errors import BatchError
from tools.jobs.connection import Target, connected, note

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Find a person in all collections, export or erase what is stored, refuse enrolment.",
)
_STATUSES: Final = (
    "Exit status: 0 done; 1 a wrong option, nobody found, or a rejected request; 3 the service is "
    "not reachable."
)
_MISSING: Final = "find the person with: aurum subjects find"
Name = Annotated[str | None, typer.Option(help="Name of the subject.")]
Photo = Annotated[
    Path | None, typer.Option(help="Photo of the person; its largest face is looked for.")
]
MinSimilarity = Annotated[
    float | None,
    typer.Option(min=-1, max=1, help="Lowest similarity; default: each collection's."),
]
Collections = Annotated[
    list[str] | None,
    typer.Option("--collection", help="Only this collection; repeat for several. Default: all."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Take all that is found, without asking.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="Name of the collection.")]


@app.callback()
def _group() -> None:
    """Find a person in all collections, export or erase what is stored, refuse enrolment."""


@app.command(cls=given.BatchCommand, epilog=_STATUSES)
def find(
    *,
    name: Name = None,
    photo: Photo = None,
    min_similarity: MinSimilarity = None,
    collection: Collections = None,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """List the subjects that may be the person, in all collections."""
    with _service(url, api_key_file) as client:
        found = _find(client, name, photo, min_similarity, collection)
        if as_json:
            _write_json([dataclasses.asdict(each) for each in found])
        else:
            _show(found)


@app.command(cls=given.BatchCommand, epilog=_STATUSES)
def export(
    *,
    name: Name = None,
    photo: Photo = None,
    min_similarity: MinSimilarity = None,
    collection: Collections = None,
    output: Annotated[Path, typer.Option(help="File to write; a ZIP.")] = Path("person.zip"),
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Add the numbers that faces are compared by.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Write what is stored about a person: JSON, a page for people, the stored pictures.

    It shows who was found and asks which of them are the person.
    """
    with _service(url, api_key_file) as client:
        chosen = _choose(_find(client, name, photo, min_similarity, collection), "export", yes)
        data = client.export_people(_pairs(chosen), embeddings=embeddings)
        output.touch(mode=0o600)
        output.write_bytes(data)
        if as_json:
            _write_json({"file": str(output), "subjects": _named(chosen)})
        else:
            note(f"{output}: {len(data):,} bytes about {len(chosen)} subjects")


@app.command(cls=given.BatchCommand, epilog=_STATUSES)
def erase(
    *,
    name: Name = None,
    photo: Photo = None,
    min_similarity: MinSimilarity = None,
    collection: Collections = None,
    do_not_enrol: Annotated[
        bool, typer.Option("--do-not-enrol", help="Refuse to enrol these faces from now on.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="With --do-not-enrol: kept with the entries.")
    ] = None,
    receipt: Annotated[Path | None, typer.Option(help="Write the receipt (JSON), too.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Delete everything that is stored about a person, and print a receipt.

    It shows who was found and asks which of them are the person.
    """
    with _service(url, api_key_file) as client:
        chosen = _choose(_find(client, name, photo, min_similarity, collection), "erase", yes)
        erased = client.erase_people(_pairs(chosen), do_not_enrol=do_not_enrol, reason=reason)
        document = dataclasses.asdict(erased)
        if receipt is not None:
            receipt.write_text(_json(document) + "\n", encoding="utf-8")
        if as_json:
            _write_json(document)
        else:
            typer.echo(printable_lines(erased))


@app.command(cls=given.BatchCommand, epilog=_STATUSES)
def refuse(
    collection: Collection,
    *,
    name: Name = None,
    photo: Photo = None,
    reason: Annotated[str | None, typer.Option(help="Kept with the entry.")] = None,
    keep_crop: Annotated[
        bool,
        typer.Option("--keep-crop", help="Keep the aligned face for a newer embedding model."),
    ] = False,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Put a person on the do-not-enrol list of COLLECTION."""
    with _service(url, api_key_file) as client:
        _need_one(name, photo)
        added = client.refuse_person(
            collection, photo, subject=name, reason=reason, keep_crop=keep_crop
        )
        if as_json:
            _write_json([dataclasses.asdict(each) for each in added.entries])
        else:
            for each in added.entries:
                typer.echo(each.entry_id)


@app.command(cls=given.BatchCommand, epilog=_STATUSES)
def refused(
    collection: Collection,
    *,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Show the do-not-enrol list of COLLECTION."""
    with _service(url, api_key_file) as client:
        entries = list(client.refused(collection))
        if as_json:
            _write_json([dataclasses.asdict(each) for each in entries])
        else:
            _show_refused(entries)


@app.command(cls=given.BatchCommand, epilog=_STATUSES)
def allow(
    collection: Collection,
    entry_id: Annotated[str, typer.Argument(metavar="ENTRY", help="Id of the entry.")],
    *,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Take an entry off the do-not-enrol list of COLLECTION."""
    with _service(url, api_key_file) as client:
        entry = client.allow_person(collection, entry_id)
        if as_json:
            _write_json(dataclasses.asdict(entry))
        else:
            note(f"{entry.entry_id} ({printable(entry.reason)}) was removed")


def printable_lines(erased: ErasureReceipt) -> str:
    """Write a receipt for people."""
    lines = [f"Receipt {erased.receipt}", f"Erased on {erased.at:%Y-%m-%d at %H:%M:%S} UTC", ""]
    for each in erased.erased:
        lines.append(f"{printable(each.collection)}: {printable(each.subject)}")
        lines.append(
            f"  {each.faces} faces, {each.vectors} vectors, {each.crops} crops, "
            f"{each.cached_answers} cached answers, {each.job_results} results of jobs"
        )
        if each.do_not_enrol:
            lines.append(f"  not to be enrolled again: {', '.join(each.do_not_enrol)}")
    lines += ["", "What remains:"]
    for remain in erased.remains:
        until = "" if remain.until is None else f" until {remain.until:%Y-%m-%d %H:%M} UTC"
        lines.append(f"- {remain.what}{until}: {remain.why}")
    return "\n".join(lines)


@contextmanager
def _service(url: str | None, api_key_file: Path | None) -> Iterator[AurumClient]:
    with connected(Target(url, api_key_file), missing=_MISSING) as client:
        yield client


def _find(
    client: AurumClient,
    name: str | None,
    photo: Path | None,
    min_similarity: float | None,
    collections: Sequence[str] | None,
) -> list[Candidate]:
    _need_one(name, photo)
    found: FoundPeople = client.find_people(photo, subject=name, min_similarity=min_similarity)
    for missed in found.not_searched:
        note(f"warning: no model in service can search {printable(missed)}")
    people = [each for each in found.people if not collections or each.collection in collections]
    if not people:
        raise BatchError("nobody was found")
    return people


def _choose(found: list[Candidate], verb: str, yes: bool) -> list[Candidate]:
    """Ask which of the candidates are the person."""
    if yes:
        return found
    _show(found)
    answer = typer.prompt(
        f"Which of them to {verb}? Numbers separated by commas, or all", default="none", err=True
    )
    text = answer.strip().lower()
    if text == "all":
        return found
    try:
        numbers = [] if text == "none" else [int(each) for each in text.split(",")]
    except ValueError:
        raise BatchError(f"{answer!r} is no list of numbers") from None
    if not numbers or not all(1 <= number <= len(found) for number in numbers):
        raise BatchError(f"nothing to {verb} was chosen")
    return [found[number - 1] for number in dict.fromkeys(numbers)]


def _need_one(name: str | None, photo: Path | None) -> None:
    if (name is None) == (photo is None):
        raise BatchError("give --name or --photo")


def _pairs(people: Sequence[Candidate]) -> list[tuple[str, str]]:
    return [(each.collection, each.subject) for each in people]


def _named(people: Sequence[Candidate]) -> list[dict[str, str]]:
    return [{"collection": each.collection, "subject": each.subject} for each in people]


def _show(people: Sequence[Candidate]) -> None:
    table = Table("", "collection", "subject", "display name", "faces", "similarity")
    for number, each in enumerate(people, 1):
        table.add_row(
            str(number),
            printable(each.collection),
            printable(each.subject),
            printable(each.display_name or ""),
            str(each.faces),
            "" if each.similarity is None else f"{each.similarity:.3f}",
        )
    Console(stderr=True, markup=False).print(table)


def _show_refused(entries: Sequence[RefusedFace]) -> None:
    table = Table("entry", "since", "by", "reason", "crop", "compared")
    for each in entries:
        table.add_row(
            each.entry_id,
            f"{each.created_at:%Y-%m-%d}",
            printable(each.created_by),
            printable(each.reason),
            "kept" if each.has_crop else "",
            "yes" if each.compared else "no: add it again",
        )
    Console(markup=False).print(table)


def _write_json(document: object) -> None:
    typer.echo(_json(document))


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
