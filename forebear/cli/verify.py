"""``forebear verify``: checks a release, an archive of one or a repository, check by check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forebear.evidence.store import Evidence
    from forebear.signing.policy import TrustPolicy
    from forebear.verify.result import CheckResult, Report

_WORDS = {"passed": "pass", "failed": "FAIL", "unchecked": "unchecked"}
_SHOWN = 20


@click.command(
    name="verify",
    epilog="Example: forebear verify RELEASE --trust owner.pub",
)
@click.argument("place", type=click.Path(path_type=Path), default=Path(), metavar="PATH")
@click.option(
    "--trust", "trust", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Whom to trust: an owner's public key, or a trust policy in YAML. It must come from "
    "outside the release. In a repository your own owner key when left out.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit 3 when any check is unchecked.")
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def command(*, place: Path, trust: Path | None, strict: bool, as_json: bool) -> int:
    """Check PATH: a packed release, a tar archive of one, or a repository (default: here).

    Every check is made, also after a failure. Exit codes: 0 C1 to C6 passed and nothing failed;
    1 a check failed; 3 a check that is needed stayed unchecked.
    """
    from forebear.evidence.store import open_evidence
    from forebear.verify.run import verify

    with open_evidence(place) as evidence:
        policy, label = _policy(evidence, trust)
        report = verify(evidence, policy, trust=label)
    if as_json:
        click.echo(
            json.dumps(report.to_json(strict=strict), ensure_ascii=True, indent=2, sort_keys=True)
        )
    else:
        click.echo("\n".join(render(report, strict=strict)))
    return report.exit_code(strict=strict)


def render(report: Report, *, strict: bool = False) -> list[str]:
    """The report as lines of text; names from the evidence are printed safely."""
    lines = [f"{report.kind}, trusting {report.trust}"]
    for result in report.results:
        lines += _render_result(result)
    counts = {status: report.count(status) for status in _WORDS}
    held = report.exit_code(strict=strict) == 0
    core = "verified" if held else "not verified"
    lines.append(
        f"{core}: {counts['passed']} checks passed, {counts['failed']} failed, "
        f"{counts['unchecked']} unchecked"
    )
    return [_safe(line) for line in lines]


def _render_result(result: CheckResult) -> list[str]:
    from forebear.verify.result import Failed, Passed

    verdict = result.verdict
    if isinstance(verdict, Passed):
        said = verdict.note
    elif isinstance(verdict, Failed):
        said = f"{len(verdict.findings)} finding{'s' * (len(verdict.findings) != 1)}"
        said += " (internal)" if verdict.internal else ""
    else:
        said = verdict.reason
    lines = [f"{result.id:>4} {_WORDS[result.status]:<9} {result.title}: {said}"]
    if isinstance(verdict, Failed):
        lines += [f"       {finding.path}: {finding.text}" for finding in verdict.findings[:_SHOWN]]
        left = len(verdict.findings) - _SHOWN
        if left > 0:
            lines.append(f"       and {left} more (--json shows all)")
    return lines


def _safe(line: str) -> str:
    """``line`` without anything that steers a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def _policy(evidence: Evidence, trust: Path | None) -> tuple[TrustPolicy, str]:
    """The trust policy, and what to call it."""
    from forebear.errors import UsageError
    from forebear.signing.keys import default_directory, key_files, load_public
    from forebear.signing.policy import TrustPolicy, load_policy

    if trust is not None:
        if trust.resolve().is_relative_to(evidence.folder.resolve()):
            raise UsageError(
                "the trust comes from the release itself, which proves nothing",
                str(trust),
                "get the owner's public key from the owner, by another way",
            )
        policy = load_policy(trust)
        keys = ", ".join(f"{key.keyid:.8}" for key in policy.owner_keys)
        return policy, f"{trust} (owner key {keys})"
    if evidence.kind != "repository":
        raise UsageError(
            "a release needs --trust: nothing in it is trusted because it says so",
            fix="forebear verify RELEASE --trust owner.pub, with the key got from the owner",
        )
    owner = load_public(key_files("owner", default_directory())[1])
    return TrustPolicy(owner_keys=(owner,)), f"your own key (owner key {owner.keyid:.8})"
