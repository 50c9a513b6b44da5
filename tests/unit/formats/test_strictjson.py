from __future__ import annotations

import datetime as dt
import time

import pytest

from forebear.errors import FormatError
from forebear.formats import strictjson


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, 2.5, null, true, "\\u00e9"]}\n', {"a": [1, 2.5, None, True, "é"]}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b"9007199254740993", 2**53 + 1),
        (b"[" * 64 + b"]" * 64, None),
        (b'["' + b"[" * 100 + b'"]', ["[" * 100]),
        (b'["\\"' + b"[" * 100 + b'"]', ['"' + "[" * 100]),
    ],
)
def test_strict_text_parses(text, value):
    parsed = strictjson.parse(text, where="x.json")
    assert value is None or parsed == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"a": 1, "a": 1}',
        b'[{"a": {"b": 1, "b": 2}}]',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'"\\ude00\\ud83d"',
        b"\xff",
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"1" * 5000,
        b"'a'",
        b'"a\nb"',
        b"[1,]",
        b"01",
        b"\x00",
        "{}".encode("utf-16"),
    ],
)
def test_loose_text_is_refused(text):
    with pytest.raises(FormatError) as refused:
        strictjson.parse(text, where="x.json")
    assert refused.value.where == "x.json"


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' + b'\\"' * 500_000,
        b"[" * 70 + b'"' + b'\\"' * 500_000 + b"\\",
        b"[" * 30 + b'"' * 1_000_001 + b"[" * 60,
    ],
)
def test_hostile_nesting_and_quoting_end_in_under_a_second(text):
    started = time.process_time()
    with pytest.raises(FormatError):
        strictjson.parse(text, where="x.json")
    assert time.process_time() - started < 1


def test_long_text_is_refused_unread():
    with pytest.raises(FormatError, match="at most 8"):
        strictjson.parse(b"[1,2,3,4]", where="x.json", max_bytes=8)
    assert strictjson.parse(b"[1,2,3]", where="x.json", max_bytes=8) == [1, 2, 3]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, 1.0, 1e-7, 1e21, "\u20ac\n"]},
         '{"a":[true,null,1,1e-7,1e+21,"€\\n"],"b":1}'),
        ({"\u20ac": 1, "\r": 2, "1": 3, "\U0001f600": 4, "\ufb33": 5},
         '{"\\r":2,"1":3,"€":1,"\U0001f600":4,"\ufb33":5}'),
        ("\x00\x1f\x7f\u2028", '"\\u0000\\u001f\x7f\u2028"'),
        ((1, 2), "[1,2]"),
        (0.1 + 0.2, "0.30000000000000004"),
        (-0.0, "0"),
        (2**53 - 1, "9007199254740991"),
        (333333333.33333329, "333333333.3333333"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
    ],
)  # fmt: skip
def test_canonical_form_is_that_of_rfc_8785(value, text):
    assert strictjson.canonical(value) == text.encode()
    assert strictjson.dumps(value) == text.encode() + b"\n"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"train": {"lr": float("nan")}}, "train.lr"),
        ({"train": [1, float("-inf")]}, "train.1"),
        ({"day": dt.date(2026, 1, 31)}, "day"),
        ({"blob": b"x"}, "blob"),
        ({"n": 2**53}, "n"),
        ({"n": -(2**53)}, "n"),
        ({"n": 10**5000}, "n"),
        ({"a": {1: 2}}, "a.1"),
        ({"a": {"b", "c"}}, "a"),
        ([object()], "0"),
    ],
)
def test_values_without_canonical_form_are_refused_by_name(value, name):
    with pytest.raises(FormatError) as refused:
        strictjson.canonical(value, where="params.yaml")
    assert f"'{name}'" in refused.value.what
    assert refused.value.where == "params.yaml"


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, ["a", 1.5, "\ud800"]])
def test_lone_surrogates_are_not_written(value):
    with pytest.raises(FormatError):
        strictjson.canonical(value)


def test_a_value_that_holds_itself_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(FormatError, match="nesting"):
        strictjson.canonical(value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1}',
        b'{"a":1}\n\n',
        b'{"a": 1}\n',
        b'{"b":1,"a":1}\n',
        b'{"a":1.0}\n',
        b'{"a":"\\u0061"}\n',
        b'{"a":-0}\n',
        b"9007199254740993\n",
        b"1" * 400 + b"\n",
    ],
)
def test_other_serialisations_are_refused(text):
    with pytest.raises(FormatError) as refused:
        strictjson.parse_canonical(text, where="x.json")
    assert refused.value.where == "x.json"


@pytest.mark.parametrize("value", [{"a": 1}, 1e20, 2.0**53, 1e300, [], "é"])
def test_what_dumps_writes_is_read_back(value):
    assert strictjson.parse_canonical(strictjson.dumps(value), where="x.json") == value
