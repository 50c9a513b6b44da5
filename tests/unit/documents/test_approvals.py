"""Approvals: signed by people, about these facts alone, one key for one role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from forebear.cli.approve import command
from forebear.documents import cards
from forebear.documents.approvals import (
    approver_keys,
    copies,
    fault_of_copy,
    judge_approvals,
    read_approvals,
    render_approval,
)
from forebear.documents.build import render_index
from forebear.errors import ConfigError, FormatError
from forebear.formats.statement import PAYLOAD_TYPE
from forebear.signing.keys import create_key, load_public, load_signer
from forebear.signing.signer import sign_envelope
from tests.unit.documents.made import declared, facts, row

if TYPE_CHECKING:
    from forebear.documents.values import Approval, Facts
    from forebear.signing.keys import Signer

FACTS = facts(
    {"use.summary": declared("as it is")},
    {"approvals.required": [
        row("model_owner", role=declared("model_owner"), count=declared(1)),
        row("compliance", role=declared("compliance"), count=declared(1))]},
)  # fmt: skip
TERMS = {"name": "A. Person", "decision": "approve", "note": "", "time": "2026-11-25T08:00:00Z"}


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Signer]:
    """Three keys; those of the two roles are trusted."""
    signers: dict[str, Signer] = {}
    for name in ("model_owner", "compliance", "stranger"):
        create_key("owner", tmp_path / name, None)
        signers[name] = load_signer(tmp_path / name / "owner.pem")
    trust = tmp_path / "trust" / "approvers"
    trust.mkdir(parents=True)
    for role in ("model_owner", "compliance"):
        (trust / f"{role}.pub").write_bytes((tmp_path / role / "owner.pub").read_bytes())
    return signers


def _signed(signer: Signer, role: str, about: Facts = FACTS, **terms: Any) -> bytes:
    payload = render_approval(about, {"model-card.oecd.md": "a" * 64}, role=role, **TERMS | terms)
    return sign_envelope(signer, payload, PAYLOAD_TYPE)


def _judged(
    tmp_path: Path, *files: bytes, now: Facts = FACTS, recorders: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    keys = approver_keys(tmp_path / "trust")
    judged = judge_approvals(now, files, keys=keys, recorders=recorders)
    return [(one.role, one.status) for one in judged]


def test_without_approvals_both_roles_are_missing(tmp_path: Path, people: object) -> None:
    del people
    assert _judged(tmp_path) == [("model_owner", "missing"), ("compliance", "missing")]


def test_who_declares_no_roles_is_asked_for_the_two_usual_ones(tmp_path: Path) -> None:
    silent = facts()
    assert _judged(tmp_path, now=silent) == [("model_owner", "missing"), ("compliance", "missing")]


def test_two_people_with_a_key_each_approve(tmp_path: Path, people: dict[str, Signer]) -> None:
    files = [_signed(people[role], role) for role in ("model_owner", "compliance")]
    assert _judged(tmp_path, *files) == [("compliance", "valid"), ("model_owner", "valid")]


def test_a_changed_declaration_puts_an_approval_out_of_date(
    tmp_path: Path, people: dict[str, Signer]
) -> None:
    """Compliance page, 13.22."""
    file = _signed(people["compliance"], "compliance")
    now = FACTS.model_copy(
        update={"values": {**FACTS.values, "use.summary": declared("otherwise")}}
    )
    assert ("compliance", "out_of_date") in _judged(tmp_path, file, now=now)
    assert ("compliance", "missing") in _judged(tmp_path, file, now=now)


def test_an_approval_itself_puts_no_other_out_of_date(
    tmp_path: Path, people: dict[str, Signer]
) -> None:
    file = _signed(people["compliance"], "compliance")
    keys = approver_keys(tmp_path / "trust")
    approved = FACTS.model_copy(update={"approvals": judge_approvals(FACTS, [file], keys=keys)})
    assert approved.sha256() == FACTS.sha256()
    assert ("compliance", "valid") in _judged(tmp_path, file, now=approved)


def test_one_key_for_two_roles_fills_neither(tmp_path: Path, people: dict[str, Signer]) -> None:
    trust = tmp_path / "trust" / "approvers"
    (trust / "compliance-second.pub").write_bytes((trust / "model_owner.pub").read_bytes())
    files = [_signed(people["model_owner"], role) for role in ("model_owner", "compliance")]
    statuses = _judged(tmp_path, *files)
    assert statuses[:2] == [("compliance", "same_key"), ("model_owner", "same_key")]
    assert [status for _, status in statuses[2:]] == ["missing", "missing"]


def test_a_key_that_is_not_trusted_for_the_role_does_not_count(
    tmp_path: Path, people: dict[str, Signer]
) -> None:
    files = [
        _signed(people["stranger"], "compliance"),
        _signed(people["compliance"], "model_owner"),
    ]
    assert {status for _, status in _judged(tmp_path, *files)} == {"untrusted_key", "missing"}


def test_the_key_of_a_recorder_approves_nothing(tmp_path: Path, people: dict[str, Signer]) -> None:
    file = _signed(people["compliance"], "compliance")
    machine = people["compliance"].keyid
    assert ("compliance", "untrusted_key") in _judged(tmp_path, file, recorders=(machine,))
    assert ("compliance", "valid") in _judged(tmp_path, file)


@pytest.mark.parametrize("place", ["payload", "sig"])
def test_an_edited_approval_does_not_count(
    tmp_path: Path, people: dict[str, Signer], place: str
) -> None:
    """Compliance page, 13.22."""
    import base64

    from forebear.formats import strictjson

    value = json.loads(_signed(people["compliance"], "compliance"))
    at = value if place == "payload" else value["signatures"][0]
    data = bytearray(base64.b64decode(at[place]))
    data[-3 if place == "payload" else 9] ^= 1
    at[place] = base64.b64encode(bytes(data)).decode()
    statuses = _judged(tmp_path, strictjson.dumps(value))
    assert "valid" not in {status for _, status in statuses}
    assert "untrusted_key" in {status for _, status in statuses}


def test_a_rejection_is_shown_as_one(tmp_path: Path, people: dict[str, Signer]) -> None:
    file = _signed(people["compliance"], "compliance", decision="reject", note="the risks")
    assert ("compliance", "rejected") in _judged(tmp_path, file)


def test_a_file_that_is_no_approval_is_judged_and_kept(tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    assert ("unknown", "untrusted_key") in _judged(tmp_path, b"{}\n")
    assert list(copies([b"{}\n"]).values()) == [b"{}\n"]


@pytest.mark.parametrize("terms", [{"decision": "perhaps"}, {"name": " "}, {"role": "The Boss"}])
def test_terms_that_make_no_sense_are_refused(terms: dict[str, str]) -> None:
    with pytest.raises(FormatError):
        render_approval(FACTS, {}, **{"role": "compliance", **TERMS, **terms})


def test_the_footer_says_who_approved(tmp_path: Path, people: dict[str, Signer]) -> None:
    keys = approver_keys(tmp_path / "trust")
    judged = judge_approvals(FACTS, [_signed(people["compliance"], "compliance")], keys=keys)
    made = FACTS.model_copy(update={"approvals": judged})
    text = cards.render(made)["model-card.oecd.md"].decode()
    assert "compliance (A. Person): approved, 2026-11-25T08:00:00Z" in text
    assert "model owner: missing" in text


def test_a_listed_approval_is_what_its_file_says(tmp_path: Path, people: dict[str, Signer]) -> None:
    file = _signed(people["compliance"], "compliance")
    entry = _entry(tmp_path, file)
    assert fault_of_copy(entry, file) == ""
    assert fault_of_copy(entry, None)
    assert fault_of_copy(entry, _signed(people["compliance"], "compliance", note="other"))
    assert fault_of_copy(entry.model_copy(update={"name": "B. Person"}), file)


def _entry(tmp_path: Path, file: bytes) -> Approval:
    return judge_approvals(FACTS, [file], keys=approver_keys(tmp_path / "trust"))[0]


# ── the command ────────────────────────────────────────────────────────────────────────────────


def _folder(tmp_path: Path, made: Facts = FACTS) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    files = {"facts.json": made.to_bytes(), **cards.render(made)}
    files["documents.json"] = render_index(made, files, "en")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def _run(tmp_path: Path, *words: str, key: Path) -> Any:
    (tmp_path / "none").write_text("\n")
    words = (
        "--role", "compliance", "--decision", "approve", "--name", "A. Person", "--key", str(key),
        "--passphrase-file", str(tmp_path / "none"), "--documents", str(tmp_path / "documents"),
        "--out", str(tmp_path / "approvals"), *words,
    )  # fmt: skip
    return CliRunner().invoke(command, list(words), standalone_mode=False)


def test_the_command_writes_an_approval_that_counts(
    tmp_path: Path, people: dict[str, Signer]
) -> None:
    _folder(tmp_path)
    done = _run(tmp_path, "--json", key=tmp_path / "compliance" / "owner.pem")
    assert done.exception is None, done.exception
    keyid = people["compliance"].keyid
    assert Path(json.loads(done.output)["file"]).name == f"compliance-{keyid[:8]}.json"
    (data,) = read_approvals(tmp_path / "approvals")
    assert ("compliance", "valid") in _judged(tmp_path, data)
    terms = json.loads(_payload(data))["predicate"]
    assert {one["name"] for one in terms["documents"]} >= {"model-card.oecd.md", "facts.json"}


def _payload(data: bytes) -> bytes:
    from forebear.formats.dsse import parse_envelope

    return parse_envelope(data, where="approval").payload


def test_the_command_refuses_a_recorders_key(tmp_path: Path) -> None:
    _folder(tmp_path)
    create_key("recorder", tmp_path / "machine", None)
    done = _run(tmp_path, key=tmp_path / "machine" / "recorder.pem")
    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "approvals").exists()


def test_the_command_refuses_documents_of_other_facts(
    tmp_path: Path, people: dict[str, Signer]
) -> None:
    del people
    folder = _folder(tmp_path)
    other = FACTS.model_copy(update={"document_time": "2027-01-01T00:00:00Z"})
    (folder / "facts.json").write_bytes(other.to_bytes())
    done = _run(tmp_path, key=tmp_path / "compliance" / "owner.pem")
    assert isinstance(done.exception, FormatError)


def test_keys_of_a_role_are_found_by_its_name(tmp_path: Path, people: dict[str, Signer]) -> None:
    trust = tmp_path / "trust" / "approvers"
    (trust / "compliance-deputy.pub").write_bytes(people["stranger"].public.pem)
    keys = approver_keys(tmp_path / "trust")
    assert len(keys["compliance"]) == 2
    assert load_public(trust / "compliance-deputy.pub") in keys["compliance"]
