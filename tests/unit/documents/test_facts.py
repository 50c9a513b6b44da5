"""What the facts hold: compute in its two meanings, sets, generators, legal constants, template."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from forebear.documents.basemodels import find as base_model
from forebear.documents.build import collect
from forebear.documents.declarations import parse_declarations
from forebear.documents.derive import OPERATIONS, derived, total
from forebear.documents.fields import FIELDS
from forebear.documents.legal import LegalFile, load_legal
from forebear.documents.licencetable import find
from forebear.documents.template import template
from forebear.documents.values import Facts, not_applicable, unknown
from forebear.errors import ConfigError
from tests.unit.documents.fixture import COMPARISON, FILES
from tests.unit.documents.made import computed

if TYPE_CHECKING:
    from tests.unit.documents.fixture import Project

EXAMPLE = (Path(__file__).parents[3] / "cards" / "declarations.example.yaml").read_text("utf-8")
DISTILL = FILES["data/distill/metrics.json"]
N = 134515008


def _facts(project: Project, declarations: str = EXAMPLE) -> Facts:
    project.declare(declarations)
    return collect(project.inputs()).facts


def _rewrite(project: Project, stage: str, **more: Any) -> None:
    path = f"data/{stage}/metrics.json"
    project.write(path, {**FILES[path], **more})
    project.sign(stage)


# ── compute ────────────────────────────────────────────────────────────────────────────────────


def test_generation_counts_every_answer_and_only_in_the_cumulative_sum(project: Project) -> None:
    """Compliance page, 13.10: 100 answers, 10 of them kept."""
    values = _facts(project).values
    update = 6 * N * (40100 + 20100 + 9100)
    assert values["train.flop_modification"].value == update
    assert values["train.flop_modification_cumulative"].value == update + 2 * N * 3000
    assert values["applicability.ratio_value"].value == pytest.approx(update / 1.62e21)


def test_a_teacher_of_unknown_size_leaves_a_lower_bound(project: Project) -> None:
    """Compliance page, 13.10: until somebody declares how large it may be."""
    sampling = {name: one for name, one in DISTILL["sampling"].items() if name != "flop"}
    teacher = {"kind": "endpoint", "name": "writer", "model": "writer-1"}
    _rewrite(project, "distill", sampling=sampling, teacher=teacher)
    facts = _facts(project)
    assert facts.values["train.flop_modification_cumulative"].lower_bound
    rules = {row.key: row.cells for row in facts.tables["applicability.rules"]}
    assert rules["A4"]["outcome"].kind == "unknown"
    assert not facts.values["train.flop_modification"].lower_bound

    bound = {"name": "writer", "provider": "P", "on_market": "yes", "summary_url": "none"}
    text = yaml.safe_dump({"train": {"generators": [{**bound, "params_active_max": 10**11}]}})
    values = _facts(project, _with_train(text)).values
    total_flop = values["train.flop_modification_cumulative"]
    assert not total_flop.lower_bound
    assert total_flop.value == 6 * N * (40100 + 20100 + 9100) + 2 * 10**11 * 3000


def _with_train(text: str) -> str:
    """The example with the generators of ``text`` under ``train``."""
    lines = text.splitlines()[1:]
    return EXAMPLE.replace("train:\n", "train:\n" + "\n".join(lines) + "\n", 1)


def test_a_stage_without_a_counter_is_counted_by_parameters_and_tokens(project: Project) -> None:
    figures = {name: one for name, one in FILES["data/sft/metrics.json"].items() if name != "flop"}
    project.write("data/sft/metrics.json", figures)
    project.sign("sft")
    leaf = dict(_facts(project).leaves())["train.stages[sft].flop"]
    assert leaf.value == 6 * N * 20100
    assert leaf.estimate
    assert leaf.inputs == ("train.stages[sft].params_active", "train.stages[sft].tokens_padded")


def test_the_originals_compute_is_reported_or_unknown(project: Project) -> None:
    value = _facts(project).values["train.flop_base"]
    assert (value.kind, value.value, value.estimate) == ("reported", 6 * 135e6 * 2e12, True)
    assert value.source is not None
    project.write("data/base/base.json", {**FILES["data/base/base.json"], "repo": "acme/own"})
    project.sign("base")
    values = _facts(project).values
    assert values["train.flop_base"].kind == "unknown"
    assert values["train.flop_cumulative"].lower_bound


def test_energy_that_nobody_measured_is_unknown(project: Project) -> None:
    value = _facts(project).values["train.energy_modification"]
    assert value.kind == "unknown"
    assert "9 stages" in str(value.reason)


@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=5), st.integers(0, 3))
def test_a_sum_with_an_unknown_part_is_a_lower_bound(numbers: list[int], n_unknown: int) -> None:
    cells = {f"k{i}": computed(n) for i, n in enumerate(numbers)}
    cells |= {f"u{i}": unknown("no") for i in range(n_unknown)}
    made = total({**cells, "n": not_applicable("idle")}, unit="FLOP", what="compute")
    assert made.value == pytest.approx(sum(numbers))
    assert made.lower_bound == (n_unknown > 0)
    assert made.inputs == tuple(f"k{i}" for i in range(len(numbers)))


def test_nothing_follows_from_an_unknown_part() -> None:
    for method in OPERATIONS:
        parts = {"a": computed(6), "b": unknown("no")}
        assert derived(method, parts, reason="why").reason == "why"


def test_a_share_divides_the_part_by_the_whole() -> None:
    parts = {"a": computed(1), "b": computed(3)}
    made = derived("share", parts, of="b")
    assert (made.value, made.inputs) == (0.75, ("b", "a", "b"))


# ── sets, generators, model ────────────────────────────────────────────────────────────────────


def test_sets_hold_what_is_kept_and_what_is_declared(project: Project) -> None:
    facts = _facts(project)
    rows = {row.key: row.cells for row in facts.tables["data.sets"]}
    icd = rows["curate:icd10cm"]
    assert (icd["documents"].value, icd["documents_derived"].value) == (1700, 3500)
    assert icd["tokens"].value == 400000 * 0.25
    assert (icd["origin"].kind, icd["licence"].kind) == ("declared", "computed")
    assert rows["curate:mmlu-pro"]["documents"].kind == "not_applicable"
    assert rows["distill:trajectories"]["origin"].value == "synthetic"
    assert facts.values["data.documents"].value == 1700 + 3500 + 78 + 10
    assert facts.values["data.answers.synthetic"].value is True
    assert facts.values["data.answers.crawled"].value is False


def test_an_undeclared_origin_leaves_the_answers_open(project: Project) -> None:
    tree = yaml.load(EXAMPLE, Loader=yaml.BaseLoader)  # noqa: S506  # texts only
    del tree["data"]["sets"]
    facts = _facts(project, yaml.safe_dump(tree))
    assert facts.values["data.answers.public"].kind == "unknown"
    assert facts.values["data.answers.synthetic"].value is True  # a stage made some


def test_an_own_checkpoint_is_told_from_an_outside_teacher(project: Project) -> None:
    """Compliance page, 13.16."""
    row = _facts(project).tables["data.generators"][0].cells
    assert (row["own"].value, row["made_by"].value) == (True, "sft")
    assert row["on_market"].kind == "not_applicable"
    teacher = {"kind": "endpoint", "name": "gpt", "model": "gpt-5.1", "accessed": "2026-10"}
    _rewrite(project, "distill", teacher=teacher)
    row = _facts(project).tables["data.generators"][0].cells
    assert (row["own"].kind, row["model"].value) == ("unknown", "gpt-5.1")
    assert row["revision"].value == "2026-10"
    assert row["on_market"].kind == "unknown"
    assert _facts(project).values["licences.status"].value == "conflict"


def test_the_models_shape_comes_from_its_own_configuration(project: Project) -> None:
    values = _facts(project).values
    assert values["model.context_length"].evidence[0].path == "data/merge/checkpoint/config.json"
    assert values["model.architecture_family"].value == "decoder-only transformer, Llama family"
    assert values["model.parents"].value == ["sft", "distill"]
    config = {**FILES["data/merge/checkpoint/config.json"], "model_type": "novel"}
    project.write("data/merge/checkpoint/config.json", config)
    project.sign("merge")
    assert _facts(project).values["model.architecture_family"].kind == "unknown"


def test_files_of_a_set_are_those_that_its_stage_signed(project: Project) -> None:
    rows = {row.key: row.cells for row in _facts(project).tables["data.files"]}
    assert rows["curate:icd10cm:instruction.jsonl"]["rows"].value == 10
    assert rows["curate:mmlu-pro:test_280.jsonl"]["sha256"].value == "7" * 64
    assert "curate:pydoc-topics:domain.jsonl" not in rows


def test_the_takedown_list_names_stages_and_checkpoints_within_reach(project: Project) -> None:
    """Compliance page, 13.30."""
    values = _facts(project).values
    assert values["data.takedown.checkpoints"].value == ["cpt", "sft", "distill", "merge"]
    assert "measure@final" in values["data.takedown.stages"].value  # type: ignore[operator]  # a list


def test_retention_ends_ten_years_after_the_market(project: Project) -> None:
    assert _facts(project).values["release.retention_until"].value == "2036-12-01"
    leap = EXAMPLE.replace("eu_market_date: '2026-12-01'", "eu_market_date: '2028-02-29'")
    assert _facts(project, leap).values["release.retention_until"].value == "2038-02-28"
    never = EXAMPLE.replace("eu_market_date: '2026-12-01'", "eu_market_date: not_placed")
    assert _facts(project, never).values["release.retention_until"].value == "2036-11-24"


def test_systemic_risk_asks_for_red_teaming(project: Project) -> None:
    """Compliance page, 13.10."""
    tree = yaml.load(EXAMPLE, Loader=yaml.BaseLoader)  # noqa: S506  # texts only
    del tree["eval"]
    text = yaml.safe_dump(tree)
    assert "eval.redteam.summary" not in {one.field for one in _facts(project, text).missing}
    _rewrite(project, "cpt", flop=1.1e25)
    missing = {one.field: one for one in _facts(project, text).missing}
    assert missing["eval.redteam.summary"].code == "C101"
    assert "A4 is indicated" in missing["eval.redteam.summary"].detail


# ── legal constants, template ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "number", "name"),
    [
        ("text", 999_999_999, "Less than 1 billion tokens"),
        ("text", 1_000_000_000, "1 billion to 10 trillion tokens"),
        ("text", 10**13, "More than 10 trillion tokens"),
        ("audio", 10_000, "10,000 to 1 million hours"),
        ("model_size", 134_515_008, "1-500M"),
        ("model_size", 500_000_000, "500M-5B"),
        ("model_size", 10**12, ">1T"),
    ],
)
def test_a_number_on_a_bound_takes_the_upper_tier(kind: str, number: int, name: str) -> None:
    assert load_legal().tiers[kind].name(number) == name


def test_every_constant_has_source_and_reading() -> None:
    rows = load_legal().rows()
    assert len(rows) >= 22
    for row in rows:
        assert row.cells["value"].source is not None
        assert row.cells["read"].value in ("full", "secondary")


def test_a_legal_file_that_does_not_hold_is_refused() -> None:
    shipped = resources.files("forebear").joinpath("data/legal/eu-2026-11.yaml").read_bytes()
    for old, new in (("  read: full", "  read: half"), (" 2026-11-24\n    note", " x\n    note")):
        with pytest.raises(ConfigError):
            LegalFile(shipped.decode().replace(old, new, 1).encode(), where="other.yaml")


def test_the_template_reads_back_as_what_was_put_in() -> None:
    by = {"name": "N", "role": "R", "date": "2026-11-24"}
    values = {"declared_by": by, "use.summary": "word " * 60, "use.intended": ["a", "b"],
              "provider.country": "NO", "model.open.monetised": False}  # fmt: skip
    text = template(values)
    declared = parse_declarations(text.encode(), where="t.yaml").values
    for field, value in values.items():
        if field != "declared_by":
            expected = value.strip() if isinstance(value, str) else value
            assert declared[field].value == expected
    assert all(f"{field.label}: {field.hint}" in " ".join(text.replace("#", " ").split())
               for field in FIELDS)  # fmt: skip
    assert max(map(len, text.splitlines())) <= 100


# ── base models ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("repo", "flop", "licence"),
    [
        ("meta-llama/Llama-4-Maverick-17B-128E", 2.2e24, "llama4"),
        ("Qwen/Qwen3-14B-Base", 3.2e24, "Apache-2.0"),
        ("microsoft/phi-4", 8.6e23, "MIT"),
        ("deepseek-ai/DeepSeek-V3-Base", 3.3e24, "deepseek-licence-1.0"),
        ("deepseek-ai/DeepSeek-V3.1-Base", 3.5e24, "MIT"),
        ("HuggingFaceTB/SmolLM2-135M", 1.6e21, "Apache-2.0"),
    ],
)
def test_the_table_of_base_models_gives_compute_and_licence(
    repo: str, flop: float, licence: str
) -> None:
    """Compliance page, 10.1."""
    row = base_model(repo)
    assert row is not None
    assert row.flop(("n", "d")).value == pytest.approx(flop, rel=0.03)
    entry = find(str(row.licence))
    assert entry is not None
    assert entry.id == licence


def test_what_no_publisher_states_is_unknown() -> None:
    row = base_model("mistralai/Mistral-Small-4-119B-2603")
    assert row is not None
    assert row.flop(("n", "d")).kind == "unknown"
    assert base_model("nobody/nothing") is None


# ── evaluation ─────────────────────────────────────────────────────────────────────────────────


def test_each_metric_of_a_suite_has_a_row_of_its_own(project: Project) -> None:
    """Rows keep the order of the comparison; adjusted p and overlap stand beside the score."""
    first = {**COMPARISON["tasks"][1], "metric": "acc"}
    rows = [first, {**first, "metric": "f1", "scores": {"candidate": None, "reference": None}}]
    project.write("data/eval/verdict/comparison.json", {**COMPARISON, "tasks": rows})
    sets = {"mmlu_pro": {"n": 200, "rate": 0.02, "max_rate": 0.01, "over": True, "checked": True,
                         "interval": {"low": 0.0, "high": 0.05, "level": 0.95, "method": "wilson"},
                         "unknown": "the base's own training data is unknown"}}  # fmt: skip
    project.write("data/eval/verdict/contamination.json", {"sets": sets})
    project.products["eval"] = ("data/eval/verdict", "data/eval/verdict/contamination.json")
    project.sign("eval")
    facts = _facts(project)
    found = {row.key: row.cells for row in facts.tables["eval.results"]}
    assert list(found) == ["mmlu_pro:acc:base", "mmlu_pro:f1:base"]
    accuracy = found["mmlu_pro:acc:base"]
    assert (accuracy["p_adjusted"].value, accuracy["contamination"].value) == (1.0, 0.02)
    assert accuracy["prompts_sha256"].value == "9" * 64
    assert found["mmlu_pro:f1:base"]["candidate_score"].kind == "unknown"
    assert found["mmlu_pro:f1:base"]["p_adjusted"].kind == "not_applicable"
    overlap = facts.tables["eval.contamination"][0].cells
    assert (overlap["rate"].value, overlap["over"].value) == (0.02, True)
    assert overlap["rate"].interval is not None
    assert [row.key for row in facts.tables["eval.slices"]] == [
        "mc4_far:acc:chapter-02", "mmlu_pro:acc:chapter-02",
    ]  # fmt: skip
    assert facts.tables["eval.not_run"][0].cells["reason"].value == "no sandbox"
