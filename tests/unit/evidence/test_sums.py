from __future__ import annotations

import pytest

from forebear.errors import FormatError
from forebear.evidence.sums import parse_sums

A, B = "a" * 64, "b" * 64


def test_a_list_gives_a_digest_for_each_path():
    data = f"{A}  one\n{B}  two words\n".encode()
    assert parse_sums(data, where="S") == {"one": A, "two words": B}


def test_an_empty_list_gives_nothing():
    assert parse_sums(b"", where="S") == {}


@pytest.mark.parametrize(
    "text",
    [
        f"{A}  two\n{B}  one\n",
        f"{A}  one\n{A}  one\n",
        f"{A} one\n",
        f"{A} *one\n",
        f"\\{A}  one\n",
        f"{A}  one",
        f"{A}  one\r\n",
        f"{A}  one\n\n",
        f"{A.upper()}  one\n",
        f"{A}  ../one\n",
        f"{A}  /one\n",
        f"{A}  One\n{A}  one\n",
        f"{A}  one\n{A}  one/two\n",
        f"{A[1:]}  one\n",
    ],
)
def test_any_other_form_is_refused(text: str):
    with pytest.raises(FormatError):
        parse_sums(text.encode(), where="S")


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(FormatError):
        parse_sums(A.encode() + b"  \xff\n", where="S")
