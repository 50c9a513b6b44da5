"""``forebear why``: which labels the released checkpoint carries, from where, and through what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from forebear.cli.terminal import safe

if TYPE_CHECKING:
    from forebear.documents.values import Row

SCHEMA = "forebear.why/v1"


@click.command(name="why", epilog='Example: forebear why "text made by a model"')
@click.argument("label", required=False)
@click.option("--json", "as_json", is_flag=True, help="The labels as JSON.")
def command(*, label: str | None, as_json: bool) -> int:
    """Show why the released checkpoint carries LABEL: its source, and the stages on the way.

    A label is a licence's duty, personal data, a territory, or text made by a model. It starts
    where a signed stage brings the source in and follows the signed links. Without LABEL all are
    listed; a kind (licence, personal_data, jurisdiction, synthetic) or a part of the text will do.
    Exit code 1 when the checkpoint carries no such label.
    """
    from forebear.cli.document import _inputs
    from forebear.documents.build import collect
    from forebear.pipeline import find_root

    inputs, *_ = _inputs(find_root())
    facts = collect(inputs).facts
    rows = [row for row in facts.tables["model.labels"] if _matches(row, label)]
    if as_json:
        body = {"schema": SCHEMA, "model": facts.values["model.digest"].value,
                "labels": [_plain(row) for row in rows]}  # fmt: skip
        click.echo(json.dumps(body, ensure_ascii=False, sort_keys=True))
    else:
        for row in rows:
            said = _plain(row)
            through = said["through"]
            way = " → ".join(map(str, through)) if isinstance(through, list) else ""
            click.echo(safe(f"{said['kind']}: {said['label']}"))
            click.echo(safe(f"  from {said['source']}, by {way}"))
        if not rows:
            click.echo("the released checkpoint carries no such label")
    return 0 if rows or label is None else 1


def _matches(row: Row, label: str | None) -> bool:
    if label is None:
        return True
    wanted = label.lower()
    if row.cells["kind"].value == wanted:
        return True
    return any(wanted in str(row.cells[name].value).lower() for name in ("label", "source"))


def _plain(row: Row) -> dict[str, object]:
    return {name: cell.value for name, cell in row.cells.items()}
