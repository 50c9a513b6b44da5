"""The release: what the owner signs about the finished pipeline.

The only stage that reads the owner's key, git, ``dvc.yaml``, ``params.yaml`` and ``dvc.lock``. The
key is the file that FOREBEAR_OWNER_KEY names, else ``owner.pem`` in the user's key folder; the
passphrase of an encrypted one comes from the file that FOREBEAR_OWNER_PASSPHRASE_FILE names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from forebear.pipeline import load_workspace
from forebear.release.attest import Terms, attest
from forebear.release.chain import load_recorders
from forebear.release.owner import KeyOwner, Owner
from forebear.signing.keys import default_directory, key_files, load_signer
from forebear.train.stage import StageParams, stage

KEY_ENV = "FOREBEAR_OWNER_KEY"
PASSPHRASE_ENV = "FOREBEAR_OWNER_PASSPHRASE_FILE"  # noqa: S105  # names a file, holds no secret


class AttestParams(StageParams):
    """Section ``attest`` of the params. The seed is unused: nothing is drawn."""

    serial: int = Field(default=1, ge=1)
    documents: Literal["draft", "final"] = "draft"
    expires_days: int = Field(default=365, ge=1, le=3660)
    allow_smoke: bool = False


@stage("attest")
def main(params: AttestParams, *, links: Path, gate: Path, documents: Path, release: Path) -> None:
    """Checks chain and gate, then signs layout, source, statements and digests."""
    del links  # links/<stage>.link is a fixed name; the option keeps the deps readable
    root = Path.cwd()
    workspace = load_workspace(root)
    attest(
        root,
        workspace.pipeline,
        _load_owner(),
        recorders=load_recorders(root, default_directory()),
        gate=gate.as_posix(),
        documents=documents.as_posix(),
        release=release.as_posix(),
        terms=Terms(
            serial=params.serial,
            documents=params.documents,
            expires_days=params.expires_days,
            allow_smoke=params.allow_smoke,
        ),
        cache_dir=workspace.cache_dir,
    )


def _load_owner() -> Owner:
    named = os.environ.get(KEY_ENV)
    file = Path(named) if named else key_files("owner", default_directory())[0]
    secret = os.environ.get(PASSPHRASE_ENV)
    passphrase = Path(secret).read_bytes().rstrip(b"\r\n") if secret else None
    return KeyOwner(load_signer(file, passphrase), file, passphrase)


if __name__ == "__main__":
    main()
