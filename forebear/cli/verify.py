"""``forebear verify``: checks a release, an archive of one or a repository, check by check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forebear.cli.terminal import safe

if TYPE_CHECKING:
    from forebear.evidence.store import Evidence
    from forebear.formats.statement import Statement
    from forebear.signing.policy import TrustPolicy
    from forebear.verify.result import CheckResult, Report

_WORDS = {"passed": "pass", "failed": "FAIL", "unchecked": "unchecked"}
_SHOWN = 20
_RECOMPUTED = "C16"


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
@click.option(
    "--require", "required", multiple=True, metavar="CHECK",
    help="Exit 3 when this check (C1 to C16) is unchecked. May be given several times.",
)  # fmt: skip
@click.option(
    "--recompute", multiple=True, metavar="STAGE",
    help="Also compute this merge again and compare (C16); `weights` compares every checkpoint "
    "with its parents. May be given several times.",
)  # fmt: skip
@click.option(
    "--vsa", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write a SLSA verification summary: what was checked, for others to rely on.",
)  # fmt: skip
@click.option(
    "--vsa-key", metavar="FILE_OR_URI",
    help="Sign the summary with this private key, as a bundle; unsigned when left out.",
)  # fmt: skip
@click.option(
    "--vsa-passphrase-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="File with that key's passphrase; without it you are asked.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def command(  # one argument per option
    *,
    place: Path,
    trust: Path | None,
    strict: bool,
    required: tuple[str, ...],
    recompute: tuple[str, ...],
    vsa: Path | None,
    vsa_key: str | None,
    vsa_passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Check PATH: a packed release, a tar archive of one, or a repository (default: here).

    Every check is made, also after a failure; the last line then names the first broken edge. Exit
    codes: 0 C1 to C6 passed and nothing failed; 1 a check failed; 3 a check that is needed stayed
    unchecked.
    """
    from forebear.evidence.store import open_evidence
    from forebear.verify.edge import first_broken_edge
    from forebear.verify.run import verify

    # what was asked for must not stay undone in silence
    needed = _check_ids((*required, *([_RECOMPUTED] if recompute else [])))
    if vsa_key is not None and vsa is None:
        _usage("--vsa-key signs a summary, and none is asked for", "add --vsa FILE")
    with open_evidence(place) as evidence:
        policy, label = _policy(evidence, trust)
        _require_stages(evidence, recompute)
        report = verify(evidence, policy, trust=label, recompute=recompute)
        code = _exit_code(report, needed, strict=strict)
        edge = first_broken_edge(report, evidence)
        if vsa is not None:
            _write_summary(
                vsa, report, evidence, held=code == 0, trusted=_trusted(trust, policy),
                key=vsa_key, passphrase_file=vsa_passphrase_file,
            )  # fmt: skip
    if as_json:
        body = {
            **report.to_json(strict=strict),
            "exit_code": code,
            "first_broken_edge": edge or None,
        }
        click.echo(json.dumps(body, ensure_ascii=True, indent=2, sort_keys=True))
    else:
        click.echo("\n".join(render(report, held=code == 0, edge=edge)))
    return code


def _check_ids(required: tuple[str, ...]) -> frozenset[str]:
    """The checks that the auditor insists on, by their ids."""
    from forebear.verify.checks import CHECKS

    ids = {check.id for check in CHECKS}
    needed = frozenset(name.upper() for name in required)
    unknown = ", ".join(sorted(needed - ids))
    if unknown:
        _usage(f"there is no check {unknown}", "C1 to C16")
    return needed


def _require_stages(evidence: Evidence, recompute: tuple[str, ...]) -> None:
    names = {stage.name for stage in evidence.pipeline.stages} if recompute else set()
    for name in recompute:
        if name not in {*names, "weights"}:
            _usage(f"there is no stage {name[:60]!a} to recompute", ", ".join(sorted(names)))


def _usage(what: str, fix: str) -> None:
    from forebear.errors import UsageError

    raise UsageError(what, "forebear verify", fix)


def _exit_code(report: Report, needed: frozenset[str], *, strict: bool) -> int:
    code = report.exit_code(strict=strict)
    passed = {result.id for result in report.results if result.status == "passed"}
    return 3 if code == 0 and not needed <= passed else code


def _trusted(trust: Path | None, policy: TrustPolicy) -> tuple[str, bytes]:
    """Name and bytes of what the verdict trusts, without the folder it lies in."""
    if trust is not None:
        return trust.name, trust.read_bytes()
    return "owner.pub", b"".join(key.pem for key in policy.owner_keys)


def _write_summary(
    file: Path,
    report: Report,
    evidence: Evidence,
    *,
    held: bool,
    trusted: tuple[str, bytes],
    key: str | None,
    passphrase_file: Path | None,
) -> None:
    """Writes the statement, or a bundle around it.

    Raises:
        UsageError: the file would lie in what was verified.
        EnvironmentFailure: it cannot be written, or the key cannot be read.
    """
    from datetime import UTC, datetime

    from forebear.errors import EnvironmentFailure, UsageError
    from forebear.formats.statement import render_statement
    from forebear.verify.summary import verification_summary

    if file.resolve().is_relative_to(evidence.folder.resolve()):
        raise UsageError(
            "would change the release that was verified", str(file),
            "write it elsewhere; `forebear attach` adds a signed one to a release",
        )  # fmt: skip
    statement = verification_summary(
        report, evidence, held=held, policy=trusted, now=datetime.now(UTC)
    )
    data = render_statement(statement)
    if key is not None:
        data = _signed(statement, key, passphrase_file)
    try:
        file.write_bytes(data)
    except OSError as error:
        raise EnvironmentFailure(
            f"the summary cannot be written: {error.strerror}", str(file)
        ) from error


def _signed(statement: Statement, key: str, passphrase_file: Path | None) -> bytes:
    """A bundle around the summary, by whatever key the verifier has."""
    from forebear.release.owner import sign_bundle
    from forebear.signing.keys import default_directory, key_files
    from forebear.signing.passphrase import from_file_or_prompt
    from forebear.signing.token import open_key

    secret = from_file_or_prompt(passphrase_file, of="key", fix="give --vsa-passphrase-file")
    public = key_files("owner", default_directory())[1]
    return sign_bundle(open_key(key, public=public, secret=secret), statement, where="summary")


def render(report: Report, *, held: bool, edge: str = "") -> list[str]:
    """The report as lines of text; names from the evidence are printed safely.

    Args:
        report: of all checks.
        held: whether all held that the auditor asked for.
        edge: the first broken edge, in words; empty when nothing failed.
    """
    lines = [f"{report.kind}, trusting {report.trust}"]
    for result in report.results:
        lines += _render_result(result)
    counts = {status: report.count(status) for status in _WORDS}
    core = "verified" if held else "not verified"
    lines.append(
        f"{core}: {counts['passed']} checks passed, {counts['failed']} failed, "
        f"{counts['unchecked']} unchecked"
    )
    lines += [edge] if edge else []
    return [safe(line) for line in lines]


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
        names = [f"owner key {key.keyid:.8}" for key in policy.owner_keys]
        names += [str(identity) for identity in policy.identities]
        return policy, f"{trust} ({', '.join(names)})"
    if evidence.kind != "repository":
        raise UsageError(
            "a release needs --trust: nothing in it is trusted because it says so",
            fix="forebear verify RELEASE --trust owner.pub, with the key got from the owner",
        )
    owner = load_public(key_files("owner", default_directory())[1])
    return TrustPolicy(owner_keys=(owner,)), f"your own key (owner key {owner.keyid:.8})"
