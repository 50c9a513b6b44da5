"""Copyright policy, licences, Annex IV inputs, applicability: what each shows, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from forebear.documents import annexiv, applicabilitycard, copyrightpolicy, obligations
from forebear.documents.difference import first_difference
from forebear.documents.registry import render_all
from forebear.documents.values import unknown
from tests.unit.documents.made import computed, data_set, declared, facts, reported, row, score

if TYPE_CHECKING:
    from forebear.documents.values import Value

POLICY = "copyright-policy.md"


def test_the_policy_names_the_legal_basis_of_each_set() -> None:
    sets = [data_set("one", legal_basis="tdm_art_4"), data_set("two", legal_basis="contract")]
    text = copyrightpolicy.render(facts(tables={"data.sets": sets}))[POLICY].decode()
    one, two = text.split("### one")[1].split("### two")
    assert "text and data mining, Article 4" in one
    assert "contract" in two.split("\n## ")[0]


def test_the_policy_claims_nothing_that_nobody_declared() -> None:
    """Lawful access and the like are statements of people, or unknown."""
    text = copyrightpolicy.render(facts())[POLICY].decode()
    part = text.split("## 3. Lawful access")[1].split("\n## ")[0]
    assert part.strip() == "- **Lawful access:** unknown (not recorded)"
    said = {"copyright.lawful_access": declared("No barrier was passed.")}
    assert "No barrier was passed." in copyrightpolicy.render(facts(said))[POLICY].decode()


def test_a_takedown_shows_commitments_stages_and_checkpoints_and_no_raw_id() -> None:
    """Compliance page, 13.30."""
    raw, commitment = "private-set:" + "7" * 64, "commitment-" + "8" * 16
    cells = {
        "request": computed("2026-001"), "date": computed("2026-10-01"),
        "stages": computed(["cpt", "sft"]), "checkpoints": computed(["data/sft/checkpoint"]),
        "action": computed("removed from the next build"),
    }  # fmt: skip
    public = row("2026-001", documents=computed([commitment]), **cells)
    internal = row("2026-001", documents=computed([raw]), **cells)
    made = facts(tables={"data.takedown.requests": [public], "data.takedown.internal": [internal]})
    files = render_all(made)
    policy = files[POLICY].decode()
    for word in (commitment, "data/sft/checkpoint", "removed from the next build", "2026-001"):
        assert word in policy
    for name, data in files.items():
        assert (raw in data.decode()) is name.startswith("restricted/copyright-policy"), name


def test_licences_show_conflicts_with_rule_and_source() -> None:
    conflict = row(
        "0", rule=computed("L7"), items=computed("llama-4"), reason=computed("clause of the Union"),
        source=computed("https://example.org/llama"),
    )  # fmt: skip
    values = {"licences.status": computed("conflict")}
    files = obligations.render(facts(values, {"licences.conflicts": [conflict]}))
    text = files["licences.md"].decode()
    line = next(line for line in text.splitlines() if line.startswith("| L7"))
    for word in ("llama-4", "clause of the Union", "https://example.org/llama"):
        assert word in line
    assert "Conflicts: none found." not in text
    assert "Conflicts: none found." in obligations.render(facts())["licences.md"].decode()


def test_a_review_stands_as_the_conclusion_of_whoever_made_it() -> None:
    """Compliance page, 13.19."""
    review = row(
        "t", item=computed("teacher"), conclusion=declared("does not compete"),
        by=declared("R. Eviewer"), role=declared("counsel"), date=declared("2026-11-01"),
    )  # fmt: skip
    text = obligations.render(facts(tables={"licences.reviews": [review]}))["licences.md"].decode()
    line = next(line for line in text.splitlines() if line.startswith("| teacher"))
    assert "does not compete" in line
    assert "R. Eviewer" in line


def _annex(**values: Value) -> dict[str, object]:
    known = {"annex_iv.enabled": declared(value=True)}
    known |= {name.replace("__", "."): value for name, value in values.items()}
    results = [row("mc4:base", task=computed("mc4"), n=computed(200),
                   candidate_score=score(0.5, 0.4, 0.6))]  # fmt: skip
    made = facts(known, {"eval.results": results})
    text = annexiv.render(made)["annex-iv-inputs.yaml"].decode()
    assert text.splitlines()[0].startswith("# Input for")
    assert "it is not Annex IV documentation" in text.splitlines()[0]
    read: dict[str, object] = yaml.safe_load(text)
    return read


def test_inputs_for_annex_iv_are_written_only_when_they_are_asked_for() -> None:
    assert annexiv.render(facts()) == {}
    assert annexiv.render(facts({"annex_iv.enabled": declared(value=False)})) == {}
    assert list(annexiv.render(facts({"annex_iv.enabled": declared(value=True)}))) == [
        "annex-iv-inputs.yaml"
    ]


def test_inputs_for_annex_iv_follow_the_points_of_the_annex() -> None:
    keys = _annex(annex_iv__risk_level=declared("limited"))
    assert list(keys) == [
        "enterprise_size", "risk_level", "use_cases", "system_overview", "development_process",
        "system_monitoring", "performance_metrics", "risk_management", "changes_and_versions",
        "standards_applied", "compliance_declaration", "post_market_plan", "placed_on_market",
        "last_updated",
    ]  # fmt: skip
    assert keys["risk_level"] == "limited"
    assert keys["use_cases"] == "unknown"
    assert "mc4: 0.5 (95%: 0.4 to 0.6), 200 items" in str(keys["performance_metrics"])
    for theirs in ("compliance_declaration", "post_market_plan"):
        assert keys[theirs] == "To be supplied by the provider of the AI system"


@pytest.mark.parametrize(
    ("placed", "updated"),
    [("2026-12-01", "2026-12-01"), ("2026-01-01", "2026-11-25"), ("not_placed", "2026-11-25")],
)
def test_the_last_update_is_never_before_the_placing_on_the_market(
    placed: str, updated: str
) -> None:
    keys = _annex(model__eu_market_date=declared(placed))
    assert str(keys["last_updated"]) == updated


def test_applicability_shows_rules_inputs_and_constants_as_they_were_read() -> None:
    rules = [
        row("A1", rule=computed("the original is one"), outcome=computed("not_indicated")),
        row("A2", rule=computed("the modifier becomes one"), outcome=unknown("no published size")),
    ]
    constant = row("x", reference=reported("Article 51(2)"), source=reported("The Act"),
                   value=reported("1e25"), read=reported("secondary"))  # fmt: skip
    made = facts(tables={"applicability.rules": rules, "legal.constants": [constant]})
    files = applicabilitycard.render(made)
    assert set(files) == {"applicability.md", "applicability.json"}
    text = files["applicability.md"].decode()
    assert "not indicated" in text
    assert "unknown (no published size)" in text
    assert "confirm with counsel" in text


@pytest.mark.parametrize("kind", ["md", "html", "json"])
def test_a_difference_is_named_by_its_fact(kind: str) -> None:
    """What check C14 tells a reader about a document that was edited."""
    made = facts({"model.params_total": computed(134_515_008, unit="parameters")})
    name = f"model-card.oecd.{kind}"
    right = render_all(made)[name]
    old, new = (b"134515008", b"999") if kind == "json" else (b"134.5 million", b"999 million")
    said = first_difference(name, right, right.replace(old, new))
    assert said.startswith("model.params_total: ")
    assert "999" in said
