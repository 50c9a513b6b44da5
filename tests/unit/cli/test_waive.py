"""``forebear waive`` writes what the gate accepts, and nothing that it never would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from forebear.cli.waive import command
from forebear.errors import EnvironmentFailure, FormatError, GateError
from forebear.formats import strictjson
from forebear.gate.waiver import PASS_WITH_WAIVERS, load_waivers, waive
from forebear.signing.keys import create_key, load_public
from forebear.signing.signer import verify_envelope
from tests.unit.gate.test_waiver import FAILING, gate

REASON = "a known gap of the golden set, closed by the next release"


def call(folder: Path, value: dict[str, Any], *words: object, reason: str = REASON) -> str:
    if not (folder / "keys").exists():
        create_key("owner", folder / "keys", None)
    (folder / "gate.json").write_bytes(strictjson.dumps(value))
    fixed = [
        "--gate", folder / "gate.json", "--approver", "A. Person", "--reason", reason,
        "--key", folder / "keys" / "owner.pem", "--out", folder / "waivers",
    ]  # fmt: skip
    arguments = [str(word) for word in (*words, *fixed)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert result.return_value == 0
    return result.output


def test_what_it_writes_lets_the_gate_pass(tmp_path: Path) -> None:
    body = json.loads(call(tmp_path, FAILING, "mc4", "base", "--json"))
    (waiver,) = load_waivers(tmp_path / "waivers")
    assert waiver.terms == body["terms"]
    assert waive(FAILING, [waiver])["verdict"] == PASS_WITH_WAIVERS
    verify_envelope(waiver.envelope, load_public(tmp_path / "keys" / "owner.pub"))


def test_a_passing_or_unknown_pair_is_refused(tmp_path: Path) -> None:
    for value, words in ((gate(mc4=(4, 6, 1000)), ("mc4", "base")), (FAILING, ("mc4", "other"))):
        with pytest.raises(GateError):
            call(tmp_path, value, *words)
    assert not (tmp_path / "waivers").exists()


def test_a_short_reason_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        call(tmp_path, FAILING, "mc4", "base", reason="because")


def test_names_cannot_lead_elsewhere(tmp_path: Path) -> None:
    value = json.loads(json.dumps(FAILING).replace('"mc4"', '"../mc4"'))
    call(tmp_path, value, "../mc4", "base")
    assert [file.name for file in (tmp_path / "waivers").iterdir()] == ["___mc4-base.dsse"]


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]\n", b'{"candidate_tree":"a","pairs":1}\n'])
def test_what_is_no_verdict_is_refused(tmp_path: Path, data: bytes) -> None:
    create_key("owner", tmp_path / "keys", None)
    (tmp_path / "gate.json").write_bytes(data)
    words = ["mc4", "base", "--gate", str(tmp_path / "gate.json"), "--approver", "A",
             "--reason", REASON]  # fmt: skip
    result = CliRunner().invoke(command, words, standalone_mode=False)
    assert isinstance(result.exception, FormatError)


def test_a_missing_verdict_is_an_error_of_the_environment(tmp_path: Path) -> None:
    words = ["mc4", "base", "--gate", str(tmp_path / "no"), "--approver", "A", "--reason", REASON]
    result = CliRunner().invoke(command, words, standalone_mode=False)
    assert isinstance(result.exception, EnvironmentFailure)
