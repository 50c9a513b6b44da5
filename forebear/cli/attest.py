"""``forebear attest``: runs the stage ``attest`` by itself, outside ``dvc repro``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forebear.pipeline import Stage

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(name="attest", epilog="Example: forebear attest && forebear pack RELEASE")
@click.option(
    "--key", metavar="FILE|URI",
    help="Owner's key: a file, or hsm:, awskms:, gcpkms:, azurekms: of a token or key service.",
)  # fmt: skip
@click.option("--public-key", type=_FILE, help="Its public half, when the key is no file.")
@click.option(
    "--passphrase-file", type=_FILE,
    help="File with the key's passphrase or PIN; without it you are asked.",
)  # fmt: skip
@click.option(
    "--sign", "way", type=click.Choice(["key", "sigstore"]), default=None,
    help="Sign statements with the key (the default), or with a Sigstore identity beside it.",
)  # fmt: skip
@click.option(
    "--identity-token-file", type=_FILE,
    help="OpenID Connect token for Sigstore; left out: the identity of the CI job.",
)  # fmt: skip
@click.option("--trust-config", type=_FILE, help="Sigstore's client trust configuration.")
@click.option("--require-clean", is_flag=True, help="Refuse files that differ from the commit.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON at the end.")
@click.option("--inner", is_flag=True, help="Be the stage's own process; only within the recorder.")
@click.option("--release", metavar="DIR", help="With --inner: the folder to write.")
@click.option("--gate", metavar="DIR", help="With --inner: the folder of gate.json.")
@click.option("--documents", metavar="DIR", help="With --inner: the folder of documents.json.")
def command(  # one argument per option
    *,
    key: str | None,
    public_key: Path | None,
    passphrase_file: Path | None,
    way: str | None,
    identity_token_file: Path | None,
    trust_config: Path | None,
    require_clean: bool,
    as_json: bool,
    inner: bool,
    release: str | None,
    gate: str | None,
    documents: str | None,
) -> int:
    """Check every link and the gate, then sign the release as dvc.yaml declares it.

    The same as `dvc repro --single-item --force attest`, without DVC's books: `dvc commit --force`
    `attest` enters the result there. Needs the owner's and the recorder's key.
    """
    from forebear.release import owner

    named = {
        owner.KEY_ENV: key,
        owner.PUBLIC_ENV: public_key,
        owner.PASSPHRASE_ENV: passphrase_file,
        owner.SIGN_ENV: way,
        owner.IDENTITY_TOKEN_ENV: identity_token_file,
        owner.TRUST_CONFIG_ENV: trust_config,
    }
    if inner:
        return _inner(release, gate, documents)
    _require_outer(way, trust_config, identity_token_file, (release, gate, documents))
    with _environment({name: _absolute(value) for name, value in named.items() if value}):
        return _outer(require_clean=require_clean, as_json=as_json)


def _outer(*, require_clean: bool, as_json: bool) -> int:
    from forebear.formats.layout import ATTEST
    from forebear.pipeline import find_root, inner_argv
    from forebear.recording.recorder import explain_exit, record
    from forebear.signing.keys import default_directory

    root = find_root()
    argv = inner_argv(_attest_stage(root))
    keys = default_directory()
    with _passphrase(keys):
        code = record(ATTEST, argv, root=root, keys=keys, require_clean=require_clean)
    if as_json:
        body = {"schema": "forebear.attest/v1", "exit_code": code}
        click.echo(json.dumps(body, sort_keys=True))
    elif code == 0:
        click.echo("signed")
    else:
        sys.stderr.write(f"error: {explain_exit(ATTEST, code, root)}\n")
    return code


def _attest_stage(root: Path) -> Stage:
    from forebear.errors import ConfigError
    from forebear.formats.layout import ATTEST
    from forebear.pipeline import DVC_FILE, load_pipeline

    pipeline = load_pipeline(root)
    if not any(stage.name == ATTEST for stage in pipeline.stages):
        raise ConfigError(
            "declares no stage 'attest', which signs releases",
            where=DVC_FILE,
            fix="forebear init, which adds one",
        )
    return pipeline.stage(ATTEST)


@contextlib.contextmanager
def _passphrase(keys: Path) -> Iterator[None]:
    """Asks for the owner's passphrase or PIN, when one is needed and no file holds it.

    The stage runs in a session without a terminal, so it cannot ask.
    """
    from forebear.release.owner import PASSPHRASE_ENV, owner_reference
    from forebear.signing import passphrase
    from forebear.signing.token import needs_secret

    if os.environ.get(PASSPHRASE_ENV) or not needs_secret(owner_reference(keys)):
        yield
        return
    typed = passphrase.prompt("passphrase or PIN of the owner key")
    with passphrase.lent(typed) as file, _environment({PASSPHRASE_ENV: str(file)}):
        yield


def _inner(release: str | None, gate: str | None, documents: str | None) -> int:
    from forebear.errors import UsageError
    from forebear.release.inner import attest_workspace, read_terms

    if release is None:
        raise UsageError("needs the folder to write", "forebear attest --inner", "--release DIR")
    if not sys.flags.isolated:
        raise UsageError(
            "would import modules from the repository beside the owner's key",
            "forebear attest --inner",
            "write the stage's command as: python -I -m forebear attest --inner …",
        )
    attest_workspace(Path.cwd(), read_terms(), gate=gate, documents=documents, release=release)
    return 0


def _require_outer(
    way: str | None,
    trust_config: Path | None,
    identity_token_file: Path | None,
    of_inner: tuple[str | None, ...],
) -> None:
    from forebear.errors import UsageError

    if any(of_inner):
        raise UsageError(
            "--release, --gate and --documents stand in the stage's command", "forebear attest",
            "change them in dvc.yaml",
        )  # fmt: skip
    if way == "sigstore" and trust_config is None:
        raise UsageError("--sign sigstore needs --trust-config FILE", "forebear attest")
    if way != "sigstore" and (trust_config or identity_token_file):
        raise UsageError(
            "--trust-config and --identity-token-file are for --sign sigstore", "forebear attest"
        )


def _absolute(value: str | Path) -> str:
    """As the stage will see it, whose current folder may be another."""
    from forebear.signing.token import is_remote, key_path

    if isinstance(value, Path):
        return str(value.absolute())
    if value in ("key", "sigstore") or is_remote(value):
        return value
    return str(key_path(value).absolute())


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for the recorder's child while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
