"""``forebear diff``: what changed between two releases, by their facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.compare import Change
    from forebear.documents.values import Facts

SCHEMA = "forebear.diff/v1"
_SHOWN = 8  # of each kind in an area, so that the answer stays on one page
_PLACES = ("facts.json", "cards/documents/facts.json", "documents/facts.json")
_LONGEST = 60
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command(name="diff", epilog="Example: forebear diff old/facts.json cards/documents")
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Every change, exact, as JSON.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when anything but evidence changed.")
def command(*, old: Path, new: Path, as_json: bool, exit_code: bool) -> int:
    """Compare the facts of OLD and NEW: releases, folders of documents, or facts files.

    Data sets, scores and licences are matched by name, never by position. Changes of weights, data,
    licence, intended use and limitations are material and come first.
    """
    from forebear.documents.compare import compare_facts, suggested_bump

    one, other = _read(old), _read(new)
    changes = compare_facts(one, other)
    shown = [change for change in changes if change.kind != "evidence"]
    if as_json:
        body = {
            "schema": SCHEMA,
            "old": {"facts_sha256": one.sha256(), "version": one.values["model.version"].value},
            "new": {"facts_sha256": other.sha256(), "version": other.values["model.version"].value},
            "suggested": suggested_bump(changes),
            "changes": [change.to_json() for change in changes],
        }
        click.echo(json.dumps(body, ensure_ascii=False, sort_keys=True))
    else:
        for line in _lines(one, other, changes):
            click.echo(line)
    return 1 if exit_code and shown else 0


def _read(place: Path) -> Facts:
    """Facts of a release, a repository, a folder of documents, or a file.

    Raises:
        UsageError: there are none.
        FormatError: they cannot be read.
    """
    from pydantic import ValidationError

    from forebear.documents.values import Facts
    from forebear.errors import FormatError, UsageError

    files = [place] if place.is_file() else [place / name for name in _PLACES]
    file = next((one for one in files if one.is_file()), None)
    if file is None:
        raise UsageError("holds no facts.json", str(place), "name the folder of the documents")
    try:
        return Facts.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise FormatError(
            f"holds no facts of this version: {'/'.join(map(str, first['loc']))}: {first['msg']}",
            str(file),
        ) from error


def _lines(old: Facts, new: Facts, changes: Sequence[Change]) -> list[str]:
    from forebear.documents.compare import AREAS, suggested_bump
    from forebear.documents.locale import load_locale

    locale = load_locale()
    shown = [change for change in changes if change.kind != "evidence"]
    name, versions = new.values["model.name"].value, [
        facts.values["model.version"].value for facts in (old, new)
    ]  # fmt: skip
    bump = suggested_bump(tuple(changes))
    suggests = locale.text(f"bump.{bump}")
    lines = [f"{name}: {versions[0]} → {versions[1]}; what changed suggests {suggests}"]
    for title, material in (("Material", True), ("Other", False)):
        chosen = [change for change in shown if change.material == material]
        if chosen:
            lines += ["", title]
        for area in AREAS:
            lines += _area(area, [change for change in chosen if change.area == area])
    silent = [locale.text(f"area.{area}") for area in AREAS
              if not any(change.area == area for change in shown)]  # fmt: skip
    lines += ["", f"No change: {', '.join(silent)}"] if silent else []
    count = sum(change.kind == "evidence" for change in changes)
    return [*lines, f"Same value, new evidence: {count}"]


def _area(area: str, changes: Sequence[Change]) -> list[str]:
    from forebear.documents.changes import name_of
    from forebear.documents.locale import load_locale

    if not changes:
        return []
    locale = load_locale()
    lines = [f"  {locale.text(f'area.{area}')}"]
    for change in changes[:_SHOWN]:
        said = f"    {_SIGNS[change.kind]} {name_of(change.fact, locale)}"
        lines.append(said + _values(change))
    if len(changes) > _SHOWN:
        lines.append(f"    … and {len(changes) - _SHOWN} more (--json shows all)")
    return lines


def _values(change: Change) -> str:
    if change.cells is not None:
        # a number is no name for a reader
        numbered = change.fact.endswith(tuple(f"[{n}]" for n in range(100)))
        return f": {_short(change.row.value)}" if numbered and change.row is not None else ""
    old, new = (
        "unknown" if one is None or one.value is None else _short(one.value)
        for one in (change.old, change.new)
    )
    text = {"added": f": {new}", "removed": f": {old}"}.get(change.kind, f": {old} → {new}")
    if change.overlap is not None:
        text += " (intervals overlap)" if change.overlap else " (intervals do not overlap)"
    return text


def _short(value: object) -> str:
    from forebear.documents.locale import load_locale
    from forebear.documents.render import in_words

    is_count = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_count else in_words(value, load_locale()) or "none"
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
