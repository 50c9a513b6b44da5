from __future__ import annotations

import datetime as dt
import hashlib
import json

import pytest

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.formats.link import (
    Link,
    command_digest,
    params_digest,
    parse_link,
    real_paths,
    render_link,
)

HEX = "0" * 64
LINK = Link(
    name="measure@base",
    command=("python", "-m", "stages.measure"),
    materials={"tree:data/base": HEX, "data/base/a": HEX, "cmd:measure@base": HEX},
    products={"data/out.json": "f" * 64},
    byproducts={"return-value": 0, "forebear": {"params": {"lr": 1e-5}}},
)


def altered(**changes):
    return strictjson.dumps(json.loads(render_link(LINK)) | changes)


def test_link_is_read_back():
    assert parse_link(render_link(LINK), where="x.link") == LINK


def test_unchanged_rebuild_passes():
    assert parse_link(altered(), where="x.link") == LINK


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"_type": "layout"},
        {"environment": {"a": 1}},
        {"environment": []},
        {"command": "python"},
        {"command": [1]},
        {"byproducts": []},
        {"materials": []},
        {"materials": {"a": HEX}},
        {"materials": {"a": {"sha256": HEX, "sha512": HEX}}},
        {"materials": {"a": {"md5": HEX}}},
        {"materials": {"a": {"sha256": "0" * 63}}},
        {"materials": {"a": {"sha256": "A" * 64}}},
        {"materials": {"a": {"sha256": 0}}},
        {"materials": {"../a": {"sha256": HEX}}},
        {"products": {"a\nb": {"sha256": HEX}}},
        {"products": {"a\\b": {"sha256": HEX}}},
        {"products": {"tree:/a": {"sha256": HEX}}},
        {"products": {"tree:": {"sha256": HEX}}},
        {"products": {"cmd:a/b": {"sha256": HEX}}},
        {"products": {"a": {"sha256": HEX}, "A": {"sha256": HEX}}},
        {"name": "a/b"},
        {"name": ".."},
        {"name": ""},
        {"name": None},
    ],
)
def test_malformed_links_are_refused(changes):
    with pytest.raises(FormatError) as refused:
        parse_link(altered(**changes), where="x.link")
    assert refused.value.where.startswith("x.link")


@pytest.mark.parametrize("text", [b"[]\n", b"1\n", b"{}\n"])
def test_other_values_are_refused(text):
    with pytest.raises(FormatError):
        parse_link(text, where="x.link")


@pytest.mark.parametrize(
    "link",
    [
        Link("a/b", (), {}, {}, {}),
        Link("a", (), {"../x": HEX}, {}, {}),
        Link("a", (), {"x": "short"}, {}, {}),
        Link("a", (), {}, {}, {"forebear": {"lr": float("nan")}}),
        Link("a", ("\udcff",), {}, {}, {}),
    ],
)
def test_malformed_links_are_not_written(link):
    with pytest.raises(FormatError):
        render_link(link)


def test_virtual_digests_are_those_of_rfc_8785():
    assert command_digest(["python", "-m", "é"]) == (
        hashlib.sha256('["python","-m","é"]'.encode()).hexdigest()
    )
    assert params_digest({"seed": 1, "cpt": {"lr": 1.0}}) == (
        hashlib.sha256(b'{"cpt":{"lr":1},"seed":1}').hexdigest()
    )


def test_a_date_in_params_is_refused_by_name():
    with pytest.raises(FormatError, match=r"cpt\.since"):
        params_digest({"cpt": {"since": dt.date(2026, 1, 1)}})


def test_virtual_artifacts_are_no_paths():
    assert [str(path) for path in real_paths(LINK.materials)] == ["data/base/a"]
