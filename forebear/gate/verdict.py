"""The verdict: a pure function of measured runs and settings.

Fails closed. Not measured, not paired, not comparable, too few items, errors, unparsed answers:
each makes a pair INCONCLUSIVE, and INCONCLUSIVE blocks like FAIL. Only binary values are decided
here; a graded value is INCONCLUSIVE until its own test is built.

Source: evaluation page, section 11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from forebear.errors import ConfigError
from forebear.formats import strictjson
from forebear.gate.runs import Run, TaskRun
from forebear.gate.settings import GateSettings, Requirement
from forebear.gate.statistics import (
    holm,
    items_needed,
    mcnemar_worse,
    tango_lower,
)

GATE_SCHEMA = "forebear/gate/v1"
PASS, FAIL, INCONCLUSIVE, SMOKE = "PASS", "FAIL", "INCONCLUSIVE", "SMOKE"


@dataclass(slots=True)
class Pair:
    """One task compared with one reference; losses and gains are from the candidate's view."""

    task: str
    reference: str
    n: int = 0
    losses: int = 0
    gains: int = 0
    p: float | None = None
    p_holm: float | None = None
    lower: float | None = None
    verdict: str = INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    gained: list[str] = field(default_factory=list)

    @property
    def delta(self) -> float | None:
        """Candidate minus reference, negative when worse; ``None`` when not measured."""
        return (self.gains - self.losses) / self.n if self.n else None


def decide(candidate: Run, references: Sequence[Run], settings: GateSettings) -> dict[str, Any]:
    """The gate's verdict as the value of ``gate.json``.

    Args:
        candidate: the run that wants to be released.
        references: runs to compare with; ``vs`` in the settings names them.
        settings: margins, requirements, profile.

    Raises:
        ConfigError: the settings gate nothing, or no previous release is given and none denied.
    """
    _require_settings(settings, references)
    pairs = _gating_pairs(candidate, references, settings)
    tested = [pair for pair in pairs if pair.p is not None]
    for pair, adjusted in zip(tested, holm([pair.p or 0.0 for pair in tested]), strict=True):
        pair.p_holm = adjusted
    for pair in pairs:
        _judge(pair, settings)
    verdict = _overall(pairs, settings)
    return {
        "schema": GATE_SCHEMA,
        "candidate": candidate.name,
        "candidate_tree": candidate.tree,
        "profile": settings.profile,
        "label": settings.label(),
        "alpha": settings.alpha,
        "first_release": settings.first_release,
        "references": [
            {"name": run.name, "tree": run.tree, "run_sha256": run.run_sha256} for run in references
        ],
        "pairs": [_pair_value(pair, settings) for pair in pairs],
        "limits": [],
        "waivers": [],
        "verdict": verdict,
        "params_sha256": hashlib.sha256(
            strictjson.canonical(settings.model_dump(mode="json"))
        ).hexdigest(),
        "inputs": [
            {"path": f"{run.name}/{path}", "sha256": digest}
            for run in (candidate, *references)
            for path, digest in run.inputs
        ],
    }


def _require_settings(settings: GateSettings, references: Sequence[Run]) -> None:
    if not settings.margins and not settings.required:
        raise ConfigError(
            "names no task, so the gate would pass anything",
            where="params.yaml: eval",
            fix="set eval.required or eval.margins",
        )
    for task, requirement in settings.required.items():
        if requirement.min_gain is None and requirement.min_delta is None:
            raise ConfigError(
                "requires nothing",
                where=f"params.yaml: eval.required.{task}",
                fix="set min_gain (of the lower bound) or min_delta (of the difference)",
            )
    for task, margin in settings.margins.items():
        if not 0 < margin < 1:
            raise ConfigError(
                f"{margin:g} is no margin between 0 and 1",
                where=f"params.yaml: eval.margins.{task}",
            )
    has_previous = any(run.name == "previous" for run in references)
    if settings.first_release == has_previous:
        raise ConfigError(
            "a previous release exists" if has_previous else "there is no previous release",
            where="params.yaml: eval.first_release",
            fix=f"set it to {'false' if has_previous else 'true'}",
        )


def _gating_pairs(candidate: Run, references: Sequence[Run], settings: GateSettings) -> list[Pair]:
    by_name = {run.name: run for run in references}
    wanted = {(task, run.name) for task in settings.margins for run in references}
    wanted |= {(task, rule.vs) for task, rule in settings.required.items()}
    return [
        make_pair(candidate, by_name.get(name), name, task, settings)
        for task, name in sorted(wanted)
    ]


def make_pair(
    candidate: Run, reference: Run | None, name: str, task: str, settings: GateSettings
) -> Pair:
    """One task of two runs, paired by item; reasons say why it cannot be judged, if it cannot."""
    pair = Pair(task, name)
    if reference is None:
        pair.reasons.append(f"there is no run named '{name}'")
        return pair
    ours, theirs = candidate.tasks.get(task), reference.tasks.get(task)
    for run, measured in ((candidate, ours), (reference, theirs)):
        if measured is None:
            pair.reasons.append(f"'{run.name}' was not measured on it")
    if ours is None or theirs is None:
        return pair
    pair.reasons += _incomparable(ours, theirs) + _unfit(ours, theirs, settings)
    if not pair.reasons:
        _count(pair, ours, theirs)
    return pair


def _incomparable(ours: TaskRun, theirs: TaskRun) -> list[str]:
    if ours.comparable_key != theirs.comparable_key:
        names = sorted(ours.identity.keys() | theirs.identity.keys())
        moved = [
            key
            for key in names
            if ours.identity.get(key, _MISSING) != theirs.identity.get(key, _MISSING)
        ]
        return [f"not comparable: {', '.join(moved)} differ"]
    if ours.items.keys() != theirs.items.keys():
        odd = sorted(ours.items.keys() ^ theirs.items.keys())
        return [f"{len(odd)} item(s) stand in one run alone, the first is '{odd[0][:60]}'"]
    changed = [
        k for k, item in ours.items.items() if item.item_sha256 != theirs.items[k].item_sha256
    ]
    return [f"{len(changed)} item(s) differ in content"] if changed else []


_MISSING = object()


def _unfit(ours: TaskRun, theirs: TaskRun, settings: GateSettings) -> list[str]:
    reasons = []
    n = len(ours.items)
    if n < settings.min_items:
        reasons.append(f"{n} items, at least {settings.min_items} are needed")
    for side, run in (("candidate", ours), ("reference", theirs)):
        values = [item.value for item in run.items.values()]
        errors = values.count(None)
        if errors > settings.max_errors:
            reasons.append(f"{errors} item(s) of the {side} ended in an error")
        if any(value not in (None, 0.0, 1.0) for value in values):
            reasons.append(f"the {side} has graded values, which this gate cannot test yet")
    unparsed = sum("unparsed" in item.flags for item in ours.items.values())
    if n and unparsed / n > settings.max_unparsed:
        reasons.append(
            f"{unparsed / n:.1%} of the candidate's answers could not be read, "
            f"at most {settings.max_unparsed:.1%} may be"
        )
    return reasons


def _count(pair: Pair, ours: TaskRun, theirs: TaskRun) -> None:
    better = 1.0 if ours.direction == "up" else 0.0
    for key in sorted(ours.items):
        mine, other = ours.items[key].value, theirs.items[key].value
        if mine is None or other is None:
            continue
        pair.n += 1
        if mine != other:
            (pair.gained if mine == better else pair.lost).append(key)
    if not pair.n:
        pair.reasons.append("no item was scored in both runs")
        return
    pair.losses, pair.gains = len(pair.lost), len(pair.gained)
    pair.p = mcnemar_worse(pair.losses, pair.gains)
    pair.lower = tango_lower(pair.losses, pair.gains, pair.n)


def _judge(pair: Pair, settings: GateSettings) -> None:
    """Sets the pair's verdict and says in words what decided it."""
    if pair.delta is None or pair.lower is None or pair.p_holm is None:
        return
    margin = settings.margins.get(pair.task)
    if pair.p_holm <= settings.alpha:
        pair.reasons.append(f"worse: adjusted p {pair.p_holm:.4f} ≤ {settings.alpha:g}")
        pair.verdict = FAIL
    if margin is not None and pair.delta < -margin:
        pair.reasons.append(f"drops by {-pair.delta:.4f}, over the margin of {margin:g}")
        pair.verdict = FAIL
    if pair.verdict == FAIL:
        return
    if margin is not None and pair.lower < -margin:
        pair.reasons.append(_short_of(pair, margin))
    rule = settings.required.get(pair.task)
    if rule is not None and rule.vs == pair.reference:
        pair.reasons += _gain_not_shown(pair, rule)
    if not pair.reasons:
        pair.verdict = PASS


def _short_of(pair: Pair, margin: float) -> str:
    text = f"a drop of {-(pair.lower or 0.0):.4f} cannot be ruled out, the margin is {margin:g}"
    discordance = (pair.losses + pair.gains) / pair.n
    if not discordance:
        return text
    return f"{text}; about {items_needed(discordance, margin)} items would be needed"


def _gain_not_shown(pair: Pair, rule: Requirement) -> list[str]:
    reasons = []
    lower, delta = pair.lower or 0.0, pair.delta or 0.0
    if rule.min_gain is not None and not lower > rule.min_gain:
        reasons.append(
            f"required gain not shown: lower bound {lower:+.4f} must exceed {rule.min_gain:g}"
        )
    if rule.min_delta is not None and not delta >= rule.min_delta:
        reasons.append(
            f"required gain not shown: {delta:+.4f}, at least {rule.min_delta:+g} wanted"
        )
    return reasons


def _overall(pairs: Sequence[Pair], settings: GateSettings) -> str:
    if settings.profile == "smoke":
        return SMOKE
    verdicts = {pair.verdict for pair in pairs}
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts == {PASS} else INCONCLUSIVE


def _pair_value(pair: Pair, settings: GateSettings) -> dict[str, Any]:
    rule = settings.required.get(pair.task)
    return {
        "task": pair.task,
        "metric": "acc",
        "reference": pair.reference,
        "n": pair.n,
        "b": pair.losses,
        "c": pair.gains,
        "delta": pair.delta,
        "lower": pair.lower,
        "p": pair.p,
        "p_holm": pair.p_holm,
        "margin": settings.margins.get(pair.task),
        "required": rule.model_dump() if rule and rule.vs == pair.reference else None,
        "verdict": pair.verdict,
        "reasons": pair.reasons,
    }
