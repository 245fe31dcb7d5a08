"""Multipart forms and header parameters."""

from gateway.api.forms import FormParser, Part, PartEnd, decode_text, parse_header
from gateway.errors import InvalidRequestError

Read = list[tuple[Part, bytes]] | None


def forms(data: bytes) -> None:
    """The fields of a form do not depend on how its bytes arrive; the first byte is their number.

    The same bytes are also read as a header.
    """
    step, body = (data[0] % 37 + 1, data[1:]) if data else (1, b"")
    whole = _read([body])
    pieces = _read([body[at : at + step] for at in range(0, len(body), step)])
    assert whole == pieces
    kind, parameters = parse_header(body.decode("utf-8", "surrogateescape"))
    assert kind == kind.lower()
    assert len(parameters) <= 64
    for charset in parameters.values():
        decode_text(body, charset)


def _read(pieces: list[bytes]) -> Read:
    """Read a form in pieces; None if it is refused."""
    parser = FormParser("b")
    found: list[tuple[Part, bytes]] = []
    part, body = None, b""
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                if isinstance(event, Part):
                    assert part is None
                    part, body = event, b""
                elif isinstance(event, PartEnd):
                    assert part is not None
                    found.append((part, body))
                    part = None
                else:
                    body += event
        parser.finish()
    except InvalidRequestError:
        return None
    return found
