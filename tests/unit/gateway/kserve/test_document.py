"""Documents of KServe requests: limits of JSON before and while it is parsed."""

import json

import pytest

from tests.support.kserve_requests import (
    ELEMENT,
    SCORING,
    image,
    refused,
    vector,
)


def deep(count: int) -> list[bytes]:
    nest, closed = b"[" * count, b"[" * count + b"]" * count
    objects = b'{"a":' * count + b"1" + b"}" * count
    start = b'{"inputs":[{"name":"IMAGE","shape":[1],"datatype":"BYTES",'
    return [
        nest,
        closed,
        start + b'"data":' + closed + b"}]}",
        start + b'"parameters":{"a":' + closed + b"}}]}",
        b'{"inputs":[{"name":"IMAGE","datatype":"BYTES","shape":' + closed + b"}]}",
        b'{"parameters":{"a":' + objects + b"}}",
        b'{"id":"[[\\"","x":' + closed + b"}",
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("count", [33, 40_000, 1_500_000])
def test_nested_json_is_refused_before_it_is_parsed(count, number):
    assert "32 levels" in refused(deep(count)[number])


LONG = "a" * 2000
NUMBERS = "[" + "1," * 3000 + "1]"


@pytest.mark.parametrize(
    "document",
    [
        b'{"inputs":[],"inputs":[]}',
        b'{"id":"a","\\u0069d":"b","inputs":[]}',
        b'{"parameters":{"a":1,"a":2},"inputs":[]}',
        b'{"inputs":[{"name":"a","name":"a","shape":[1],"datatype":"FP32","data":[1]}]}',
        vector(NUMBERS + ',"data":[1,2,3,4]'),
        vector(NUMBERS + ',"shape":[1]'),
    ],
)
def test_a_duplicate_key_is_refused(document):
    assert "is given twice" in refused(document, model=SCORING)


@pytest.mark.parametrize(
    "document",
    [
        '{"inputs":[],"parameters":{"%s":1},"inputs":[]}' % ("a" * 5000),
        json.dumps({"parameters": {LONG: 1}, "inputs": [{**image(data=LONG), "parameters": {}}]}),
        '{"parameters":{"a":%s},"inputs":[]}' % ("1" * 5000),
        '{"inputs":[%s]}' % (" " * 2_000_000),
    ],
)
def test_other_documents_than_requests_are_refused(document):
    refused(document.encode(), model=SCORING)


def test_brackets_in_texts_do_not_nest():
    name = '[{"\\' * 300
    assert "unknown input" in refused({"inputs": [image(name=name)]}, ELEMENT)


@pytest.mark.parametrize(
    "fill", [b'{"name":"a","shape":[],"datatype":"b"},', b'"a",', b'{"a":"\\\\"},']
)
def test_json_of_a_million_values_is_refused_before_it_is_parsed(fill):
    assert "256 objects" in refused(b'{"inputs":[' + fill * 1_000_000 + b"{}]}")


MALFORMED = {
    "nothing": b"",
    "blanks": b"  ",
    "null": b"null",
    "a list": b"[]",
    "NaN": b"NaN",
    "more behind it": b'{"inputs":[]} x',
    "no inputs": b'{"inputs":[]}',
    "an unknown field": b'{"inputs":[],"x":1}',
    "another encoding": '{"inputs":[]}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "no UTF-8": b'{"inputs":[],"id":"\xff"}',
    "half a surrogate": b'{"inputs":[],"id":"\\ud800"}',
    "an id that is none": b'{"inputs":[],"id":5}',
    "a long id": b'{"inputs":[],"id":"' + b"x" * 2000 + b'"}',
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_json_is_refused(case):
    refused(MALFORMED[case])
