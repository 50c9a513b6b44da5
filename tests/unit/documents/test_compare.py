"""Two releases compared: by name, material first, evidence apart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from forebear.cli.diff import command
from forebear.documents import changes
from forebear.documents.compare import compare_facts, suggested_bump
from tests.unit.documents.made import computed, data_set, declared, facts, row, score

if TYPE_CHECKING:
    from pathlib import Path

    from forebear.documents.compare import Bump
    from forebear.documents.values import Facts, Row, Value


def _result(key: str, value: Value) -> Row:
    return row(key, task=computed(key), candidate_score=value)


def _scores(low: float) -> Row:
    return _result("mc4:base", score(low + 0.05, low, low + 0.1))


OLD = facts({"model.licence": declared("MIT")}, {
    "data.sets": [data_set("one"), data_set("two")],
    "eval.results": [_scores(0.4), _result("golden:base", computed(0.5))],
})  # fmt: skip


def test_order_is_no_difference() -> None:
    """Compliance page, 13.23."""
    new = OLD.model_copy(
        update={"tables": {name: tuple(reversed(rows)) for name, rows in OLD.tables.items()}}
    )
    assert compare_facts(OLD, new) == ()
    assert suggested_bump(()) == "none"


def test_a_changed_licence_is_material_and_comes_first() -> None:
    new = _with(OLD, {"model.licence": declared("Apache-2.0"), "provider.size": declared("sme"),
                      "model.digest": computed("f" * 64)})  # fmt: skip
    found = compare_facts(OLD, new)
    assert [(c.fact, c.material) for c in found] == [
        ("model.digest", True), ("model.licence", True), ("provider.size", False),
    ]  # fmt: skip
    assert suggested_bump(found) == "major"


def test_the_same_value_in_a_new_file_is_evidence_only() -> None:
    new = _with(OLD, {"model.digest": computed("c" * 64, file="9" * 64)})
    (change,) = compare_facts(OLD, new)
    assert (change.kind, change.material) == ("evidence", False)
    assert suggested_bump((change,)) == "none"


@pytest.mark.parametrize(("low", "overlap"), [(0.45, True), (0.6, False)])
def test_a_changed_score_says_whether_intervals_overlap(low: float, overlap: bool) -> None:
    tables = {**OLD.tables, "eval.results": (_scores(low), OLD.tables["eval.results"][1])}
    (change,) = compare_facts(OLD, OLD.model_copy(update={"tables": tables}))
    assert (change.area, change.overlap) == ("scores", overlap)


def test_a_score_without_interval_says_nothing_about_overlap() -> None:
    rows = (OLD.tables["eval.results"][0], _result("golden:base", computed(0.6)))
    tables = {**OLD.tables, "eval.results": rows}
    (change,) = compare_facts(OLD, OLD.model_copy(update={"tables": tables}))
    assert change.overlap is None


def test_a_new_data_set_is_one_change_and_sets_the_duty_to_update() -> None:
    sets = (*OLD.tables["data.sets"], data_set("three"))
    new = OLD.model_copy(update={"tables": {**OLD.tables, "data.sets": sets}})
    (change,) = compare_facts(OLD, new)
    assert (change.kind, change.fact, change.material) == ("added", "data.sets[three]", True)
    text = changes.render(new, previous=OLD)["changes.md"].decode()
    assert "the public summary of training content has to be updated" in text
    silent = changes.render(OLD, previous=OLD)["changes.md"].decode()
    assert "has to be updated" not in silent


def test_times_of_a_run_are_no_change_but_its_code_is() -> None:
    def of(wall: int, commit: str) -> Facts:
        cells = {"name": computed("sft"), "wall": computed(wall), "commit": computed(commit)}
        return facts(tables={"train.stages": [row("sft", **cells)]})

    assert compare_facts(of(10, "a" * 40), of(20, "a" * 40)) == ()
    (change,) = compare_facts(of(10, "a" * 40), of(10, "b" * 40))
    assert change.area == "code"


@pytest.mark.parametrize(
    ("fact", "bump"),
    [
        ("use.intended", "major"), ("model.licence", "major"), ("limit.known", "minor"),
        ("model.digest", "minor"), ("oversight.monitoring", "patch"),
    ],
)  # fmt: skip
def test_what_changed_decides_the_suggested_version(fact: str, bump: Bump) -> None:
    old, new = (_with(OLD, {fact: declared(text)}) for text in ("before", "after"))
    assert suggested_bump(compare_facts(old, new)) == bump


def test_a_first_release_says_that_it_is_one() -> None:
    text = changes.render(OLD)["changes.md"].decode()
    assert "This is the first release" in text
    assert "Material changes" not in text


def test_the_changes_show_both_values_and_say_where_the_old_one_stood() -> None:
    new = _with(OLD, {"model.licence": declared("Apache-2.0")})
    text = changes.render(new, previous=OLD)["changes.md"].decode()
    line = next(line for line in text.splitlines() if line.startswith("| Licence of the model"))
    assert line.index("MIT") < line.index("Apache-2.0")
    assert f"sha256:{OLD.sha256()}" in text
    assert "**a major version**" in text


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    """A facts file, and a folder of documents with another licence."""
    file, folder = tmp_path / "old.json", tmp_path / "new"
    folder.mkdir()
    file.write_bytes(OLD.to_bytes())
    new = _with(OLD, {"model.licence": declared("Apache-2.0")})
    (folder / "facts.json").write_bytes(new.to_bytes())
    return str(file), str(folder)


def test_the_command_fits_on_a_page_and_names_what_did_not_change(
    places: tuple[str, str],
) -> None:
    done = CliRunner().invoke(command, [*places], standalone_mode=False)
    assert "~ Licence of the model: MIT → Apache-2.0" in done.output
    assert "Material" in done.output
    quiet = next(line for line in done.output.splitlines() if line.startswith("No change: "))
    for word in ("Data", "Original model", "Code", "Scores", "Risks"):
        assert word in quiet
    assert len(done.output.splitlines()) < 60


def test_exit_code_one_only_when_it_is_asked_for_and_something_changed(
    places: tuple[str, str],
) -> None:
    def code(*words: str) -> int:
        return int(CliRunner().invoke(command, [*words], standalone_mode=False).return_value)

    assert code(*places) == 0
    assert code(*places, "--exit-code") == 1
    assert code(places[0], places[0], "--exit-code") == 0


def test_json_holds_every_change_exactly(places: tuple[str, str]) -> None:
    done = CliRunner().invoke(command, [*places, "--json"], standalone_mode=False)
    body = json.loads(done.output)
    assert body["suggested"] == "major"
    (change,) = body["changes"]
    assert (change["fact"], change["material"]) == ("model.licence", True)
    assert (change["old"]["value"], change["new"]["value"]) == ("MIT", "Apache-2.0")


def test_a_folder_without_facts_is_wrong_usage(tmp_path: Path) -> None:
    from forebear.errors import UsageError

    done = CliRunner().invoke(command, [str(tmp_path), str(tmp_path)], standalone_mode=False)
    assert isinstance(done.exception, UsageError)


def _with(old: Facts, values: dict[str, Value]) -> Facts:
    return old.model_copy(update={"values": {**old.values, **values}})
