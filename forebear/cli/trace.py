"""``forebear trace``: walks from a file back to all it was made of, or forward to its offspring.

With ``--weights`` it asks the weights of two checkpoints instead: corroboration, never proof.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forebear.cli.terminal import safe

if TYPE_CHECKING:
    from forebear.evidence.graph import Artifact
    from forebear.evidence.store import Evidence


@click.command(
    name="trace",
    epilog="Example: forebear trace data/merge/checkpoint/model.safetensors RELEASE",
)
@click.argument("wanted", metavar="FILE_OR_DIGEST", required=False)
@click.argument("place", type=click.Path(path_type=Path), default=Path(), metavar="[PATH]")
@click.option("--forward", is_flag=True, help="To everything that was made of it, not to sources.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--format", "kind", type=click.Choice(["tree", "json", "dot", "mermaid"]), default="tree",
    help="How to print it: a tree (default), JSON, Graphviz or Mermaid.",
)  # fmt: skip
@click.option(
    "--weights", nargs=2, type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="A B", help="Compare two checkpoints instead: is B likely a descendant of A?",
)  # fmt: skip
def command(  # one argument per option
    *,
    wanted: str | None,
    place: Path,
    forward: bool,
    as_json: bool,
    kind: str,
    weights: tuple[Path, Path] | None,
) -> int:
    """Show what FILE_OR_DIGEST was made of, as the links in PATH tell, or what came of it.

    FILE is a path inside the repository, a folder that is one out, or a file on disk, which is
    looked up by its digest; `cmd:STAGE` and `params:STAGE` work too. PATH is a release, an archive
    or a repository (default: here). Signatures are not checked here: `forebear verify` does that.
    Exit code 1 when the way back is broken or ends at something of unknown origin.

    With --weights A B nothing is looked up: the numbers of both checkpoints are compared. Exit code
    0 consistent with A being an ancestor of B, 1 inconsistent, 3 inconclusive. It proves nothing.
    """
    if weights:
        return _kinship(*weights, as_json=as_json or kind == "json")
    if wanted is None:
        from forebear.errors import UsageError

        raise UsageError("needs FILE_OR_DIGEST, or --weights A B", "forebear trace")
    from forebear.evidence.export import RENDERERS, to_json
    from forebear.evidence.store import open_evidence

    with open_evidence(place) as evidence:
        found = _find(evidence, wanted)
        walk = evidence.graph.forward(found) if forward else evidence.graph.back(found)
    if as_json or kind == "json":
        click.echo(json.dumps(to_json(walk), indent=2, sort_keys=True))
    else:
        for line in RENDERERS[kind](walk):
            click.echo(safe(line))
    return 1 if walk.broken or (walk.unknown and not forward) else 0


def _kinship(left: Path, right: Path, *, as_json: bool) -> int:
    from forebear.evidence.worker import ask

    request = {"do": "kinship", "left": str(left.absolute()), "right": str(right.absolute())}
    found = ask("compare", request, needed_for="comparing weights")
    if as_json:
        body = {"schema": "forebear.kinship/v1", "left": str(left), "right": str(right), **found}
        click.echo(json.dumps(body, indent=2, sort_keys=True))
    else:
        click.echo(f"{found['verdict']}: {found['reason']}")
        if found["adapter_rank"]:
            click.echo(f"  the difference has rank {found['adapter_rank']}: likely a merged LoRA")
        click.echo(
            "  this corroborates and proves nothing: only signed links tell who came of whom"
        )
    return {"consistent": 0, "inconsistent": 1}.get(found["verdict"], 3)


def _find(evidence: Evidence, wanted: str) -> tuple[Artifact, ...]:
    from forebear.errors import UsageError

    found = evidence.graph.find(wanted.rstrip("/")) or _find_on_disk(evidence, Path(wanted))
    if not found:
        raise UsageError("no link names this file or digest", wanted, _suggestion(evidence))
    return found


def _find_on_disk(evidence: Evidence, file: Path) -> tuple[Artifact, ...]:
    """Artifacts with the digest of a file, or of a folder, on disk."""
    from forebear.hashing.digest import hash_file, hash_tree

    if file.is_symlink():
        return ()
    if file.is_file():
        return evidence.graph.find(hash_file(file))
    if not file.is_dir():
        return ()
    # a manifest has the digest of its tree, but is no folder
    found = evidence.graph.find(hash_tree(file).digest)
    return tuple(one for one in found if one[0].startswith("tree:"))


def _suggestion(evidence: Evidence) -> str:
    folders = sorted(
        path.removeprefix("tree:")
        for signed in evidence.links.values()
        for path in signed.link.products
        if path.startswith("tree:")
    )
    return f"known folders are: {', '.join(folders[:5])}" if folders else "run `dvc repro` first"
