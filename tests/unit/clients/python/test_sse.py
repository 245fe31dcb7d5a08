"""Server-sent events as they arrive: in pieces, with all line ends, with unknown fields."""

import pytest
from aurum_client.sse import EventParser

STREAM = (
    b"\xef\xbb\xbfretry: 2000\n\n"
    b": heartbeat\n\n"
    b'id: 1\nevent: item\ndata: {"name":"a\xe2\x80\xa8b"}\n\n'
    b"event: job\r\ndata: one\r\ndata:two\r\n\r\n"
    b"id: 2-end\rfield: unknown\rdata\r\r"
    b"event: nothing\n\n"
    b"data: unfinished"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_do_not_depend_on_the_pieces(size):
    parser = EventParser()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    events = [event for piece in pieces for event in parser.feed(piece)]
    assert [(each.name, each.data, each.id) for each in events] == [
        # a line separator of Unicode does not end a line
        ("item", '{"name":"a\u2028b"}', "1"),
        ("job", "one\ntwo", "1"),
        ("message", "", "2-end"),
    ]
    assert parser.retry_seconds == 2


def test_what_is_no_pause_or_id_is_ignored():
    parser = EventParser()
    (event,) = parser.feed(b"retry: soon\nid: a\0b\ndata: x\n\n")
    assert event.id is None
    assert parser.retry_seconds is None


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 200, b"data: xxxxxxxxxx\n" * 20])
def test_an_event_without_end_is_refused(monkeypatch, piece):
    monkeypatch.setattr("aurum_client.sse._MOST_BYTES", 100)
    with pytest.raises(ValueError, match="too large"):
        EventParser().feed(piece)
