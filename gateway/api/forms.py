"""Parses multipart/form-data (RFC 7578) as its bytes arrive, and header parameters.

It replaces aiohttp's reader, whose header parser fails on many file names that browsers and
libraries send (semicolons, apostrophes, HTML entities) and then loses the name of the field. This
one finds the name of the field whenever there is one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidRequestError

_MAX_HEADER_BYTES: Final = 64 * 1024
"""Most bytes of the headers of a part: a file name may be long."""
_MAX_OTHER_HEADER: Final = 16 * 1024
"""Most characters of a header without names."""
_MAX_HEADERS: Final = 100
_MAX_PARAMETERS: Final = 64
_MAX_PADDING: Final = 256
"""Most blanks behind a boundary."""
_QUOTED: Final = re.compile(r'"((?:\\.|[^\\])*?)"\s*(?=;|$)', re.DOTALL)
_QUOTED_RAW: Final = re.compile(r'"(.*?)"\s*(?=;|$)', re.DOTALL)
"""Matches a value that ends with a backslash, which browsers do not escape."""
_ESCAPED: Final = re.compile(r'\\(["\\])')
_NAME: Final = re.compile(r'(?:^|[;\s])name\s*=\s*"?([^";]*)', re.IGNORECASE)
_SECTION: Final = re.compile(r"(\d{1,3})(\*?)")
_CHARSET: Final = re.compile(
    r"utf-?8|(us-)?ascii|iso-8859-\d{1,2}|latin-?1|windows-125\d|koi8-[ru]|gbk|gb2312|gb18030"
    r"|big5|shift_jis|euc-(jp|kr)",
    re.IGNORECASE,
)
"""Supported charsets; Python knows more, some of them slow (punycode) or unusual."""
_LONG_HEADERS: Final = "the headers of a form field are too long"
_MALFORMED: Final = "the body is not well-formed multipart/form-data"


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a form field; an empty name if it has none."""

    name: str
    file_name: str | None
    content_type: str
    charset: str
    transfer_encoding: str


class PartEnd(Enum):
    """The event that ends a part."""

    END = auto()


Event = Part | bytes | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    EPILOGUE = auto()


class FormParser:
    """Splits a body into events: a `Part`, its bytes in pieces, `PartEnd.END`, the next `Part`.

    Buffers at most the headers of one part and a boundary.
    """

    def __init__(self, boundary: str) -> None:
        """Take the boundary from the content type; raises InvalidRequestError if it is unusable."""
        if not boundary or len(boundary) > _MAX_PADDING or not boundary.isascii():
            raise InvalidRequestError(_MALFORMED)
        self._delimiter = b"\r\n--" + boundary.encode()
        # the first boundary has no line before it
        self._buffer = bytearray(b"\r\n")
        self._state = _State.PREAMBLE

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events of more bytes; raises InvalidRequestError for a malformed body."""
        self._buffer += data
        while self._state is not _State.EPILOGUE:
            if self._state is _State.HEADERS:
                part = self._take_headers()
                if part is None:
                    return
                yield part
                self._state = _State.DATA
                continue
            found, data = self._take_data()
            if data and self._state is _State.DATA:
                yield data
            if not found:
                return
            if self._state is _State.DATA:
                yield PartEnd.END
            closing = self._buffer.startswith(b"--")
            self._state = _State.EPILOGUE if closing else _State.HEADERS
        self._buffer.clear()

    def finish(self) -> None:
        """Raise InvalidRequestError if the closing boundary is missing."""
        if self._state is not _State.EPILOGUE:
            raise InvalidRequestError(_MALFORMED)

    def _take_data(self) -> tuple[bool, bytes]:
        """Take bytes up to and including a boundary; False if there is none yet."""
        buffer, delimiter = self._buffer, self._delimiter
        start = 0
        while (at := buffer.find(delimiter, start)) >= 0:
            behind = bytes(buffer[at + len(delimiter) : at + len(delimiter) + _MAX_PADDING])
            blanks = behind.lstrip(b" \t")
            if behind.startswith(b"--") or blanks.startswith(b"\r\n"):
                data = bytes(buffer[:at])
                del buffer[: at + len(delimiter) + len(behind) - len(blanks)]
                return True, data
            if behind in (b"", b"-") or (blanks in (b"", b"\r") and len(behind) < _MAX_PADDING):
                return False, self._cut(at)
            # longer than the boundary: bytes of the part
            start = at + 1
        return False, self._cut(max(start, len(buffer) - len(delimiter) + 1))

    def _cut(self, end: int) -> bytes:
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        return data

    def _take_headers(self) -> Part | None:
        # the line break behind the boundary is still in the buffer: a part may have no headers
        end = self._buffer.find(b"\r\n\r\n")
        if max(end, len(self._buffer) if end < 0 else 0) > _MAX_HEADER_BYTES:
            raise InvalidRequestError(_LONG_HEADERS)
        if end < 0:
            return None
        block = self._cut(end + 4)[:end]
        return _read_head(block)


def _read_head(block: bytes) -> Part:
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    # a header may continue on the next line
    lines = re.sub(r"\r\n[ \t]+", " ", text).split("\r\n")
    if len(lines) > _MAX_HEADERS:
        raise InvalidRequestError("a form field has too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        key = key.strip().lower()
        if len(line) > _MAX_OTHER_HEADER and key != "content-disposition":
            raise InvalidRequestError(_LONG_HEADERS)
        headers.setdefault(key, value.strip())
    disposition = headers.get("content-disposition", "")
    _, parameters = parse_header(disposition)
    name = _extended(parameters, "name")
    if name is None:
        # a wrongly quoted file name must not hide the name of the field
        loose = _NAME.search(disposition)
        name = loose[1].strip() if loose else ""
    content_type, more = parse_header(headers.get("content-type", ""))
    return Part(
        name=name,
        file_name=_extended(parameters, "filename") or None,
        content_type=content_type,
        charset=more.get("charset", "utf-8"),
        transfer_encoding=headers.get("content-transfer-encoding", "").lower(),
    )


def parse_header(value: str) -> tuple[str, dict[str, str]]:
    """Split a header like `Content-Type` into its value, in lower case, and its parameters.

    Accepts blanks around `=`, missing quotes, unescaped quotes and backslashes, and parameters
    without a value. The first of several parameters with the same name counts.
    """
    kind, _, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for _ in range(_MAX_PARAMETERS):
        name, equals, rest = rest.partition("=")
        if not equals:
            break
        name = name.rpartition(";")[2].strip().lower()
        rest = rest.lstrip()
        if rest.startswith('"'):
            text, rest = _quoted(rest)
        else:
            text, _, rest = rest.partition(";")
            text = text.strip()
        parameters.setdefault(name, text)
    return kind.strip().lower(), parameters


def _quoted(text: str) -> tuple[str, str]:
    """Read a leading quoted text; returns it and the rest."""
    if found := _QUOTED.match(text):
        return _ESCAPED.sub(r"\1", found[1]), text[found.end() :]
    if found := _QUOTED_RAW.match(text):
        return found[1], text[found.end() :]
    return text[1:], ""


def _extended(parameters: Mapping[str, str], name: str) -> str | None:
    """Read a parameter that may be encoded (RFC 5987) or split into sections (RFC 2231)."""
    if f"{name}*" in parameters:
        charset, _, text = _charset_and_text(parameters[f"{name}*"])
        return decode_text(unquote_to_bytes(text), charset)
    if name in parameters:
        return parameters[name]
    sections: dict[int, tuple[str, bool]] = {}
    for key, value in parameters.items():
        if key.startswith(f"{name}*") and (found := _SECTION.fullmatch(key[len(name) + 1 :])):
            sections[int(found[1])] = value, bool(found[2])
    charset, joined = "utf-8", b""
    for number in range(len(sections)):
        if number not in sections:
            break
        text, encoded = sections[number]
        if encoded and number == 0:
            charset, _, text = _charset_and_text(text)
        joined += unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace")
    return decode_text(joined, charset) if sections else None


def _charset_and_text(value: str) -> tuple[str, str, str]:
    """Split `UTF-8'en'text`; a value without the quotes is all text."""
    pieces = value.split("'", 2)
    return (pieces[0], pieces[1], pieces[2]) if len(pieces) == 3 else ("utf-8", "", value)


def decode_text(data: bytes, charset: str, errors: str = "replace") -> str:
    """Decode; an unsupported charset is read as UTF-8. Raises UnicodeDecodeError if `strict`."""
    try:
        return data.decode(charset if _CHARSET.fullmatch(charset) else "utf-8", errors)
    except LookupError:
        return data.decode("utf-8", errors)
