"""What ``forebear ledger`` prints: the same facts as lines of text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from forebear.cli.terminal import safe

if TYPE_CHECKING:
    from forebear.ledger.check import Report
    from forebear.ledger.found import Impact

SCHEMAS = {
    name: f"forebear.ledger-{name}/v1" for name in ("build", "root", "prove", "check", "impact")
}
_HOW = {
    "saw": "saw it",
    "inherits": "inherits it",
    "may": "may have seen it",
    "measured": "holds it, learns nothing from it",
    "untouched": "did not see it",
}


def show(as_json: bool, body: Mapping[str, Any], lines: list[str]) -> None:
    """Prints ``body`` as JSON, or ``lines`` with nothing in them that steers a terminal."""
    if as_json:
        click.echo(json.dumps(body, indent=2, sort_keys=True))
    else:
        click.echo("\n".join(map(safe, lines)))


def root_lines(value: Mapping[str, Any]) -> Iterator[str]:
    """Roots and counts of a ledger."""
    salted = ", salted keys" if value.get("salted") else ""
    for tree in ("intake", "kept"):
        one = value[tree]
        counts = f"{one['documents']} documents, {one['leaves']} leaves{salted}"
        yield f"{tree:<7} {one['root']}  {counts}"


def report_json(report: Report, said: str) -> dict[str, Any]:
    """What a check found; ``said`` names what it was held against."""
    return {
        "schema": SCHEMAS["check"],
        "against": said,
        "key": report.key,
        "verdict": report.verdict,
        "claims": [
            {"says": one.says, "status": one.status, "why": one.why} for one in report.claims
        ],
    }


def report_lines(report: Report, said: str) -> Iterator[str]:
    """The same as text."""
    for one in report.claims:
        yield f"{one.status:<9} {one.says}{': ' + one.why if one.why else ''}"
    yield f"{report.verdict}, against {said}"


def impact_json(found: Impact) -> dict[str, Any]:
    """Where a document went."""
    return {
        "schema": SCHEMAS["impact"],
        "ledgers": [
            {"stage": one.stage, "root": one.root, "says": one.says, "texts": list(one.texts)}
            for one in found.ledgers
        ],
        "stages": [{"stage": one.stage, "how": one.how, "why": one.why} for one in found.met],
        "checkpoints": [
            {"stage": one.stage, "path": one.path, "tree": one.tree, "how": one.how, "why": one.why}
            for one in found.checkpoints
        ],
        "retrain": found.retrain,
        "unknown": found.unknown,
    }


def impact_lines(doc: str, found: Impact) -> Iterator[str]:
    """The same as text."""
    for held in found.ledgers:
        yield f"{held.root} of stage {held.stage!r}: {held.says}"
    if not found.ledgers:
        yield "no link names a ledger"
    for met in found.met:
        yield f"  {met.stage:<14} {_HOW[met.how]}: {met.why}"
    if found.checkpoints:
        yield "checkpoints"
    for one in found.checkpoints:
        yield f"  {_HOW[one.how]:<16} {one.path or one.stage}  {one.tree:.12}  {one.why}"
    for text in found.unknown:
        yield f"unknown: {text}"
    if found.retrain:
        yield f"to be run again without {doc}: {', '.join(found.retrain)}"
    elif not found.unknown and found.ledgers:
        yield "no checkpoint saw it"
