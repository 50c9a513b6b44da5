"""The release: what the owner signs about the finished pipeline.

The only stage that reads the owner's key, git, ``dvc.yaml``, ``params.yaml`` and ``dvc.lock``.
``forebear.release.owner`` says where the key is looked for and which variables of the environment
name another one, or a Sigstore identity beside it.
"""

from __future__ import annotations

from pathlib import Path

from forebear.release.inner import attest_workspace
from forebear.release.termsfile import WrittenTerms
from forebear.train.stage import StageParams, stage


class AttestParams(WrittenTerms, StageParams):
    """Section ``attest`` of the params. The seed is unused: nothing is drawn."""


@stage("attest")
def main(params: AttestParams, *, links: Path, gate: Path, documents: Path, release: Path) -> None:
    """Checks chain and gate, then signs layout, source, statements and digests."""
    del links  # links/<stage>.link is a fixed name; the option keeps the deps readable
    attest_workspace(
        Path.cwd(),
        params.terms(),
        gate=gate.as_posix(),
        documents=documents.as_posix(),
        release=release.as_posix(),
    )


if __name__ == "__main__":
    main()
