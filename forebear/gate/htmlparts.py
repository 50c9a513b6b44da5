"""Parts of the report that need no verdict: scores, categories, judges, contamination, losses.

Each is a function from the stage's values to rows of plain text and figures; the template escapes
whatever stands in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from forebear.drawing import Bar, Bin, Mark, bars, reliability, tracks
from forebear.gate.settings import SAFETY_TASKS

Value = Mapping[str, Any]
# run name → task → item id → {prompt, answer, target}
Texts = Mapping[str, Mapping[str, Mapping[str, Value]]]

PER_TASK, IN_ALL, SHOWN_CHARACTERS = 5, 60, 1500
NONE = "–"
_USUAL = ("acc", "value", "mean", "score")
# Graded from 1 to 10: a mean of 1 is no share.
_GRADED = ("mt_bench",)
_FAULTS = ("unparsed_rate", "truncated_rate", "error_count")
# Fewer items are not worth splitting.
_SPLIT_FROM = 30
_FAMILIES = {"compare": "preference and grading suites", "classify": "safety suites"}


def name_of(row: Value) -> str:
    """Task as it must be called, and its metric where that says more than accuracy."""
    shown = str(row.get("shown_name") or row["task"])
    metric = str(row.get("metric", "acc"))
    return shown if metric in _USUAL or metric in shown else f"{shown} {metric}"


def figure(svg: str) -> Markup:
    """A figure of ours: its texts are escaped where they are drawn."""
    return Markup(svg)  # noqa: S704


def count(value: Any) -> str:
    """A whole number with thin spaces; a dash for none."""
    return NONE if value is None else f"{value:,}".replace(",", "\u2009")


def number(value: Any, *, share: bool = True) -> str:
    """A share in per cent, a figure of another unit with two decimals; a dash for none."""
    if value is None:
        return NONE
    shown = f"{value:.1%}".replace("%", "\u2009%") if share else f"{value:.2f}"
    return shown.replace("-", "\u2212")


def ends(interval: Value | None) -> tuple[float, float] | None:
    """Both ends of an interval; None when one is missing."""
    low, high = (interval or {}).get("low"), (interval or {}).get("high")
    return None if low is None or high is None else (float(low), float(high))


def _range(found: tuple[float, float] | None, *, share: bool = True) -> str:
    if found is None:
        return NONE
    low, high = (number(end, share=share) for end in found)
    return f"{low} – {high}".replace("\u2009% –", " –")


def is_share(task: str, found: Iterable[float | None]) -> bool:
    """Whether figures of a metric are shares: all within one, and no grades."""
    return task not in _GRADED and all(abs(one) <= 1 for one in found if one is not None)


def in_order(summaries: Mapping[str, Value], candidate: str) -> list[str]:
    """Names of the runs, the candidate's first."""
    return sorted(summaries, key=lambda name: (name != candidate, name))


def _records(
    summaries: Mapping[str, Value], candidate: str
) -> dict[str, dict[str, dict[str, Value]]]:
    """Records by task, metric and run."""
    found: dict[str, dict[str, dict[str, Value]]] = {}
    for run in in_order(summaries, candidate):
        for record in summaries[run]["records"]:
            metrics = found.setdefault(record["task"], {})
            metrics.setdefault(record["metric"], {})[run] = record
    return dict(sorted(found.items()))


def scores(summaries: Mapping[str, Value], candidate: str) -> list[dict[str, Any]]:
    """A group for every task, a row for every metric, a cell for every run."""
    runs = in_order(summaries, candidate)
    groups = []
    for task, metrics in _records(summaries, candidate).items():
        first = next(iter(next(iter(metrics.values())).values()))
        groups.append(
            {
                "name": str(first.get("shown_name") or task),
                "setting": str(first.get("setting") or ""),
                "rows": [_score(task, found, runs, candidate) for found in metrics.values()],
            }
        )
    return groups


def _score(
    task: str, found: Mapping[str, Value], runs: Sequence[str], candidate: str
) -> dict[str, Any]:
    """One metric: its cells, and all runs on one axis."""
    first = next(iter(found.values()))
    intervals = {run: ends(record.get("interval")) for run, record in found.items()}
    figures = [record["value"] for record in found.values()]
    figures += [end for one in intervals.values() for end in one or ()]
    share = is_share(task, figures)
    cells, marks = [], []
    for run in runs:
        value, interval = found.get(run, {}).get("value"), intervals.get(run)
        cells.append(
            {"value": number(value, share=share), "interval": _range(interval, share=share)}
        )
        if value is not None:
            kind = "ours" if run == candidate else "theirs"
            marks.append(Mark(run, float(value), interval, kind))
    reasons = [record["reason"] for record in found.values() if record.get("reason")]
    return {
        "metric": str(first["metric"]),
        "arrow": "↓" if first["direction"] == "down" else "↑",
        "cells": cells,
        "track": figure(tracks(marks, _span(figures, share=share))) if marks else "",
        "n": _of(first),
        "reasons": list(dict.fromkeys(map(str, reasons))),
    }


def _span(figures: Sequence[float | None], *, share: bool) -> tuple[float, float]:
    """Ends of the axis that all values of a metric fit: a share's, a grade's, or their own."""
    known = [0.0, *(float(one) for one in figures if one is not None)]
    low, high = min(known), max(known)
    if low >= 0:
        tops = (1, 10, 100) if share else (10, 100)
        return 0.0, next((float(top) for top in tops if high <= top), high)
    return min(low, -1.0), max(high, 1.0)


def _of(record: Value) -> str:
    n, population = record["n"], record.get("n_population")
    return count(n) if population in {None, n} else f"{count(n)} of {count(population)}"


def answers(summaries: Mapping[str, Value], candidate: str) -> list[dict[str, Any]]:
    """Tasks whose answers did not all come out whole: unread, cut off, or ended in an error."""
    runs = in_order(summaries, candidate)
    rows = []
    for task, metrics in _records(summaries, candidate).items():
        found = next(iter(metrics.values()))
        cells = []
        for run in runs:
            record = found.get(run, {})
            faults = [record.get(key) or 0 for key in _FAULTS]
            shown = [number(one) if one else NONE for one in faults[:2]]
            cells.append([*shown, count(faults[2]) if faults[2] else NONE])
        if any(cell != NONE for one in cells for cell in one):
            first = next(iter(found.values()))
            rows.append({"name": str(first.get("shown_name") or task), "cells": cells})
    return rows


def categories(
    summaries: Mapping[str, Value], candidate: str, reference: str | None
) -> list[dict[str, Any]]:
    """Bars by category of every task's main metric, where it is a share of items enough."""
    shown = []
    for metrics in _records(summaries, candidate).values():
        by_run = next(iter(metrics.values()))
        mine = by_run.get(candidate, {})
        slices = mine.get("slices") or ()
        if len(slices) < 2 or sum(one["n"] for one in slices) < _SPLIT_FROM:
            continue
        if not all(_within_one(one["value"]) for one in slices):
            continue
        theirs = by_run.get(reference or "", {}).get("slices") or ()
        other = {one["stratum"]: one for one in theirs}
        rows = [
            Bar(
                str(one["stratum"]),
                one["n"],
                _bar(one),
                _bar(other[one["stratum"]]) if one["stratum"] in other else None,
            )
            for one in slices
        ]
        name = name_of(mine)
        drawn = bars(
            rows,
            name=f"categories-{name}",
            title=f"{name} by category",
            sides=(candidate, reference or ""),
        )
        shown.append({"name": name, "figure": figure(drawn)})
    return shown


def _within_one(value: Any) -> bool:
    return value is not None and 0 <= value <= 1


def _bar(one: Value) -> tuple[float, float | None, float | None]:
    low, high = ends(one.get("interval")) or (None, None)
    return (float(one["value"]) if _within_one(one["value"]) else 0.0, low, high)


def judges(calibration: Mapping[str, Value], candidate: str) -> list[dict[str, Any]]:
    """Every judge once, as the candidate's run calibrated it, else the first that did."""
    found: dict[str, Value] = {}
    for run in in_order(calibration, candidate):
        for name, judge in (calibration[run].get("judges") or {}).items():
            found.setdefault(name, judge)
    names: dict[str, list[str]] = {}
    for name in sorted(found):
        # one judge may serve under several names
        names.setdefault(str(found[name].get("digest") or name), []).append(name)
    return [_judge(several, found[several[0]]) for several in names.values()]


def _judge(names: Sequence[str], judge: Value) -> dict[str, Any]:
    told = [str(judge[key]) for key in ("label", "kind", "model") if judge.get(key)]
    may, reasons = judge.get("may_gate") or {}, judge.get("reasons") or {}
    bins = [
        Bin(int(one["n"]), float(one["confidence"]), float(one["accuracy"]))
        for one in judge.get("bins") or ()
        if one["n"]
    ]
    name = str(judge.get("id") or names[0])
    title = f"Calibration of {name}"
    return {
        "name": f"{name} ({', '.join(names)})",
        "about": " · ".join(dict.fromkeys(told)),
        "digest": str(judge.get("digest") or ""),
        "uses": [
            {
                "use": _FAMILIES.get(use, use),
                "may": bool(may[use]),
                "reasons": [str(reason) for reason in reasons.get(use, ())],
            }
            for use in sorted(may)
        ],
        "figures": [_judge_row(key, one) for key, one in (judge.get("figures") or {}).items()],
        "curve": figure(reliability(bins, name=f"judge-{names[0]}", title=title)) if bins else "",
    }


def _judge_row(key: str, one: Value) -> dict[str, str]:
    ok = one.get("ok")
    interval = ends(one)

    def plain(value: Any) -> str:
        return NONE if value is None else f"{value:.3f}".replace("-", "\u2212")

    return {
        "name": key.replace("_", " "),
        "use": str(one.get("use") or NONE),
        "value": plain(one.get("value")),
        "interval": NONE if interval is None else f"{plain(interval[0])} – {plain(interval[1])}",
        "n": count(one.get("n")),
        "threshold": str(one.get("threshold") or "reported"),
        "ok": NONE if ok is None else ("● yes" if ok else "✕ no"),
    }


def contamination(value: Value | None) -> dict[str, Any] | None:
    """What was searched, and a row for every set."""
    if value is None:
        return None
    about = (
        f"{count(value.get('documents'))} training texts were searched for "
        f"{value.get('n', 13)}-grams of the measured items and for answers that follow their "
        f"question; an item counts at {value.get('min_overlap', 0.5):.0%} of its n-grams. "
        f"{str(value.get('unknown', '')).capitalize()}."
    )
    return {"about": about, "rows": [_set(task, one) for task, one in value["sets"].items()]}


def _set(task: str, one: Value) -> dict[str, Any]:
    found = one.get("scores") or {}
    share = is_share(task, found.values())
    scored = {key: number(found.get(key), share=share) for key in ("all", "clean", "contaminated")}
    return {
        "task": task,
        "reason": "" if one.get("checked", True) else str(one.get("reason") or "no reason given"),
        "n": count(one["n"]),
        "hits": count(one.get("n_contaminated", len(one.get("all", ())))),
        "rate": f"{number(one['rate'])} ({_range(ends(one.get('interval')))})",
        "max": number(one["max_rate"]),
        "scores": list(scored.values()),
        "ids": [
            {key: str(hit.get(key) or "") for key in ("id", "how", "role", "document", "leaf")}
            for hit in one.get("ids", ())
        ],
    }


def losses(comparison: Value, candidate: str, texts: Texts) -> list[dict[str, Any]]:
    """For every task and reference the items that got worse, with both answers."""
    groups: list[dict[str, Any]] = []
    left, done = IN_ALL, set()
    for row in comparison["tasks"]:
        key = (row["task"], row["reference"])
        lost = [str(one) for one in row.get("lost") or ()]
        if not lost or key in done:
            continue
        done.add(key)
        group: dict[str, Any] = {
            "name": f"{name_of(row)} against {row['reference']}",
            "count": f"{count(len(lost))} item(s)",
            "reference": str(row["reference"]),
            "withheld": "",
            "shown": [],
        }
        if row["task"] in SAFETY_TASKS:
            group["withheld"] = "Requests and answers of a safety suite are withheld."
        else:
            ours = texts.get(candidate, {}).get(row["task"], {})
            theirs = texts.get(str(row["reference"]), {}).get(row["task"], {})
            kept = [one for one in lost if one in ours and one in theirs]
            chosen = kept[: max(0, min(PER_TASK, left))]
            group["shown"] = [_loss(one, ours[one], theirs[one]) for one in chosen]
            left -= len(chosen)
            if not chosen:
                group["withheld"] = "No texts were kept." if not kept else "Not shown for length."
        groups.append(group)
    return groups


def _loss(item: str, ours: Value, theirs: Value) -> dict[str, str]:
    return {
        "id": item,
        "prompt": cut(ours.get("prompt")),
        "ours": cut(ours.get("answer")) or "(empty)",
        "theirs": cut(theirs.get("answer")) or "(empty)",
        "target": cut(ours.get("target")),
    }


def cut(text: Any) -> str:
    """A text, shortened."""
    shown = str(text or "")
    if len(shown) <= SHOWN_CHARACTERS:
        return shown
    return f"{shown[:SHOWN_CHARACTERS]}… ({len(shown) - SHOWN_CHARACTERS} more characters)"


def not_run(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every task with its reason, and the runs that lack it."""
    runs: dict[tuple[str, str], list[str]] = {}
    for run in sorted(found):
        for task, reason in sorted((found[run] or {}).items()):
            runs.setdefault((task, str(reason)), []).append(run)
    return [
        {"task": task, "reason": reason, "runs": names}
        for (task, reason), names in sorted(runs.items())
    ]
