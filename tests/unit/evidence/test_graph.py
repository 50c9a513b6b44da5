"""Walks through the graph of links, and the forms that they are shown in."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

import pytest

from forebear.evidence.export import render_dot, render_mermaid, render_tree, to_json
from forebear.evidence.graph import Graph, Walk, broken_edges
from forebear.evidence.store import open_evidence
from forebear.formats.link import Link
from tests.support.release import CHECKPOINT, WEIGHTS, Simulated

D = {letter: letter * 64 for letter in "0123456789abcdef"}


def link(name: str, materials: Mapping[str, str], products: Mapping[str, str]) -> Link:
    return Link(name, (), materials, products, {})


def graph(*links: Link) -> Graph:
    return Graph({one.name: one for one in links})


def shown(walk: Walk) -> list[tuple[int, str, str]]:
    return [(row.depth, row.path, row.origin) for row in walk.rows]


def test_the_walk_leads_from_weights_to_sources(built: Simulated):
    with open_evidence(built.packed) as evidence:
        found = evidence.graph.find(WEIGHTS)
        assert evidence.graph.producers(*found[0]) == ("sft",)
        walk = evidence.graph.back(found)
        assert not list(broken_edges(evidence, "sft"))
    assert not walk.broken
    assert not walk.unknown
    assert shown(walk) == [
        (0, WEIGHTS, "stage"),
        (1, "stages/sft.py", "source"),
        (1, "tree:data/base/checkpoint", "stage"),
        (2, "stages/base.py", "source"),
        (2, "tree:trust", "source"),
    ]


def test_the_walk_forward_leads_from_a_source_to_all_that_came_of_it(built: Simulated):
    with open_evidence(built.packed) as evidence:
        walk = evidence.graph.forward(evidence.graph.find("stages/base.py"))
        other = evidence.graph.forward(evidence.graph.find("stages/eval.py"))
    assert [row.via for row in walk.rows if row.depth == 1] == ["base"]
    assert {row.via for row in walk.rows} == {"", "base", "sft", "eval", "attest"}
    assert {row.via for row in other.rows} == {"", "eval", "attest"}


def test_command_and_params_can_be_traced(built: Simulated):
    with open_evidence(built.packed) as evidence:
        for name in ("cmd:sft", "params:sft"):
            (found,) = evidence.graph.find(name)
            (row,) = evidence.graph.back([found]).rows
            assert row.origin == "source"
            assert "sft" in {row.via for row in evidence.graph.forward([found]).rows}


def test_equal_bytes_elsewhere_have_another_origin(built: Simulated):
    with open_evidence(built.packed) as evidence:
        (one,) = evidence.graph.find(f"{CHECKPOINT}/config.json")
        (other,) = evidence.graph.find("data/base/checkpoint/config.json")
        assert one[1] == other[1]
        assert evidence.graph.producers(*one) == ("sft",)
        assert evidence.graph.producers(*other) == ("base",)


def test_a_digest_or_twelve_digits_of_it_find_the_artifact():
    one = graph(link("source", {}, {"a": "0123456789abcdef" * 4}))
    assert one.find("0123456789abcdef" * 4) == one.find("0123456789ab") != ()
    assert one.find("0123456789a") == ()


def test_a_single_file_of_a_tree_leads_forward_too():
    one = graph(
        link("source", {}, {"s": D["0"]}),
        link("make", {"s": D["0"]}, {"tree:out": D["1"], "out/x": D["2"]}),
        link("use", {"out/x": D["2"]}, {}),
    )
    assert shown(one.forward(one.find("s"))) == [
        (0, "s", "source"),
        (1, "tree:out", "stage"),
        (2, "", "stage"),
    ]
    assert shown(one.forward(one.find("out")))[-1] == (1, "", "stage")


def test_a_folder_over_several_outs_is_followed_by_its_files():
    one = graph(
        link("source", {}, {"s": D["0"]}),
        link("a", {"s": D["0"]}, {"d/a": D["1"]}),
        link("b", {"s": D["0"]}, {"d/b": D["2"]}),
        link("c", {"tree:d": D["3"], "d/a": D["1"], "d/b": D["2"]}, {"out": D["4"]}),
    )
    walk = one.back(one.find("out"))
    assert ("tree:d", "parts") in {(row.path, row.origin) for row in walk.rows}
    assert {name for row in walk.rows for name in row.made_by} == {"source", "a", "b", "c"}
    assert not walk.unknown


def test_the_first_broken_edge_is_named():
    one = graph(
        link("source", {}, {"s": D["0"]}),
        link("make", {"s": D["1"]}, {"x": D["2"]}),
        link("use", {"x": D["2"]}, {"y": D["3"]}),
    )
    walk = one.back(one.find("y"))
    assert [(stage, path) for stage, path, _ in walk.broken] == [("make", "s")]
    assert list(render_tree(walk))[-1] == (
        "first broken edge: stage 'make' read a s that is not the source the owner attested"
    )
    assert "color=red" in "\n".join(render_dot(walk))
    assert "-. broken .->" in "\n".join(render_mermaid(walk))


def test_an_unknown_origin_is_no_source():
    one = graph(link("make", {"s": D["1"]}, {"x": D["2"]}))
    assert [row.path for row in one.back(one.find("x")).unknown] == ["s"]


def test_stages_that_need_each_other_end_the_walk():
    one = graph(
        link("a", {"y": D["1"]}, {"x": D["2"]}),
        link("b", {"x": D["2"]}, {"y": D["1"]}),
    )
    assert [row.again for row in one.back(one.find("x")).rows] == [False, False, True]
    assert [row.again for row in one.forward(one.find("x")).rows] == [False, False, True]


@pytest.mark.parametrize("render", [render_tree, render_dot, render_mermaid])
def test_equal_graphs_give_equal_text_whatever_their_order(render):
    links = [
        link("source", {}, {"s": D["0"], "t": D["5"]}),
        link("a", {"s": D["0"]}, {"x": D["1"]}),
        link("b", {"t": D["5"], "x": D["1"]}, {"y": D["2"]}),
    ]
    one, other = graph(*links), graph(*reversed(links))
    assert list(render(one.back(one.find("y")))) == list(render(other.back(other.find("y"))))


def test_odd_names_steer_neither_graphviz_nor_mermaid():
    odd = 'a"b\\n];<x>`#;'
    one = graph(link("source", {}, {odd: D["0"]}), link('s"]', {odd: D["0"]}, {"y": D["1"]}))
    walk = one.back(one.find("y"))
    dot, mermaid = "\n".join(render_dot(walk)), "\n".join(render_mermaid(walk))
    assert 'label="a\\"b\\\\n];<x>`#;\\n000000000000"' in dot
    assert 'label="s\\"]"' in dot
    assert "a#34;b#92;n#93;#59;#60;x#62;#96;#35;#59;" in mermaid
    assert 's0["s#34;#93;"]' in mermaid


_TEXT = r'"(?:[^"\\]|\\.)*"'
_DOT = re.compile(
    rf"digraph forebear \{{|\}}|  rankdir=LR;"
    rf"|  [as]\d+ \[shape=(?:box|ellipse), label={_TEXT}(?:, \w+=\w+)?\];"
    r"|  [as]\d+ -> [as]\d+(?: \[color=red, style=dashed\])?;"
)
_MERMAID = re.compile(
    r'flowchart LR|  s\d+\["[^"]*"\]|  a\d+\("[^"]*"\)'
    r"|  [as]\d+ (?:-->|-\. broken \.->) [as]\d+|  classDef \w+ [^;]+|  class [a\d,]+ \w+"
)


@pytest.mark.parametrize(
    "name", ["plain", '"', "\\", '\\\\"', '"];b -> c;"', "<br/>", "é", "a;b", "#35;"]
)
def test_every_line_has_the_form_of_its_language(name: str):
    one = graph(link("source", {}, {name: D["0"]}), link(name, {name: D["1"]}, {"y": D["2"]}))
    walk = one.back(one.find("y"))
    assert all(_DOT.fullmatch(line) for line in render_dot(walk)), list(render_dot(walk))
    assert all(_MERMAID.fullmatch(line) for line in render_mermaid(walk))


def test_ten_thousand_stages_in_a_row_and_a_million_artifacts_are_walked_in_seconds():
    links = [link("source", {}, {"s": D["0"]})]
    before = {"s": D["0"]}
    for number in range(10_000):
        name = f"s{number:05}"
        files = {f"{name}/f{at:02}": D["1"] for at in range(50)}
        links.append(link(name, before, {f"tree:{name}": D["2"], **files}))
        before = {f"tree:{name}": D["2"], **files}
    started = time.process_time()
    one = graph(*links)
    back = one.back(one.find("s09999"))
    forward = one.forward(one.find("s"))
    assert len(back.rows) == 10_001
    assert len(forward.rows) == 10_001
    assert json.loads(json.dumps(to_json(back)))["rows"][-1]["depth"] == 10_000
    assert max(len(line) for line in render_tree(back)) < 300
    assert sum(1 for _ in render_mermaid(back)) > 30_000
    assert time.process_time() - started < 30
