"""The report of a verdict: one page, inline figures, no script and nothing from elsewhere.

A pure function of what the eval stage knows, so equal inputs give equal bytes. Every text is
escaped by the template. Texts of safety suites are withheld: how many items were lost is shown,
which requests they were is not.

Source: evaluation page, section 13.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from forebear.drawing import STYLE, Difference, Words, forest
from forebear.drawing.marks import printable
from forebear.gate import htmlparts as parts
from forebear.gate.htmlparts import NONE, Texts, Value

_WORDS = {
    "PASS": "● Pass",
    "PASS_WITH_WAIVERS": "● Pass with waivers",
    "FAIL": "✕ Fail",
    "INCONCLUSIVE": "△ Inconclusive: blocked",
    "SMOKE": "□ Smoke run: decides nothing",
}
_REPORT = "REPORT"
# task → as it must be called
Names = Mapping[str, str]
_LEAST_P = 0.0001


def render_report(  # noqa: PLR0913  # one argument per file that the page shows
    *,
    gate: Value,
    comparison: Value,
    summaries: Mapping[str, Value],
    calibration: Mapping[str, Value] | None = None,
    contamination: Value | None = None,
    texts: Texts | None = None,
) -> bytes:
    """The page.

    Args:
        gate: value of ``gate.json``.
        comparison: value of ``comparison.json``.
        summaries: value of each run's ``summary.json``, by the run's name.
        calibration: of each run's ``calibration.json``, by the run's name.
        contamination: value of ``contamination.json``.
        texts: prompts and answers of the runs, for the items that got worse.
    """
    candidate = str(gate["candidate"])
    rows = _rows(gate, comparison)
    references = [str(one["name"]) for one in gate["references"]]
    names = {str(row["task"]): str(row.get("shown_name") or row["task"]) for row in rows}
    context = {
        "figure_style": Markup(STYLE),  # noqa: S704  # ours, and no text in it
        "candidate": candidate,
        "verdict": str(gate["verdict"]),
        "verdict_words": _WORDS.get(str(gate["verdict"]), str(gate["verdict"])),
        "label": str(gate.get("label") or ""),
        "summary": _summary(gate, references),
        "blocking": _blocking(gate, names),
        "panels": _panels(rows, references),
        "pairs": [_pair(one, names) for one in gate["pairs"]],
        "limits": [_limit(one, names) for one in gate.get("limits", ())],
        "scores": parts.scores(summaries, candidate),
        "runs": parts.in_order(summaries, candidate),
        "answers": parts.answers(summaries, candidate),
        "categories": parts.categories(summaries, candidate, references[0] if references else None),
        "first_reference": references[0] if references else "",
        "judges": parts.judges(calibration or {}, candidate),
        "contamination": parts.contamination(contamination),
        "waivers": [_waiver(one) for one in gate.get("waivers", ())],
        "not_run": parts.not_run(comparison.get("not_run") or {}),
        "losses": parts.losses(comparison, candidate, texts or {}),
        "per_task": parts.PER_TASK,
        "identities": _identities(gate),
        "params": str(gate.get("params_sha256", "")),
    }
    return _template().render(context).encode()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forebear.gate"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _shown(value: Any) -> Any:
    """What the template may show: figures as they are, texts without control characters."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def forest_svg(gate: Value, comparison: Value, *, narrow: bool = False) -> str:
    """The forest plot of the shares alone, with its own style, for another page."""
    rows = [row for row in _rows(gate, comparison) if _is_share(row)]
    return forest(
        [_difference(row, str(row["reference"])) for row in rows], narrow=narrow, alone=True
    )


def plots(gate: Value, comparison: Value, summaries: Mapping[str, Value]) -> dict[str, bytes]:
    """Files for ``dvc plots``, by name: differences, scores, and scores by category."""
    differences = [
        {
            "pair": f"{parts.name_of(row)} against {row['reference']}",
            "delta": row["delta"],
            "low": (row["interval"] or {}).get("low"),
            "high": (row["interval"] or {}).get("high"),
            "lower": row["lower"],
            "margin": row["margin"],
            "verdict": row["verdict"],
        }
        for row in _rows(gate, comparison)
    ]
    scores, categories = [], []
    for run in sorted(summaries):
        for record in summaries[run]["records"]:
            name = f"{record['task']} {record['metric']}"
            interval = record.get("interval") or {}
            ends = {"low": interval.get("low"), "high": interval.get("high")}
            scores.append({"task": name, "run": run, "value": record["value"], **ends})
            categories += [
                {"category": f"{name} {one['stratum']}", "run": run, "value": one["value"]}
                for one in record.get("slices") or ()
            ]
    return {
        "differences.csv": _csv(
            ("pair", "delta", "low", "high", "lower", "margin", "verdict"), differences
        ),
        "scores.csv": _csv(("task", "run", "value", "low", "high"), scores),
        "categories.csv": _csv(("category", "run", "value"), categories),
    }


def _csv(fields: Sequence[str], rows: Iterable[Value]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _rows(gate: Value, comparison: Value) -> list[dict[str, Any]]:
    """Rows of the comparison, each with the verdict and the margin of its pair."""
    judged = {
        (one["task"], one.get("metric", "acc"), one["reference"]): one for one in gate["pairs"]
    }
    rows = []
    for row in comparison["tasks"]:
        pair = judged.get((row["task"], row.get("metric", "acc"), row["reference"]), {})
        wanted = pair.get("required") or {}
        rows.append(
            {
                **row,
                "margin": pair.get("margin"),
                "wanted": wanted.get("min_delta")
                if wanted.get("min_delta") is not None
                else wanted.get("min_gain"),
                "verdict": str(pair.get("verdict", _REPORT)),
            }
        )
    return rows


def _is_share(row: Value) -> bool:
    """Whether the row's figures are shares, which are shown in points of a hundred."""
    scores = [(one or {}).get("value") for one in (row.get("scores") or {}).values()]
    ends = parts.ends(row["interval"]) or ()
    return parts.is_share(str(row["task"]), [row["delta"], *ends, *scores])


def _panels(rows: Sequence[Value], references: Sequence[str]) -> list[dict[str, Any]]:
    """A plot for every reference and unit; what is only reported and has no value is named."""
    panels = []
    for number, reference in enumerate(references):
        against = [row for row in rows if row["reference"] == reference]
        unmeasured = [row for row in against if row["delta"] is None and row["verdict"] == _REPORT]
        drawn = [row for row in against if row not in unmeasured]
        for share, unit in ((True, "points"), (False, "the metric's own unit")):
            chosen = [_difference(row, note="") for row in drawn if _is_share(row) is share]
            if not chosen and (not share or drawn):
                continue
            name = f"forest-{number}-{'points' if share else 'units'}"
            title = f"Differences against {reference}"
            panels.append(
                {
                    "title": title if share else f"{title}, in other units",
                    "wide": parts.figure(forest(chosen, Words(name, title, unit))),
                    "narrow": parts.figure(
                        forest(chosen, Words(f"{name}-narrow", title, unit), narrow=True)
                    ),
                    "missing": [parts.name_of(row) for row in unmeasured] if share else [],
                }
            )
    return panels


def _difference(row: Value, note: str) -> Difference:
    scale = 100.0 if _is_share(row) else 1.0
    interval = row["interval"] or {}

    def scaled(value: Any) -> float | None:
        return None if value is None else float(value) * scale

    return Difference(
        label=parts.name_of(row),
        note=note,
        delta=scaled(row["delta"]),
        low=scaled(interval.get("low")),
        high=scaled(interval.get("high")),
        bound=scaled(row["lower"]),
        margin=scaled(row["margin"]),
        wanted=scaled(row["wanted"]),
        verdict=row["verdict"],
    )


def _summary(gate: Value, references: Sequence[str]) -> str:
    verdicts = [str(one["verdict"]) for one in gate["pairs"]]
    counted = ", ".join(
        f"{verdicts.count(name)} {word}"
        for name, word in (("PASS", "pass"), ("FAIL", "fail"), ("INCONCLUSIVE", "inconclusive"))
        if verdicts.count(name)
    )
    against = " and ".join(references) or "nothing"
    return (
        f"Compared with {against} in {len(verdicts)} gating pair(s): {counted or 'none'}. "
        f"Profile {gate.get('profile', NONE)}, α\u00a0=\u00a0{gate.get('alpha', NONE)}."
    )


def _called(one: Value, names: Names) -> str:
    """A pair or limit by the name that its task must bear."""
    return parts.name_of({**one, "shown_name": names.get(str(one["task"]))})


def _blocking(gate: Value, names: Names) -> list[dict[str, Any]]:
    found = [
        {
            "verdict": str(one["verdict"]),
            "what": f"{_called(one, names)} against {one['reference']}",
            "reasons": [str(reason) for reason in one["reasons"]],
        }
        for one in gate["pairs"]
        if one["verdict"] != "PASS"
    ]
    return found + [
        {
            "verdict": str(one["verdict"]),
            "what": f"limit of {_called(one, names)}",
            "reasons": [str(reason) for reason in one.get("reasons", ())],
        }
        for one in gate.get("limits", ())
        if one["verdict"] != "PASS"
    ]


def _pair(one: Value, names: Names) -> dict[str, str]:
    return {
        "task": _called(one, names),
        "reference": str(one["reference"]),
        "n": parts.count(one["n"]),
        "b": parts.count(one["b"]),
        "c": parts.count(one["c"]),
        "delta": _signed(one["delta"]),
        "lower": _signed(one["lower"]),
        "margin": NONE if one["margin"] is None else f"{one['margin']:g}",
        "p": NONE if one["p_holm"] is None else _p(one["p_holm"]),
        "verdict": str(one["verdict"]),
    }


def _limit(one: Value, names: Names) -> dict[str, str]:
    return {
        "task": _called(one, names),
        "n": parts.count(one.get("n")),
        "hits": parts.count(one.get("hits")),
        "upper": _plain(one.get("upper")),
        "limit": _plain(one.get("limit")),
        "verdict": str(one["verdict"]),
    }


def _signed(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:+.4f}".replace("-", "\u2212")


def _plain(value: Any) -> str:
    return NONE if value is None else f"{value:.3f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= _LEAST_P else f"< {_LEAST_P}"


def _waiver(one: Value) -> dict[str, str]:
    return {
        key: str(one.get(key, NONE))
        for key in ("task", "reference", "reason", "approver", "expires")
    }


def _identities(gate: Value) -> list[dict[str, str]]:
    runs = {
        str(one["path"]).partition("/")[0]: str(one["sha256"])
        for one in gate.get("inputs", ())
        if str(one["path"]).endswith("/run.json")
    }
    candidate = str(gate["candidate"])
    rows = [{"name": candidate, "tree": str(gate["candidate_tree"]), "run": runs.get(candidate)}]
    rows += [
        {"name": str(one["name"]), "tree": str(one["tree"]), "run": str(one["run_sha256"])}
        for one in gate["references"]
    ]
    return [{key: value or NONE for key, value in row.items()} for row in rows]
