"""``forebear trace``: walks from a file back to everything it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forebear.evidence.graph import Node
    from forebear.evidence.store import Evidence

SCHEMA = "forebear.trace/v1"


@click.command(
    name="trace", epilog="Example: forebear trace data/merge/checkpoint/model.safetensors"
)
@click.argument("wanted", metavar="FILE_OR_DIGEST")
@click.argument("place", type=click.Path(path_type=Path), default=Path(), metavar="[PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def command(*, wanted: str, place: Path, as_json: bool) -> int:
    """Show what FILE_OR_DIGEST was made of, as the links in PATH tell.

    FILE is a path inside the repository, a folder that is one out, or a file on disk, which is
    looked up by its digest. PATH is a release, an archive or a repository (default: here).
    Signatures are not checked here: `forebear verify` does that.
    """
    from forebear.errors import UsageError
    from forebear.evidence.graph import ancestors, find
    from forebear.evidence.store import open_evidence

    with open_evidence(place) as evidence:
        found = find(evidence, wanted.rstrip("/")) or find(evidence, _as_digest(wanted))
        if not found:
            raise UsageError("no link names this file or digest", wanted, _suggestion(evidence))
        nodes = [ancestors(evidence, path, digest) for path, digest in found]
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "found": [_to_json(node) for node in nodes]},
                              indent=2, sort_keys=True))  # fmt: skip
    else:
        click.echo("\n".join(line for node in nodes for line in _lines(node, 0)))
    return 0


def _as_digest(wanted: str) -> str:
    """Digest of a file on disk; the text itself for everything else."""
    from forebear.hashing.digest import hash_file

    file = Path(wanted)
    return hash_file(file) if file.is_file() and not file.is_symlink() else wanted


def _suggestion(evidence: Evidence) -> str:
    outs = [path for signed in evidence.links.values() for path in signed.link.products
            if path.startswith("tree:")]  # fmt: skip
    folders = ", ".join(path.removeprefix("tree:") for path in sorted(outs)[:5])
    return f"known folders are: {folders}" if folders else "run `dvc repro` first"


def _lines(node: Node, depth: int) -> Iterator[str]:
    origin = {None: "unknown origin", "source": "source"}.get(
        node.producer, f"made by {node.producer}"
    )
    again = ", shown above" if node.again else ""
    yield f"{'  ' * depth}{node.path}  {node.digest[:12]}  {origin}{again}"
    for material in node.materials:
        yield from _lines(material, depth + 1)


def _to_json(node: Node) -> dict[str, Any]:
    return {
        "path": node.path,
        "digest": node.digest,
        "producer": node.producer,
        "again": node.again,
        "materials": [_to_json(material) for material in node.materials],
    }
