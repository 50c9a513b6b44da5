"""What follows from the values alone: answers, licences, applicability, retention, limitations.

Everything here is a function of values that are in ``facts.json``, so a verifier that has them can
derive it once more; :func:`again` does. The ``method`` of such a value begins with ``rule``.

Source: compliance page, sections 3.1, 5, 10 and 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents import labels, licence_facts
from forebear.documents.applicability import MARKED, MOD, Applicability
from forebear.documents.declarations import CONDITION, missing_field
from forebear.documents.fields import ANSWERS, FIELDS
from forebear.documents.legal import LegalFile, load_legal
from forebear.documents.values import (
    Missing,
    Row,
    Tables,
    Value,
    Values,
    leaf_id,
    not_applicable,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RULE = "rule"
FAMILIES = {
    "llama": "decoder-only transformer, Llama family",
    "llama4": "decoder-only transformer with experts, Llama 4 family",
    "llama4_text": "decoder-only transformer with experts, Llama 4 family",
    "mistral": "decoder-only transformer, Mistral family",
    "ministral": "decoder-only transformer, Mistral family",
    "mistral4": "decoder-only transformer with experts, Mistral family",
    "qwen2": "decoder-only transformer, Qwen family",
    "qwen3": "decoder-only transformer, Qwen family",
    "qwen3_moe": "decoder-only transformer with experts, Qwen family",
    "phi3": "decoder-only transformer, Phi family",
    "gemma2": "decoder-only transformer, Gemma family",
    "gemma3_text": "decoder-only transformer, Gemma family",
    "gpt2": "decoder-only transformer, GPT-2 family",
    "gpt_neox": "decoder-only transformer, GPT-NeoX family",
    "deepseek_v3": "decoder-only transformer with experts, DeepSeek family",
}
_ANSWER_OF = {"third_party_private": "third_party", "own": "other"}
_MARKET, _RELEASED = "model.eu_market_date", "model.release_date"


def apply_rules(values: Values, tables: Tables, law: LegalFile | None = None) -> None:
    """Adds, or writes anew, all that follows from the other values."""
    law = law or load_legal()
    _add_modalities(values)
    _add_answers(values, tables)
    values["release.retention_until"] = _retention(values, law)
    _add_self_judging(tables)
    licence_facts.add(values, tables, law)
    labels.refresh(values, tables)
    tables["limit.found"] = tuple(_limits(values, tables))
    tables["legal.constants"] = law.rows()
    values["legal.version"] = law.rows()[0].cells["id"].model_copy(update={"value": law.version})
    _add_applicability(values, tables, law)


def again(leaves: Mapping[str, Value], law: LegalFile | None = None) -> dict[str, Value]:
    """Every derived value once more, by its id, from all leaves of the facts."""
    values, tables = _split(leaves)
    apply_rules(values, tables, law)
    found = {name: value for name, value in values.items() if _is_derived(value)}
    for table, rows in tables.items():
        for row in rows:
            found |= {
                leaf_id(table, row.key, column): value
                for column, value in row.cells.items()
                if _is_derived(value)
            }
    return found


def _is_derived(value: Value) -> bool:
    return value.kind == "computed" and (value.method or "").startswith(RULE)


def _split(leaves: Mapping[str, Value]) -> tuple[Values, Tables]:
    values: Values = {}
    rows: dict[str, dict[str, dict[str, Value]]] = {}
    for name, value in leaves.items():
        table, bracket, rest = name.partition("[")
        if not bracket:
            values[name] = value
            continue
        key, _, column = rest.rpartition("].")
        rows.setdefault(table, {}).setdefault(key, {})[column] = value
    tables = {
        table: tuple(Row(key=key, cells=cells) for key, cells in keyed.items())
        for table, keyed in rows.items()
    }
    return values, tables


def ruled(value: Any, rule: str, inputs: Sequence[str], **more: Any) -> Value:
    """A value that a rule gives; ``inputs`` are the ids of what it looked at."""
    return Value(
        kind="computed", value=value, method=f"{RULE} {rule}", inputs=tuple(inputs), **more
    )


# ── the model, the data ────────────────────────────────────────────────────────────────────────


def _add_modalities(values: Values) -> None:
    """Text in and out for a causal language model; not known for anything else."""
    name = str(values["model.architecture"].value)
    for way in ("in", "out"):
        values[f"model.modalities_{way}"] = (
            ruled(["text"], "modality by architecture", ("model.architecture",))
            if name.endswith("ForCausalLM")
            else unknown("the architecture does not say what it reads and writes")
        )


def _add_answers(values: Values, tables: Tables) -> None:
    """Yes or no for each kind of source, from the origins of the sets that were trained on."""
    origins: dict[str, str] = {}
    open_ones = []
    for row in tables.get("data.sets", ()):
        trained = row.cells["documents"].kind != "not_applicable"
        if not trained:
            continue
        name = leaf_id("data.sets", row.key, "origin")
        raw = row.cells["origin"].value
        if raw is None:
            open_ones.append(name)
        else:
            origins[name] = _ANSWER_OF.get(str(raw), str(raw))
    for answer in ANSWERS:
        found = [name for name, origin in origins.items() if origin == answer]
        if found:
            made = ruled(True, "answer by origin", found)  # noqa: FBT003  # the answer itself
        elif open_ones or not origins:
            made = unknown("the origin of a set is not declared")
        else:
            made = ruled(False, "answer by origin", tuple(origins))  # noqa: FBT003
        values[f"data.answers.{answer}"] = made


def _retention(values: Values, law: LegalFile) -> Value:
    """Ten years after the model was placed on the market, or released."""
    placed, released = values.get(_MARKET), values.get(_RELEASED)
    for name, value in ((_MARKET, placed), (_RELEASED, released)):
        if value is None or value.value in (None, "not_placed"):
            continue
        text = str(value.value)
        year, rest = int(text[:4]) + int(law.number("code.retention_years")), text[4:]
        until = f"{year}{'-02-28' if rest == '-02-29' else rest}"
        return ruled(until, "retention", (name,))
    return unknown("neither the day of the release nor of placing on the market is declared")


def _add_self_judging(tables: Tables) -> None:
    """Flags a judge that descends from what the model, or its teachers, descend from."""
    names = {
        leaf_id("model.ancestors", row.key, column): row.cells[column].value
        for row in tables.get("model.ancestors", ())
        for column in ("name", "digest")
    }
    ancestors = {str(value).lower() for value in names.values() if value is not None}
    for row in tables.get("eval.judges", ()):
        said = [row.cells[column].value for column in ("judge_lineage", "candidate_lineage")]
        own, candidate = ({str(one).lower() for one in found} if isinstance(found, list) else set()
                          for found in said)  # fmt: skip
        own.add(str(row.cells["model"].value).lower())
        inputs = [leaf_id("eval.judges", row.key, "model"), *names]
        shared = bool(own & (candidate | ancestors))
        row.cells["self_judging"] = ruled(shared, "self-judging", inputs)


# ── limitations ────────────────────────────────────────────────────────────────────────────────


def _limits(values: Values, tables: Tables) -> list[Row]:
    """Limitations that the evidence shows, each with the fact that shows it."""
    found: list[tuple[str, str, str]] = []
    if values["model.base.tuned"].value:
        found.append((
            "base_is_tuned", "the original is no base checkpoint: it had been instruction-tuned",
            "model.base.tuned",
        ))  # fmt: skip
    found += [
        (f"allowance:{row.key}", f"a rule of the pipeline was set aside: {row.cells['rule'].value}",
         leaf_id("limit.allowances", row.key, "rule"))
        for row in tables.get("limit.allowances", ())
    ]  # fmt: skip
    found += [
        (f"waiver:{row.key}", f"a fault of the evaluation was let pass: {row.key}",
         leaf_id("eval.waivers", row.key, "reason"))
        for row in tables.get("eval.waivers", ())
    ]  # fmt: skip
    found += [
        (f"not_run:{row.key}", f"was asked for and did not run: {row.key}",
         leaf_id("eval.not_run", row.key, "reason"))
        for row in tables.get("eval.not_run", ())
    ]  # fmt: skip
    forgot = values["train.forgetting"].value
    if isinstance(forgot, (int, float)) and forgot > 0:
        found.append((
            "forgetting", "the loss on general text rose during continued pre-training",
            "train.forgetting",
        ))  # fmt: skip
    intended = values["model.languages"].value if "model.languages" in values else None
    covered = set(values["model.base.languages"].value or ())  # type: ignore[arg-type]  # a list
    for code in intended if isinstance(intended, list) and covered else ():
        if str(code).partition("-")[0] not in covered:
            found.append((
                f"language:{code}", f"the publisher of the original does not name {code}",
                "model.base.languages",
            ))  # fmt: skip
    return [
        Row(key=key, cells={"text": ruled(text, "limitation", (name,))})
        for key, text, name in found
    ]


# ── applicability ──────────────────────────────────────────────────────────────────────────────


def _add_applicability(values: Values, tables: Tables, law: LegalFile) -> None:
    rules = Applicability(values, law)
    rows = []
    for rule in rules.rules.values():
        inputs = [name for name in rule.inputs if name in values]
        says = f"applicability {rule.id}"
        words = {True: "indicated", False: "not_indicated"}
        cells = {
            "rule": ruled(rule.condition, says, inputs),
            "outcome": unknown(rule.reason)
            if rule.outcome is None
            else ruled(words[rule.outcome], says, inputs),
            "close": ruled(rule.close, says, inputs),
            "reason": ruled(rule.reason, says, inputs),
            "effect": ruled(rule.effect, says, inputs),
        }
        rows.append(Row(key=rule.id, cells=cells))
    tables["applicability.rules"] = tuple(rows)
    used = [name for name in (*_looked_at(rules), "provider.role") if name in values]
    for document in MARKED:
        values[f"applicability.mark.{document}"] = ruled(
            rules.mark(document), f"applicability {document}", used
        )
    ratio = rules.ratio()
    parts = (MOD, "train.flop_base")
    values["applicability.ratio_value"] = (
        unknown("the compute of the original or of the modification is unknown")
        if ratio is None
        else ruled(
            float(ratio), "applicability ratio", parts, estimate=True,
            lower_bound=values[MOD].lower_bound,
        )
    )  # fmt: skip
    trained = [row.key for row in tables.get("train.stages", ())
               if row.cells["flop"].kind != "not_applicable"]  # fmt: skip
    values["applicability.ratio"] = ruled(
        rules.sentence(len(trained)), "applicability sentence", parts
    )
    values["applicability.deadline"] = (
        ruled(law.text("gpai.legacy_deadline"), "applicability A6", (_MARKET,))
        if rules.outcome("A6") is True
        else not_applicable("A6: the model was not on the market before the duties applied")
    )
    values["applicability.notify_days"] = (
        ruled(int(law.number("gpai.notify_days")), "applicability A4", ("train.flop_cumulative",))
        if rules.outcome("A4") is True
        else not_applicable("A4 is not indicated")
    )


def _looked_at(rules: Applicability) -> list[str]:
    found: dict[str, None] = {}
    for rule in rules.rules.values():
        found |= dict.fromkeys(rule.inputs)
    return list(found)


# ── declarations that some facts make necessary ────────────────────────────────────────────────


def conditional(values: Values, tables: Tables, missing: Sequence[Missing]) -> list[Missing]:
    """Fields that are required because of other facts, and are not declared."""
    rules = {row.key: row.cells["outcome"].value for row in tables["applicability.rules"]}
    capped = values["licences.user_cap"].value is True
    enabled = values.get("annex_iv.enabled")
    reasons = {
        "systemic": "A4 is indicated" if rules["A4"] == "indicated" else "",
        "representative": "A8 is indicated" if rules["A8"] == "indicated" else "",
        "user_cap": "a licence has a cap on users" if capped else "",
        "annex_iv": "annex_iv.enabled is true" if enabled and enabled.value is True else "",
    }
    named = {one.field for one in missing}
    return [
        missing_field(field, "C101", f"{CONDITION}{reasons[field.when]}")
        for field in FIELDS
        if reasons.get(field.when)
        and field.id not in named
        and values.get(field.fact, unknown("absent")).value is None
    ]
