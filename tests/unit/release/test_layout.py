"""The layout as policy: exact rules, determinism, strict reading."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.formats.layout import (
    ATTEST,
    SOURCE,
    derive_layout,
    escape,
    parse_layout,
    shipped_outs,
)
from forebear.pipeline import Out, Pipeline, Stage
from forebear.signing.keys import PublicKey, create_key, load_public

EXPIRES = datetime(2030, 1, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[PublicKey, PublicKey]:
    folder = tmp_path_factory.mktemp("layout") / "keys"
    owner = load_public(create_key("owner", folder, None)[1])
    recorder = load_public(create_key("recorder", folder, None)[1])
    return owner, recorder


def _stage(name: str, deps: tuple[str, ...], outs: tuple[Out, ...], **more: Any) -> Stage:
    return Stage(name, f"forebear record {name} -- run {name}", deps, {}, outs, **more)


def _source(*outs: Out) -> Stage:
    return Stage(SOURCE, "", outs=outs, frozen=True)


def _pipeline() -> Pipeline:
    model = Out("d/x", is_dir=True, kind="model")
    odd = Out("odd[1].txt", is_dir=False)
    own_link = Out("links/attest.link", is_dir=False)
    b_deps = ("d/x", "d/x/f", odd.path, "links/a.link")
    return Pipeline(
        stages=(
            _stage("a", ("src",), (model, Out("m.json", is_dir=False))),
            _stage("b@1", b_deps, (Out("e", is_dir=False),)),
            _stage(ATTEST, ("d",), (Out("release", is_dir=True), own_link)),
        ),
        sources=(_source(odd, Out("src", is_dir=True)),),
    )


def _derive(pipeline: Pipeline, keys: tuple[PublicKey, PublicKey]) -> bytes:
    return derive_layout(pipeline, owner=keys[0], recorders=[keys[1]], expires=EXPIRES)


def _steps(payload: bytes) -> dict[str, dict[str, Any]]:
    value = strictjson.parse(payload, where="layout")
    return {step["name"]: step for step in value["steps"]}


def test_materials_are_required_matched_and_closed(keys):
    rules = _steps(_derive(_pipeline(), keys))["b@1"]["expected_materials"]
    assert rules == [
        ["REQUIRE", "cmd:b@1"],
        ["REQUIRE", "params:b@1"],
        ["REQUIRE", "tree:d/x"],
        ["REQUIRE", "d/x/f"],
        ["REQUIRE", "odd[1].txt"],
        ["REQUIRE", "links/a.link"],
        ["MATCH", "cmd:b@1", "WITH", "PRODUCTS", "FROM", "source"],
        ["MATCH", "params:b@1", "WITH", "PRODUCTS", "FROM", "source"],
        ["MATCH", "tree:d/x", "WITH", "PRODUCTS", "FROM", "a"],
        ["MATCH", "d/x/*", "WITH", "PRODUCTS", "FROM", "a"],
        ["MATCH", "d/x/f", "WITH", "PRODUCTS", "FROM", "a"],
        ["MATCH", "odd[[]1].txt", "WITH", "PRODUCTS", "FROM", "source"],
        ["ALLOW", "links/a.link"],
        ["DISALLOW", "*"],
    ]


def test_a_dep_that_spans_outs_is_matched_by_file(keys):
    rules = _steps(_derive(_pipeline(), keys))[ATTEST]["expected_materials"]
    assert ["REQUIRE", "tree:d"] in rules
    assert ["ALLOW", "tree:d"] in rules
    assert ["MATCH", "d/*", "WITH", "PRODUCTS", "FROM", "a"] in rules


def test_products_are_required_created_and_closed(keys):
    rules = _steps(_derive(_pipeline(), keys))["a"]["expected_products"]
    assert rules == [
        ["REQUIRE", "tree:d/x"],
        ["REQUIRE", "m.json"],
        ["CREATE", "tree:d/x"],
        ["CREATE", "d/x/*"],
        ["CREATE", "m.json"],
        ["DISALLOW", "*"],
    ]


def test_a_stage_does_not_name_its_own_link(keys):
    rules = _steps(_derive(_pipeline(), keys))[ATTEST]["expected_products"]
    assert not [rule for rule in rules if "links/attest.link" in rule]


def test_the_owner_alone_signs_the_sources(keys):
    view = parse_layout(_derive(_pipeline(), keys), where="layout")
    assert view.steps[0].name == SOURCE
    assert view.steps[0].keyids == (keys[0].keyid,)
    assert {step.keyids for step in view.steps[1:]} == {(keys[1].keyid,)}
    assert view.expires == EXPIRES
    assert view.keys[keys[1].keyid] == keys[1].pem
    assert view.keys[keys[0].keyid] == keys[0].pem


def test_the_disk_inspection_looks_at_what_is_shipped(keys):
    value = strictjson.parse(_derive(_pipeline(), keys), where="layout")
    assert value["inspect"][0]["run"] == [
        "sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"
    ]  # fmt: skip
    assert value["inspect"][0]["expected_materials"] == [
        ["REQUIRE", "SHA256SUMS"],
        ["MATCH", "SHA256SUMS", "WITH", "PRODUCTS", "IN", "release", "FROM", "attest"],
        ["DISALLOW", "SHA256SUMS"],
        ["MATCH", "d/x/*", "WITH", "PRODUCTS", "FROM", "a"],
        ["DISALLOW", "d/x/*"],
        ["ALLOW", "*"],
    ]


def test_equal_inputs_give_equal_bytes_through_json(keys):
    pipeline = _pipeline()
    again = Pipeline.from_json(strictjson.parse(strictjson.dumps(pipeline.to_json()), where="p"))
    assert _derive(pipeline, keys) == _derive(again, keys)


@pytest.mark.parametrize("unknown", ["dep", "out"])
def test_an_unknown_kind_is_refused(keys, unknown):
    pipeline = (
        Pipeline(stages=(_stage("a", ("src",), ()),))
        if unknown == "dep"
        else Pipeline(stages=(_stage("a", (), (Out("x"),)),))
    )
    with pytest.raises(ConfigError, match="not known whether"):
        _derive(pipeline, keys)


def test_ship_overrides_the_models_and_must_name_an_out():
    ship = {"forebear": {"ship": ["e"]}}
    stages = _pipeline().stages
    named = Pipeline(stages=(stages[0], _stage("c", (), (Out("e", is_dir=False),), meta=ship)))
    assert [out.path for _, out in shipped_outs(named)] == ["e"]
    assert [out.path for _, out in shipped_outs(_pipeline())] == ["d/x"]
    wrong = Pipeline(stages=(_stage("c", (), (), meta=ship),))
    with pytest.raises(ConfigError, match="none of the stage's outs"):
        shipped_outs(wrong)


def test_glob_characters_are_bracketed():
    assert escape("a[b]*?c") == "a[[]b][*][?]c"


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "link"},
        {"keys": []},
        {"steps": {}},
        {"inspect": [{}]},
        {"expires": "tomorrow"},
        {"extra": 1},
        {"steps": [{}]},
        {"keys": {"k": {"keyid": "k", "keytype": "x", "scheme": "x", "keyval": {"public": "z"}}}},
    ],
)  # fmt: skip
def test_a_malformed_layout_is_refused(keys, change):
    value = strictjson.parse(_derive(_pipeline(), keys), where="layout")
    with pytest.raises(FormatError):
        parse_layout(strictjson.dumps({**value, **change}), where="layout")


def test_two_steps_of_one_name_are_refused(keys):
    value = strictjson.parse(_derive(_pipeline(), keys), where="layout")
    value["steps"].append(value["steps"][1])
    with pytest.raises(FormatError, match="same name"):
        parse_layout(strictjson.dumps(value), where="layout")


def test_stock_in_toto_reads_it(keys, tmp_path: Path):
    from in_toto.models.layout import Layout

    value = strictjson.parse(_derive(_pipeline(), keys), where="layout")
    layout = Layout.read(value)
    layout.validate()
    assert [step.name for step in layout.steps] == ["source", "a", "b@1", "attest"]
