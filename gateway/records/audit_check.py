"""Verifies the audit log: its chain, and the anchors outside of it."""

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.records.audit_anchor import Anchor
from gateway.records.audit_chain import FIRST, hash_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    lines: number of lines read; first, last: their numbers, 0 without a line. expired_through:
    number of the last line that has expired, 0 if none has. unkeyed: lines from before there was a
    chain. anchors: how many were compared. bad_line, problem: of the first line that is not as it
    was written, None where all is well.
    """

    lines: int
    first: int
    last: int
    expired_through: int
    unkeyed: int
    anchors: int
    bad_line: int | None = None
    problem: str | None = None


@dataclass(slots=True)
class _Walk:
    keys: Mapping[str, bytes] | None
    anchors: dict[int, list[Anchor]]
    lines: int = 0
    unkeyed: int = 0
    compared: int = 0
    first: Mapping[str, Any] | None = None
    last: Mapping[str, Any] | None = None
    expiry: tuple[int, str] | None = None
    problems: list[tuple[int, str]] = field(default_factory=list)

    def step(self, row: Mapping[str, Any]) -> None:
        number, before = row["id"], self.last
        if before is None:
            self.first = row
        elif row["prev"] != before["hash"]:
            self._note(
                number,
                f"it does not continue line {before['id']}: lines between them were removed, "
                "inserted or reordered",
            )
        self._check_hash(row)
        if row["expired_through"] is not None:
            self.expiry = row["expired_through"], row["expired_hash"]
        for anchor in self.anchors.pop(number, ()):
            self.compared += 1
            if anchor.hash != row["hash"]:
                self._note(number, f"it differs from its anchor {_describe(anchor)}")
        self.lines += 1
        self.last = row

    def _check_hash(self, row: Mapping[str, Any]) -> None:
        key, key_id = None, row["key_id"]
        if key_id is None:
            if self.keys is not None and self.lines > self.unkeyed:
                self._note(row["id"], "its hash has no key, but that of a line before it has one")
            self.unkeyed += 1
        else:
            key = (self.keys or {}).get(key_id)
            if key is None:
                message = f"its hash has the key {key_id}, which AURUM_AUDIT_KEY_FILE does not have"
                self._note(row["id"], message)
                return
        if hash_of(row, key) != row["hash"]:
            self._note(row["id"], "it was changed: its content does not have its hash")

    def _note(self, line: int, problem: str) -> None:
        # the walk goes on for the sake of the numbers; later lines add nothing
        if not self.problems:
            self.problems.append((line, problem))

    def end(self) -> None:
        through = self.expiry[0] if self.expiry else 0
        if self.first is not None and self.first["prev"] != FIRST:
            known = self.expiry is not None and self.expiry[1] == self.first["prev"]
            if not known:
                self.problems.insert(
                    0,
                    (
                        self.first["id"],
                        "lines before it were removed, and no line says that they have expired",
                    ),
                )
        if self.keys is not None and self.lines and self.lines == self.unkeyed:
            self._note(self.last["id"] if self.last else 0, "no line has a hash with a key")
        last = 0 if self.last is None else self.last["id"]
        for number, anchors in sorted(self.anchors.items()):
            if number <= through:
                continue
            for anchor in anchors:
                self.compared += 1
                where = f"the log ends at line {last}" if number > last else "there is no such line"
                self.problems.append(
                    (number, f"{where}, but there is an anchor of it {_describe(anchor)}")
                )


async def verify(
    rows: AsyncIterable[Mapping[str, Any]],
    *,
    keys: Mapping[str, bytes] | None,
    anchors: Sequence[Anchor] = (),
    observer: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Verify lines in the order of their numbers, of the whole log.

    keys: by id; None for a log without keys. observer: gets the number of lines read so far.
    """
    of_line: dict[int, list[Anchor]] = {}
    for anchor in anchors:
        # a log without a line has no head to compare
        if anchor.line:
            of_line.setdefault(anchor.line, []).append(anchor)
    walk = _Walk(keys, of_line)
    async for row in rows:
        walk.step(row)
        observer(walk.lines)
    walk.end()
    bad = min(walk.problems, key=lambda problem: problem[0], default=None)
    return Verdict(
        lines=walk.lines,
        first=0 if walk.first is None else walk.first["id"],
        last=0 if walk.last is None else walk.last["id"],
        expired_through=walk.expiry[0] if walk.expiry else 0,
        unkeyed=walk.unkeyed,
        anchors=walk.compared,
        bad_line=None if bad is None else bad[0],
        problem=None if bad is None else bad[1],
    )


def _describe(anchor: Anchor) -> str:
    at = datetime.fromtimestamp(anchor.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"({anchor.where}, line of {at})"
