"""Labels travel along signed links, and ``forebear why`` tells whence and through what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from forebear.cli.why import command
from forebear.documents.build import collect
from forebear.documents.labels import between, edges
from forebear.formats.link import Link
from tests.unit.documents.fixture import FILES
from tests.unit.documents.test_command import run

if TYPE_CHECKING:
    import pytest

    from tests.unit.documents.fixture import Project

EXAMPLE = (Path(__file__).parents[3] / "cards" / "declarations.example.yaml").read_text("utf-8")


def _labels(project: Project) -> dict[str, list[str]]:
    rows = collect(project.inputs()).facts.tables["model.labels"]
    return {str(row.cells["label"].value): list(row.cells["through"].value) for row in rows}  # type: ignore[arg-type]  # a list of stages


def _link(name: str, reads: dict[str, str], writes: dict[str, str]) -> Link:
    return Link(name, ("x",), reads, writes, {"return-value": 0})


def test_a_licence_reaches_the_checkpoint_through_the_stages_on_its_way(project: Project) -> None:
    project.declare(EXAMPLE)
    labels = _labels(project)
    assert labels["PSF-2.0"] == ["curate", "tokenize", "cpt", "sft", "distill", "merge"]
    assert labels["Apache-2.0"] == ["base", "tokenize", "cpt", "sft", "distill", "merge"]
    assert labels["text made by a model"] == ["distill", "merge"]


def test_a_set_that_is_only_measured_on_labels_nothing(project: Project) -> None:
    project.declare(EXAMPLE)
    assert "MIT" not in _labels(project)
    project.sources[2] = {**project.sources[2], "role": "replay"}
    project.sign("curate")
    assert "MIT" in _labels(project)


def test_terms_of_an_outside_teacher_travel_with_its_answers(project: Project) -> None:
    teacher = {"kind": "endpoint", "name": "gpt", "model": "gpt-5.1"}
    project.write("data/distill/metrics.json",
                  {**FILES["data/distill/metrics.json"], "teacher": teacher})  # fmt: skip
    project.sign("distill")
    project.declare(EXAMPLE)
    assert _labels(project)["terms-openai"] == ["distill", "merge"]


def test_a_file_of_another_digest_is_no_edge() -> None:
    made = _link("made", {}, {"a": "1" * 64})
    same, other = _link("same", {"a": "1" * 64}, {}), _link("other", {"a": "2" * 64}, {})
    readers = edges({"made": made, "same": same, "other": other})
    assert readers["made"] == {"same"}
    assert between(readers, "made", "other") == frozenset()


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_the_way_is_every_stage_that_lies_between(pairs: list[tuple[int, int]]) -> None:
    """Against a plain search for paths, in graphs without circles."""
    arrows = {(a, b) for a, b in pairs if a < b}
    readers = {str(n): frozenset(str(b) for a, b in arrows if a == n) for n in range(8)}

    def leads(start: int, end: int) -> bool:
        return start == end or any(leads(b, end) for a, b in arrows if a == start)

    expected = {str(n) for n in range(8) if leads(0, n) and leads(n, 7)}
    assert between(readers, "0", "7") == expected


def _why(project: Project, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    project.declare(EXAMPLE)
    return run(command, project, monkeypatch, *words)


def test_why_names_source_and_way(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _why(project, monkeypatch, "psf")
    assert result.return_value == 0
    assert "licence: PSF-2.0" in result.output
    assert "from pydoc-topics, by curate → tokenize → cpt → sft → distill → merge" in result.output


def test_why_answers_by_kind_and_as_json(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.loads(_why(project, monkeypatch, "synthetic", "--json").output)
    assert [one["source"] for one in body["labels"]] == ["distill-trajectories"]
    assert body["model"] == "c0ffee" + "0" * 58


def test_why_says_when_there_is_no_such_label(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _why(project, monkeypatch, "GPL")
    assert result.return_value == 1
    assert "carries no such label" in result.output
