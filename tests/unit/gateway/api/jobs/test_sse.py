import pytest

from gateway.api.jobs.sse import Position, read_position, reconnect_after, write_event
from gateway.errors import InvalidRequestError


def test_an_event_has_its_id_name_and_data():
    data = b'{"a":"b\\nc"}'
    assert write_event("item", data, position=Position(7)) == (
        b'id: 7\nevent: item\ndata: {"a":"b\\nc"}\n\n'
    )
    assert write_event("job", b"{}") == b"event: job\ndata: {}\n\n"
    assert write_event("job", b"{}", position=Position(7, ended=True)).startswith(b"id: 7-end\n")
    assert reconnect_after(2000) == b"retry: 2000\n\n"


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (None, Position()),
        ("", Position()),
        ("0", Position(0)),
        ("12", Position(12)),
        ("12-end", Position(12, ended=True)),
        # no database compares more
        ("900000000000000", Position(2**31 - 1)),
    ],
)
def test_a_position_is_read_as_it_was_sent(text, position):
    assert read_position(text) == position


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "12-END", "12-end ", "٣", "1" * 16])
def test_other_ids_are_refused(text):
    with pytest.raises(InvalidRequestError, match="Last-Event-ID"):
        read_position(text)
