"""A contact sheet: one HTML file that holds its pictures and needs no network."""

import base64
import html
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from tools.batch.orders import Mark
from tools.batch.pictures import Thumbnail
from tools.batch.types import Line, Outcome

_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
_STYLE: Final = """
:root{color-scheme:light dark;--back:#f6f6f4;--card:#fff;--text:#1c1c1a;--soft:#6b6b66;
--line:#e2e2dd;--box:#12b35f;--bad:#c2410c}
@media(prefers-color-scheme:dark){:root{--back:#161615;--card:#20201f;--text:#ecece8;
--soft:#a0a09a;--line:#353532;--box:#50dc78;--bad:#fb923c}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:14px/1.45 system-ui,sans-serif}
header{position:sticky;top:0;z-index:1;display:flex;flex-wrap:wrap;gap:8px 20px;align-items:center;
padding:12px 20px;background:var(--card);border-bottom:1px solid var(--line)}
h1{margin:0;font-size:17px}
header p{margin:0;color:var(--soft)}
header label{color:var(--soft)}
input,select{font:inherit;padding:4px 8px;color:inherit;background:var(--back);
border:1px solid var(--line);border-radius:6px}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:14px;padding:20px}
figure{margin:0;overflow:hidden;background:var(--card);border:1px solid var(--line);
border-radius:8px;content-visibility:auto;contain-intrinsic-size:auto 290px}
figure[hidden]{display:none}
.frame{display:grid;place-items:center;height:220px;background:#0001}
.photo{position:relative;display:grid;max-width:100%;max-height:220px}
.photo>*{grid-area:1/1;max-width:100%;max-height:220px;width:auto;height:auto;display:block}
.photo svg{position:absolute;inset:0;width:100%;height:100%}
rect{fill:none;stroke:var(--box);stroke-width:2;vector-effect:non-scaling-stroke}
figcaption{padding:8px 10px 10px;overflow-wrap:anywhere}
.labels{display:flex;flex-wrap:wrap;gap:4px;margin-top:5px}
.labels span{padding:0 7px;border:1px solid var(--box);border-radius:9px;font-size:12px}
.failed .note{color:var(--bad)}
.note{margin-top:5px;color:var(--soft);font-size:12px}
.none{color:var(--soft)}
"""
_SCRIPT: Final = """
const main=document.querySelector('main'),cards=[...main.children];
const find=document.querySelector('#find'),sort=document.querySelector('#sort');
const shown=document.querySelector('#shown');
function show(){const text=find.value.toLowerCase();let count=0;
for(const card of cards){card.hidden=!card.textContent.toLowerCase().includes(text);
count+=!card.hidden}
shown.textContent=count+' of '+cards.length;}
function order(){const by=sort.value,list=[...cards];
const value=card=>card.dataset.value===''?-Infinity:+card.dataset.value;
if(by==='high')list.sort((a,b)=>value(b)-value(a));
if(by==='low')list.sort((a,b)=>(a.dataset.value==='')-(b.dataset.value==='')||value(a)-value(b));
if(by==='problems')list.sort((a,b)=>b.classList.contains('failed')-a.classList.contains('failed'));
main.append(...list);}
find.addEventListener('input',show);sort.addEventListener('change',order);show();
"""


class ContactSheet:
    """Cards of photos; they wait in a temporary file until `close` writes them in order."""

    def __init__(self, target: Path, title: str) -> None:
        self._target = target
        self._title = title
        self._cards: list[tuple[int, int, int]] = []
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._counts: dict[Outcome, int] = {}

    def add(
        self, position: int, line: Line, marks: Sequence[Mark], picture: Thumbnail | None
    ) -> None:
        """Add the card of the input at a position; without a picture it has its text only."""
        text = _card(line, marks, picture).encode("utf-8", "backslashreplace")
        self._cards.append((position, self._spool.seek(0, 2), len(text)))
        self._spool.write(text)
        self._counts[line.outcome] = self._counts.get(line.outcome, 0) + 1

    def close(self) -> None:
        """Write the file; raises OSError."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        partial = self._target.with_name(f".{self._target.name}.partial")
        with self._spool, partial.open("wb") as file:
            file.write(self._head().encode())
            for _, start, length in sorted(self._cards):
                self._spool.seek(start)
                file.write(self._spool.read(length))
            file.write(f"</main>\n<script>{_SCRIPT}</script>\n</html>\n".encode())
        partial.replace(self._target)

    def _head(self) -> str:
        counts = ", ".join(
            f"{self._counts[outcome]:,} {outcome.value.replace('_', ' ')}"
            for outcome in Outcome
            if outcome in self._counts
        )
        title = html.escape(self._title)
        return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_STYLE}</style>
<header><h1>{title}</h1><p>{counts or "no photos"}</p>
<label>Find <input id="find" type="search"></label>
<label>Order <select id="sort"><option value="given">as given<option value="high">highest first
<option value="low">lowest first<option value="problems">problems first</select></label>
<p id="shown"></p></header>
<main>
"""


def _card(line: Line, marks: Sequence[Mark], picture: Thumbnail | None) -> str:
    name = html.escape(line.name)
    labels = "".join(f"<span>{html.escape(str(mark['label']))}</span>" for mark in marks)
    failed = "" if line.is_done else ' class="failed"'
    error = line.error or {}
    note = f"{error.get('code', '')}: {error.get('detail', '')}" if error else ""
    return (
        f'<figure{failed} data-value="{_value(line)}"><div class="frame">{_photo(marks, picture)}'
        f"</div><figcaption>{name}"
        + (f'<div class="labels">{labels}</div>' if labels else "")
        + (f'<div class="note">{html.escape(note)}</div>' if note else "")
        + "</figcaption></figure>\n"
    )


def _photo(marks: Sequence[Mark], picture: Thumbnail | None) -> str:
    if picture is None:
        return '<span class="none">no picture</span>'
    data = base64.b64encode(picture.jpeg).decode()
    boxes = "".join(_rectangle(mark) for mark in marks)
    return (
        f'<div class="photo"><img alt="" decoding="async" src="data:image/jpeg;base64,{data}">'
        f'<svg viewBox="0 0 {picture.width} {picture.height}">{boxes}</svg></div>'
    )


def _rectangle(mark: Mark) -> str:
    left, top, right, bottom = (float(value) for value in mark["box"])
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}">'
        f"<title>{html.escape(str(mark['label']))}</title></rect>"
    )


def _value(line: Line) -> str:
    """Return what cards are ordered by: the highest score, or the highest similarity."""
    faces: Sequence[Mapping[str, Any]] = (line.answer or {}).get("faces", [])
    values = [face["score"] for face in faces if face.get("score") is not None]
    values += [match["similarity"] for face in faces for match in face.get("matches", [])]
    return f"{max(values):g}" if values else ""
