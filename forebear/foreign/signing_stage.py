"""The stage that signs releases, as ``forebear init`` writes it into a foreign ``dvc.yaml``.

Rests on: provenance page, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence

from forebear.foreign.command import prefix
from forebear.foreign.dvcyaml import MARK
from forebear.formats.layout import ATTEST
from forebear.pipeline import Stage, link_path

RELEASE = "release"
ATTEST_COMMAND = f"python -I -m forebear attest --inner --release {RELEASE}"


def attest_stage(deps: Sequence[str], *, has_terms: bool, step: int = 2) -> list[str]:
    """Lines of the stage that signs releases.

    Args:
        deps: shipped outs and links.
        has_terms: ``params.yaml`` has a section ``attest``.
        step: columns of one level.
    """
    by = " " * step
    return [
        f"{ATTEST}:  {MARK}",
        f"{by}cmd: {prefix(ATTEST)}{ATTEST_COMMAND}",
        f"{by}deps:",
        *(f"{by}- {dep}" for dep in deps),
        *((f"{by}params:", f"{by}- {ATTEST}") if has_terms else ()),
        f"{by}outs:",
        f"{by}- {RELEASE}",
        f"{by}- {link_path(ATTEST)}",
        f"{by}meta:",
        f"{by}  forebear:",
        f"{by}    reads:",
        f"{by}    - owner-key",
        f"{by}    - repository",
    ]


def signs(stage: Stage) -> bool:
    """Whether a stage is one that signs releases: recorded, with a folder for the release."""
    return stage.cmd.startswith(prefix(ATTEST)) and any(out.path == RELEASE for out in stage.outs)
