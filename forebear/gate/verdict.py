"""The verdict: a pure function of measured runs and settings.

Fails closed. Not measured, not paired, not comparable, too few items, errors, unparsed answers, an
uncalibrated judge, contamination: each makes a pair INCONCLUSIVE or worse, and INCONCLUSIVE blocks
like FAIL. Passing needs every pair and every limit, so passing needs no correction; failing by test
is corrected over all pairs that decide.

Source: evaluation page, section 11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from forebear.formats import strictjson
from forebear.gate.gating import Wanted, metric_of, require_settings, wanted_pairs
from forebear.gate.limits import Limit, judge_limits
from forebear.gate.pairs import INCONCLUSIVE, Pair, make_pair
from forebear.gate.runs import Run
from forebear.gate.settings import GateSettings
from forebear.gate.statistics import holm, items_needed

GATE_SCHEMA = "forebear/gate/v2"
PASS, FAIL, SMOKE = "PASS", "FAIL", "SMOKE"
DIGITS = 12  # the last bits of a logarithm differ between machines


def pair_name(pair: Mapping[str, Any]) -> str:
    """What one entry of ``pairs`` is called; the metric is named unless it is plain accuracy."""
    metric = pair.get("metric", "acc")
    task = pair.get("task") if metric == "acc" else f"{pair.get('task')}.{metric}"
    return f"{task} against {pair.get('reference', pair.get('vs'))}"


def decide(
    candidate: Run,
    references: Sequence[Run],
    settings: GateSettings,
    contamination: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The gate's verdict as the value of ``gate.json``.

    Args:
        candidate: the run that wants to be released.
        references: runs to compare with; ``vs`` in the settings names them.
        settings: margins, requirements, limits, profile.
        contamination: value of ``contamination.json``; None where nothing was searched.

    Raises:
        ConfigError: the settings gate nothing, contradict themselves, or no previous release is
            given and none denied.
        FormatError: a figure is no finite number.
    """
    require_settings(settings, references)
    wanted = wanted_pairs(candidate, references, settings)
    pairs = _make_pairs(candidate, references, settings, contamination, wanted)
    limits = judge_limits(candidate, settings)
    value: dict[str, Any] = rounded(
        {
            "schema": GATE_SCHEMA,
            "candidate": candidate.name,
            "candidate_tree": candidate.tree,
            "profile": settings.profile,
            "label": settings.label(_widest(wanted, (candidate, *references))),
            "alpha": settings.alpha,
            "first_release": settings.first_release,
            "references": [
                {"name": run.name, "tree": run.tree, "run_sha256": run.run_sha256}
                for run in references
            ],
            "pairs": [pair.entry() for pair in pairs],
            "limits": [limit.entry() for limit in limits],
            "not_run": dict(candidate.not_run),
            "waivers": [],
            "verdict": overall(pairs, limits, settings),
            "settings": settings.model_dump(mode="json"),
            "params_sha256": settings_digest(settings),
            "contamination_sha256": None
            if contamination is None
            else hashlib.sha256(strictjson.dumps(dict(contamination))).hexdigest(),
            "inputs": [
                {"path": f"{run.name}/{path}", "sha256": digest}
                for run in (candidate, *references)
                for path, digest in run.inputs
            ],
        }
    )
    return value


def settings_digest(settings: GateSettings) -> str:
    """Digest of the settings that a verdict rests on."""
    return hashlib.sha256(strictjson.canonical(settings.model_dump(mode="json"))).hexdigest()


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """The value with every fraction rounded, so that it is the same on every machine."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one, digits) for one in value]
    return value


def _make_pairs(
    candidate: Run,
    references: Sequence[Run],
    settings: GateSettings,
    contamination: Mapping[str, Any] | None,
    wanted: Sequence[Wanted],
) -> list[Pair]:
    by_name = {run.name: run for run in references}
    pairs = []
    for one in wanted:
        reference = by_name.get(one.reference)
        pair = make_pair(
            candidate, reference, one.reference, one.task, one.metric, settings, contamination
        )
        pair.margin, pair.rule = one.margin, one.rule
        pairs.append(pair)
    judge_pairs(pairs, settings)
    return pairs


def judge_pairs(pairs: Sequence[Pair], settings: GateSettings) -> None:
    """Gives each pair its adjusted p and its verdict; pairs with reasons against them stay so."""
    tested = [pair for pair in pairs if pair.found is not None and not pair.reasons]
    p_values = [pair.found.p for pair in tested if pair.found is not None]
    for pair, adjusted in zip(tested, holm(p_values), strict=True):
        pair.p_holm = adjusted
    for pair in pairs:
        if pair.contaminated:
            pair.verdict = FAIL
        _judge(pair, settings)


def _judge(pair: Pair, settings: GateSettings) -> None:
    """Sets the pair's verdict and says in words what decided it."""
    found = pair.found
    if found is None or pair.p_holm is None:
        return
    if pair.p_holm <= settings.alpha:
        pair.reasons.append(
            f"worse: {_interval_text(pair)}, adjusted p {pair.p_holm:.4f} ≤ {settings.alpha:g}"
        )
        pair.verdict = FAIL
    drop = -min(found.delta, found.weighted.delta if found.weighted else found.delta)
    if pair.margin is not None and drop > pair.margin:
        pair.reasons.append(
            f"drops by {drop:.4f}, over the margin of {pair.margin:g} ({_interval_text(pair)}, "
            f"p {found.p:.4f})"
        )
        pair.verdict = FAIL
    if pair.verdict == FAIL:
        return
    lower = min(found.lower, found.weighted.lower if found.weighted else found.lower)
    if pair.margin is not None and lower < -pair.margin:
        pair.reasons.append(_short_of(pair, lower, pair.margin))
    pair.reasons += _gain_not_shown(pair, lower)
    if not pair.reasons:
        pair.verdict = PASS


def _interval_text(pair: Pair) -> str:
    if pair.found is None:
        return ""
    bounds = pair.found.interval
    return f"Δ {pair.found.delta:+.4f}, 95 % interval {bounds.low:+.4f} to {bounds.high:+.4f}"


def _short_of(pair: Pair, lower: float, margin: float) -> str:
    text = f"a drop of {-lower:.4f} cannot be ruled out, the margin is {margin:g}"
    if pair.found is None or pair.found.losses is None or not 0 < pair.found.discordance <= 1:
        return text
    needed = items_needed(pair.found.discordance, margin)
    return f"{text}; about {needed} items would be needed"


def _gain_not_shown(pair: Pair, lower: float) -> list[str]:
    rule, found, reasons = pair.rule, pair.found, []
    if rule is None or found is None:
        return []
    delta = min(found.delta, found.weighted.delta if found.weighted else found.delta)
    if rule.min_gain is not None and not lower > rule.min_gain:
        reasons.append(
            f"required gain not shown: lower bound {lower:+.4f} must exceed {rule.min_gain:g}"
        )
    if rule.min_delta is not None and not delta >= rule.min_delta:
        reasons.append(
            f"required gain not shown: {delta:+.4f}, at least {rule.min_delta:+g} wanted"
        )
    return reasons


def _widest(wanted: Sequence[Wanted], runs: Sequence[Run]) -> float:
    """The widest margin as a share of its metric's range."""
    widest = 0.0
    for one in wanted:
        metric = metric_of(runs, one.task, one.metric)
        if one.margin is not None:
            width = metric.high - metric.low if metric else 1.0
            widest = max(widest, one.margin / width)
    return widest


def overall(pairs: Sequence[Pair], limits: Sequence[Limit], settings: GateSettings) -> str:
    """The verdict on all pairs and limits together."""
    if settings.profile == "smoke":
        return SMOKE
    verdicts = {pair.verdict for pair in pairs} | {limit.verdict for limit in limits}
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts == {PASS} else INCONCLUSIVE
