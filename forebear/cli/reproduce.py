"""``forebear reproduce``: runs recorded stages again in a clean room and attests what came out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forebear.cli.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebear.evidence.reproduction import Reproduction
    from forebear.signing.keys import PublicKey, Signer

SCHEMA = "forebear.reproduce/v1"


@click.command(
    name="reproduce",
    epilog="Example: forebear reproduce merge sft --key ~/reproducer.pem",
)
@click.argument("stages", nargs=-1, required=True, metavar="STAGE…")
@click.option(
    "--set", "words", multiple=True, metavar="PATH=VALUE",
    help="Another value for a param, as an experiment; the statement shows it.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("reproductions"),
    help="Folder of the signed statements (default: reproductions).",
)  # fmt: skip
@click.option(
    "--key", metavar="FILE_OR_URI",
    help="Who signs; the recorder key of this machine when left out.",
)  # fmt: skip
@click.option(
    "--public", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="The public half of a key that is no file.",
)  # fmt: skip
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Holds passphrase or PIN; else you are asked.",
)  # fmt: skip
@click.option(
    "--recorder", "recorders", multiple=True, metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Public key that may have signed the original link, beside those that are known.",
)  # fmt: skip
@click.option("--no-confine", is_flag=True, help="Run unconfined; the statement says so.")
@click.option("--json", "as_json", is_flag=True, help="What came out, as JSON.")
def command(  # one argument per option
    *,
    stages: tuple[str, ...],
    words: tuple[str, ...],
    out: Path,
    key: str | None,
    public: Path | None,
    passphrase_file: Path | None,
    recorders: tuple[Path, ...],
    no_confine: bool,
    as_json: bool,
) -> int:
    """Run each STAGE again, from its materials alone, and compare what comes out with its link.

    The verdict is identical, within bound or different; a signed statement of it is written, which
    `forebear attach RELEASE FILE` adds to a release. It runs the code of this repository. Exit
    codes: 0 identical or within bound; 1 different, or the stage failed; 3 a material is missing.
    """
    from forebear.pipeline import find_root, load_workspace
    from forebear.release.cleanroom import Unavailable
    from forebear.release.reproduce import load_original, parse_settings, reproduce

    settings = parse_settings(words)
    root = find_root()
    known = _known(root, recorders)
    sign = _signer(key, public, passphrase_file)
    workspace = load_workspace(root)
    originals = [load_original(root, name, known) for name in dict.fromkeys(stages)]
    _require_used(settings, [one.params for one in originals])
    rows: list[dict[str, Any]] = []
    for original in originals:
        try:
            found = reproduce(
                original, root=root, workspace=workspace, settings=settings,
                confine=not no_confine, say=_say,
            )  # fmt: skip
        except Unavailable as error:
            rows.append({"stage": original.link.name, "verdict": "unchecked",
                         "reason": f"{error.where} {error.what}", "fix": error.fix})  # fmt: skip
        else:
            rows.append(_attest(found, sign(), out))
        if not as_json:
            click.echo("\n".join(_lines(rows[-1])))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "stages": rows}, indent=2, sort_keys=True))
    verdicts = {row["verdict"] for row in rows}
    return 1 if "different" in verdicts else 3 if "unchecked" in verdicts else 0


def _known(root: Path, files: tuple[Path, ...]) -> tuple[PublicKey, ...]:
    """Recorder keys: those of this machine and repository, and those that were given."""
    from forebear.errors import EnvironmentFailure
    from forebear.signing.keyring import load_recorders
    from forebear.signing.keys import default_directory, load_public

    given = tuple(load_public(file) for file in files)
    try:
        return (*given, *load_recorders(root, default_directory()))
    except EnvironmentFailure:
        if not given:
            raise
        return given


def _signer(
    key: str | None, public: Path | None, passphrase_file: Path | None
) -> Callable[[], Signer]:
    """Opens the key when there is something to sign; what can fail before fails before."""
    from forebear.recording.sealing import load_recorder, require_key
    from forebear.signing.keys import default_directory, key_files, read_private
    from forebear.signing.passphrase import from_file_or_prompt
    from forebear.signing.token import is_remote, key_path, open_key

    keys = default_directory()
    if key is None:
        require_key(keys)
        return lambda: load_recorder(keys)
    if not is_remote(key):
        read_private(key_path(key))  # a key that is not there is told before the long run
    secret = from_file_or_prompt(passphrase_file, of="key", fix="give --passphrase-file")
    half = public or key_files("recorder", keys)[1]
    return lambda: open_key(key, public=half, secret=secret)


def _require_used(settings: dict[str, Any], params: list[dict[str, Any]]) -> None:
    from forebear.errors import UsageError

    for path in settings:
        if not any(path.partition(".")[0] in section for section in params):
            raise UsageError("none of the stages has this param", where=f"--set {path}")


def _attest(found: Reproduction, signer: Signer, out: Path) -> dict[str, Any]:
    """Writes the signed statement; what there is to say."""
    from forebear.errors import EnvironmentFailure
    from forebear.release.owner import sign_bundle

    file = out / f"{found.stage}.reproduction.sigstore.json"
    data = sign_bundle(signer, found.to_statement(), where=str(file))
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        partial.write_bytes(data)
        partial.replace(file)
    except OSError as error:
        raise EnvironmentFailure(f"cannot be written: {error.strerror}", str(file)) from error
    return {
        "stage": found.stage,
        "verdict": found.verdict,
        "independent": signer.public.keyid != found.keyid,
        "keyid": signer.public.keyid,
        "changed_params": dict(found.changed_params),
        "confinement": found.confinement["level"],
        "environment_equal": found.environment["equal"],
        "comparison": dict(found.comparison),
        "file": str(file),
    }


def _lines(row: dict[str, Any]) -> list[str]:
    head = f"{row['stage']}: {row['verdict']}"
    if "reason" in row:
        return [f"{head}: {row['reason']}", f"  fix: {row['fix']}"]
    first = row["comparison"]["first"]
    lines = [head]
    if first:
        tensor = f", tensor {first['tensor']} {first['what']}" if "tensor" in first else ""
        lines[0] += f": first in {first['file']}{tensor}"
        lines += [f"  {first['note']}"] if "note" in first else []
    if row["changed_params"]:
        changed = ", ".join(f"{path}={value}" for path, value in row["changed_params"].items())
        lines.append(f"  an experiment, with other params than the original: {changed}")
    if not row["independent"]:
        lines.append(
            "  signed by the key that signed the original: a repetition, no independent "
            "reproduction; give --key"
        )
    lines.append(f"  ran {row['confinement']}; signed by key {row['keyid'][:8]}: {row['file']}")
    return [safe(line) for line in lines]


def _say(line: str) -> None:
    sys.stderr.write(safe(line) + "\n")
