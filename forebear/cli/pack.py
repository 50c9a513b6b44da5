"""``forebear pack``: copies a signed release with its files into one folder or archive."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(name="pack", epilog="Example: forebear pack /tmp/RELEASE --archive release.tar")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--archive", type=click.Path(path_type=Path, dir_okay=False),
    help="Also write this tar, whose bytes follow from the release alone.",
)  # fmt: skip
@click.option(
    "--include-restricted", "restricted", type=click.Path(path_type=Path, file_okay=False),
    help="Copy what only an authority may read into this folder, beside the release.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
def command(*, out: Path, archive: Path | None, restricted: Path | None, as_json: bool) -> int:
    """Put the release that attest signed into the folder OUT, every byte checked first.

    OUT is new, empty, or an earlier release, which is replaced. Files are copies:
    nothing done in there touches the repository. What only an authority may read
    is left out; --include-restricted copies it into a folder of its own.
    """
    from forebear.pipeline import find_root
    from forebear.release.pack import pack, pack_restricted, write_archive

    root = find_root()
    folder = pack(root, out)
    if restricted is not None:
        pack_restricted(root, folder, restricted)
    if archive is not None:
        write_archive(folder, archive)
    if as_json:
        body = {
            "schema": "forebear.pack/v1",
            "release": str(out),
            "archive": str(archive) if archive else None,
            "restricted": str(restricted) if restricted else None,
        }
        click.echo(json.dumps(body, sort_keys=True))
    else:
        click.echo(f"packed {' and '.join(str(one) for one in (out, archive, restricted) if one)}")
    return 0
