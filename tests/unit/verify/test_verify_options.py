"""Options of ``forebear verify``: required checks, the verification summary, the broken edge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from forebear.cli.verify import command
from forebear.errors import UsageError
from forebear.formats.statement import RELEASE, VSA, parse_bundle, parse_statement
from forebear.signing.keys import create_key, load_public
from forebear.signing.signer import verify_envelope
from tests.support.release import CHECKPOINT, WEIGHTS, Simulated


def call(place: Path, built: Simulated, *words: object) -> tuple[int, str]:
    words = (place, "--trust", built.owner_pub, *words)
    result = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def broken(built: Simulated, folder: Path) -> Path:
    shutil.copytree(built.packed, folder)
    (folder / WEIGHTS).write_text("x")
    return folder


# ── required checks ────────────────────────────────────────────────────────────────────────────


def test_a_required_check_that_stays_unchecked_gives_3(built: Simulated) -> None:
    assert call(built.packed, built, "--require", "c15")[0] == 3
    assert call(built.packed, built, "--require", "C9")[0] == 0


def test_a_stage_to_recompute_makes_c16_required(built: Simulated) -> None:
    code, text = call(built.packed, built, "--recompute", "sft")
    (line,) = [line for line in text.splitlines() if line.split()[0] == "C16"]
    assert (code, line.split()[1]) in {(3, "unchecked"), (0, "pass")}


def test_a_failure_outweighs_a_required_check(built: Simulated, tmp_path: Path) -> None:
    assert call(broken(built, tmp_path / "r"), built, "--require", "C15")[0] == 1


def test_an_unknown_check_or_stage_is_wrong_usage(built: Simulated) -> None:
    for words in (("--require", "C99"), ("--recompute", "nothing")):
        with pytest.raises(UsageError):
            call(built.packed, built, *words)


# ── the first broken edge ──────────────────────────────────────────────────────────────────────


def test_the_last_line_names_the_first_broken_edge(built: Simulated, tmp_path: Path) -> None:
    _, text = call(broken(built, tmp_path / "r"), built)
    last = text.splitlines()[-1]
    assert last.startswith("First broken edge: stage 'sft': ")
    assert last.endswith("everything made from it is in doubt: eval, attest")


def test_the_edge_furthest_up_is_named_not_the_first_check(
    built: Simulated, tmp_path: Path
) -> None:
    folder = broken(built, tmp_path / "r")
    (link,) = folder.glob("links/base.*.link")
    link.unlink()
    value = json.loads(call(folder, built, "--json")[1])
    assert value["first_broken_edge"].startswith("First broken edge: stage 'base': ")


def test_without_a_readable_pipeline_the_whole_release_is_in_doubt(
    built: Simulated, tmp_path: Path
) -> None:
    folder = broken(built, tmp_path / "r")
    (folder / "pipeline.json").write_text("{")
    last = call(folder, built)[1].splitlines()[-1]
    assert last.startswith("First broken edge: ")
    assert last.endswith("the whole release is in doubt")


def test_nothing_broken_names_no_edge(built: Simulated) -> None:
    assert json.loads(call(built.packed, built, "--json")[1])["first_broken_edge"] is None


# ── the verification summary ───────────────────────────────────────────────────────────────────


def summary(file: Path) -> tuple[dict[str, str], dict[str, Any]]:
    statement = parse_statement(file.read_bytes(), where=file.name)
    assert statement.predicate_type == VSA
    return dict(statement.subjects), dict(statement.predicate)


def test_a_summary_says_what_passed_and_what_was_not_looked_at(
    built: Simulated, tmp_path: Path
) -> None:
    call(built.packed, built, "--vsa", tmp_path / "vsa.json")
    subjects, predicate = summary(tmp_path / "vsa.json")
    assert set(subjects) == {"release.sigstore.json", f"tree:{CHECKPOINT}"}
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_1"]
    assert predicate["policy"]["uri"] == "owner.pub"
    (checks,) = [value for name, value in predicate.items() if name.endswith("/checks")]
    assert (checks["C3"], checks["C16"]) == ("passed", "unchecked")
    inputs = {entry["uri"] for entry in predicate["inputAttestations"]}
    assert "release.sigstore.json" in inputs
    assert any(name.startswith("links/sft.") for name in inputs)
    assert str(tmp_path) not in (tmp_path / "vsa.json").read_text()


def test_a_summary_of_a_failure_claims_no_level(built: Simulated, tmp_path: Path) -> None:
    call(broken(built, tmp_path / "r"), built, "--vsa", tmp_path / "vsa.json")
    _, predicate = summary(tmp_path / "vsa.json")
    assert predicate["verificationResult"] == "FAILED"
    assert predicate["verifiedLevels"] == []


def test_a_summary_of_a_required_check_unchecked_is_no_pass(
    built: Simulated, tmp_path: Path
) -> None:
    call(built.packed, built, "--require", "C16", "--vsa", tmp_path / "vsa.json")
    assert summary(tmp_path / "vsa.json")[1]["verificationResult"] == "FAILED"


def test_a_signed_summary_is_a_bundle_of_the_verifiers_key(
    built: Simulated, tmp_path: Path
) -> None:
    private, public = create_key("owner", tmp_path / "auditor", None)
    call(built.packed, built, "--vsa", tmp_path / "vsa.json", "--vsa-key", private)
    bundle = parse_bundle((tmp_path / "vsa.json").read_bytes(), where="vsa.json")
    verify_envelope(bundle.envelope, load_public(public))
    kind = parse_statement(bundle.envelope.payload, where="vsa.json").predicate_type
    assert kind == VSA != RELEASE


def test_an_encrypted_key_is_opened_by_its_passphrase_file(
    built: Simulated, tmp_path: Path
) -> None:
    private, public = create_key("owner", tmp_path / "auditor", b"secret words")
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("secret words\n")
    call(
        built.packed, built, "--vsa", tmp_path / "vsa.json", "--vsa-key", private,
        "--vsa-passphrase-file", secret,
    )  # fmt: skip
    bundle = parse_bundle((tmp_path / "vsa.json").read_bytes(), where="vsa.json")
    verify_envelope(bundle.envelope, load_public(public))


def test_a_summary_is_never_written_into_the_release(built: Simulated) -> None:
    with pytest.raises(UsageError):
        call(built.packed, built, "--vsa", built.packed / "vsa.json")
    assert not (built.packed / "vsa.json").exists()


def test_a_key_without_a_summary_is_wrong_usage(built: Simulated, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        call(built.packed, built, "--vsa-key", tmp_path / "owner.pem")
