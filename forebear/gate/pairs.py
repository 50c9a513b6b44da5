"""One metric of the candidate beside one reference: whether they may be compared, and the figures.

Says why a pair cannot decide; what it decides stands in ``verdict``.

Source: evaluation page, sections 11 and 12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.errors import FormatError
from forebear.gate.fitness import is_error, unfit, unparsed_share
from forebear.gate.paired import Paired, pair_items
from forebear.gate.runs import Run, TaskRun
from forebear.gate.scores import resampling_key
from forebear.gate.settings import GateSettings, Requirement
from forebear.gate.statistics import wilson

INCONCLUSIVE = "INCONCLUSIVE"
GOLDEN = "contaminated golden set"  # a reason that begins so can never be waived
_MISSING = object()


@dataclass(slots=True)
class Pair:
    """One metric of one task compared with one reference, from the candidate's view.

    Attributes:
        found: the figures; None where the runs cannot be compared.
        contaminated: whether golden items stand in the training texts: the pair fails.
        verdict: PASS, FAIL or INCONCLUSIVE.
        reasons: what keeps the pair from passing.
        notes: what a reader should know; decides nothing.
    """

    task: str
    metric: str
    reference: str
    margin: float | None = None
    rule: Requirement | None = None
    found: Paired | None = None
    contaminated: bool = False
    p_holm: float | None = None
    verdict: str = INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def entry(self) -> dict[str, Any]:
        """How it stands in ``gate.json``."""
        return {
            "task": self.task,
            "metric": self.metric,
            "reference": self.reference,
            **figures(self.found),
            "p_holm": self.p_holm,
            "margin": self.margin,
            "required": self.rule.model_dump() if self.rule else None,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "notes": self.notes,
        }


def figures(found: Paired | None) -> dict[str, Any]:
    """The figures of a pair as JSON; all null or 0 where there are none."""
    names = ("value", "reference_value", "delta", "lower", "p", "method")
    weighted = found.weighted if found else None
    return {
        "n": found.n if found else 0,
        "clusters": found.clusters if found else 0,
        "b": found.losses if found else None,
        "c": found.gains if found else None,
        **{name: getattr(found, name) if found else None for name in names},
        "weighted": {"delta": weighted.delta, "lower": weighted.lower} if weighted else None,
    }


def make_pair(  # noqa: PLR0913, PLR0917  # all that a pair rests on
    candidate: Run,
    reference: Run | None,
    name: str,
    task: str,
    metric: str,
    settings: GateSettings,
    contamination: Mapping[str, Any] | None = None,
) -> Pair:
    """The pair with its figures and with every reason why it cannot decide.

    Args:
        candidate: the run that wants to be released.
        reference: the run to compare with; None where there is none of that name.
        name: of the reference.
        task: to compare.
        metric: of the task.
        settings: what may be wrong, and how often.
        contamination: value of ``contamination.json``; None where nothing was searched.
    """
    pair = Pair(task, metric, name)
    if reference is None:
        pair.reasons.append(f"there is no run named '{name}'")
        return pair
    ours, theirs = candidate.tasks.get(task), reference.tasks.get(task)
    for run, measured in ((candidate, ours), (reference, theirs)):
        if measured is None:
            why = run.not_run.get(task)
            pair.reasons.append(
                f"'{run.name}' was not measured on it" + (f": {why}" if why else "")
            )
    if ours is None or theirs is None:
        return pair
    if ours.metric(metric) is None or theirs.metric(metric) is None:
        pair.reasons.append(f"{task} has no metric {metric[:40]!a}")
        return pair
    pair.reasons += incomparable(ours, theirs)
    if pair.reasons:
        return pair
    trees = (candidate.tree, reference.tree)
    pair.reasons += unfit(candidate, ours, settings, side="candidate", lineage=trees)
    pair.reasons += unfit(reference, theirs, settings, side="reference")
    if unparsed_share(theirs) > settings.max_unparsed:
        pair.notes.append("many of the reference's answers could not be read: a gain may be format")
    clean = _exclude_contaminated(pair, ours, settings, contamination)
    _compare(pair, ours, theirs, settings, clean)
    return pair


def incomparable(ours: TaskRun, theirs: TaskRun) -> list[str]:
    """Why two scores of a task must not be compared; empty when they may be."""
    if ours.comparable_key != theirs.comparable_key:
        names = sorted(ours.identity.keys() | theirs.identity.keys())
        moved = [
            key
            for key in names
            if ours.identity.get(key, _MISSING) != theirs.identity.get(key, _MISSING)
        ]
        return [f"not comparable: {', '.join(moved)} differ"]
    if ours.figures() != theirs.figures():
        return ["not comparable: the metrics differ"]
    if ours.items.keys() != theirs.items.keys():
        odd = sorted(ours.items.keys() ^ theirs.items.keys())
        return [f"{len(odd)} item(s) stand in one run alone, the first is '{odd[0][:60]}'"]
    changed = [
        k for k, item in ours.items.items() if item.item_sha256 != theirs.items[k].item_sha256
    ]
    return [f"{len(changed)} item(s) differ in content"] if changed else []


def _exclude_contaminated(
    pair: Pair, ours: TaskRun, settings: GateSettings, contamination: Mapping[str, Any] | None
) -> set[str]:
    """Ids of the items that may decide; says why the pair cannot decide, if so."""
    ids = set(ours.items)
    rules = settings.contamination
    if rules is None:
        return ids
    sets = (contamination or {}).get("sets", {})
    found = sets.get(pair.task)
    if found is None or not found.get("checked", True):
        why = f": {found['reason']}" if found and found.get("reason") else ""
        pair.reasons.append(f"the training texts were not searched for its items{why}")
        return ids
    seen = ids & {str(one) for one in found["all"]}
    golden = bool(found.get("golden")) or str(ours.identity.get("source", "")).startswith("golden/")
    allowed = rules.allowed(pair.task, golden=golden)
    if not ids or len(seen) / len(ids) <= allowed:
        if seen:
            pair.notes.append(f"{len(seen)} contaminated item(s) left out")
        return ids - seen
    low, high = wilson(len(seen), len(ids))
    pair.contaminated = golden
    pair.reasons.append(
        f"{GOLDEN if golden else 'contaminated'}: {len(seen)} of {len(ids)} items stand in the "
        f"training texts ({low:.1%} to {high:.1%}), at most {allowed:.1%} may{_first_leaf(found)}"
    )
    return ids


def _first_leaf(found: Mapping[str, Any]) -> str:
    """Where the first of them stands: the ledger's leaf, or the document where keys are salted."""
    first = next(iter(found.get("ids") or ()), None)
    if first is None:
        return ""
    leaf, document = first.get("leaf"), first.get("document")
    where = f"ledger leaf {leaf}" if leaf else f"document {document}"
    return f"; '{str(first.get('id'))[:60]}' in {where}"


def _compare(
    pair: Pair, ours: TaskRun, theirs: TaskRun, settings: GateSettings, clean: set[str]
) -> None:
    metric = ours.metric(pair.metric)
    both = [
        name
        for name in sorted(clean)
        if not is_error(ours.items[name]) and not is_error(theirs.items[name])
    ]
    if not both or metric is None:
        pair.reasons.append("no item was scored in both runs")
        return
    found = pair_items(
        [ours.items[name] for name in both],
        [theirs.items[name] for name in both],
        metric,
        key=resampling_key(settings.resampling_seed, pair.task, pair.metric),
        draws=settings.draws,
        strata=ours.strata,
    )
    if isinstance(found, str):
        pair.reasons.append(found)
        return
    _require_finite(pair, found)
    pair.found = found
    if found.n < settings.min_items:
        pair.reasons.append(f"{found.n} items, at least {settings.min_items} are needed")


def _require_finite(pair: Pair, found: Paired) -> None:
    """Refuses a figure that is no number before it is compared with anything: NaN passes every <.

    Raises:
        FormatError: the task, metric and figure at fault.
    """
    for name in ("value", "reference_value", "delta", "lower", "p"):
        if not math.isfinite(getattr(found, name)):
            raise FormatError(
                f"{name} is no finite number", where=f"{pair.task}.{pair.metric}: {pair.reference}"
            )
