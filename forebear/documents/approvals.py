"""People's approvals of the facts: signed statements, and where each of them stands.

An approval is a DSSE envelope in ``cards/approvals/<role>-<key>.json`` around a statement whose
subject is the digest of the facts without approvals. It counts while the facts are the same, the
key is one that ``trust/approvers/<role>.pub`` (or ``<role>-NAME.pub``) names for that role, and no
other role was filled with the same key. A recorder's key belongs to a machine and approves nothing.

This module reads and judges; whoever signs brings the key.

Source: compliance page, section 11 (approvals).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.documents.values import Approval, Facts
from forebear.errors import EnvironmentFailure, FormatError, SignatureError
from forebear.formats.dsse import Envelope, parse_envelope
from forebear.formats.statement import (
    APPROVAL,
    PAYLOAD_TYPE,
    Statement,
    parse_statement,
    render_statement,
)
from forebear.signing.keys import PublicKey, load_public
from forebear.signing.signer import verify_envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUBJECT = "facts.json"
SUFFIX = ".json"
DECISIONS = ("approve", "reject")
DEFAULT: Mapping[str, int] = {"model_owner": 1, "compliance": 1}
FOLDER = "approvals/"  # below the documents, where copies are kept
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FIELDS = {"role", "name", "decision", "note", "time", "documents"}
_MAX_BYTES = 1024 * 1024
_TABLE = "approvals.required"


@dataclass(frozen=True, slots=True)
class Signed:
    """One approval as it lies there, its signature not yet verified.

    Attributes:
        file: name of its file.
        facts_sha256: what it is about.
        terms: role, name, decision, note, time, documents.
    """

    file: str
    data: bytes
    envelope: Envelope
    facts_sha256: str
    terms: Mapping[str, Any]


def render_approval(  # noqa: PLR0913  # one argument per term
    facts: Facts, documents: Mapping[str, str], *, role: str, name: str, decision: str, note: str,
    time: str,
) -> bytes:  # fmt: skip
    """Payload for a person to sign.

    Args:
        facts: what is approved.
        documents: digest of each document that was looked at, by name.
        role: of the person, as ``approvals.required`` names it.
        name: of the person.
        decision: ``approve`` or ``reject``.
        note: free text.
        time: now, ISO 8601.

    Raises:
        FormatError: role or decision is none, or the name is empty.
    """
    terms = {
        "role": role, "name": name, "decision": decision, "note": note, "time": time,
        "documents": [{"name": one, "sha256": documents[one]} for one in sorted(documents)],
    }  # fmt: skip
    _require_terms(terms, "approval")
    return render_statement(Statement(((SUBJECT, facts.sha256()),), APPROVAL, terms))


def file_name(role: str, keyid: str) -> str:
    """Where an approval of a role with a key lies."""
    return f"{role}-{keyid[:8]}{SUFFIX}"


def read_approvals(folder: Path) -> list[bytes]:
    """The files of the folder by name; none when there is no folder.

    Raises:
        EnvironmentFailure: a file cannot be read.
    """
    if not folder.is_dir():
        return []
    found = []
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append(file.read_bytes())
        except OSError as error:
            raise EnvironmentFailure(
                f"cannot read the approval: {error.strerror}", file.as_posix()
            ) from error
    return found


def approver_keys(trust: Path) -> dict[str, tuple[PublicKey, ...]]:
    """Keys that may approve, by role: ``approvers/<role>.pub``, ``approvers/<role>-NAME.pub``."""
    found: dict[str, list[PublicKey]] = {}
    for file in sorted((trust / "approvers").glob("*.pub")):
        found.setdefault(file.stem.partition("-")[0], []).append(load_public(file))
    return {role: tuple(keys) for role, keys in found.items()}


def parse_approval(data: bytes, *, where: str) -> Signed:
    """One approval, unverified.

    Raises:
        FormatError: it is none.
    """
    if len(data) > _MAX_BYTES:
        raise FormatError("is too large for an approval", where)
    envelope = parse_envelope(data, where=where)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise FormatError("holds no statement", where)
    statement = parse_statement(envelope.payload, where=where)
    if statement.predicate_type != APPROVAL or len(statement.subjects) != 1:
        raise FormatError("is no approval of one set of facts", where)
    _require_terms(statement.predicate, where)
    name, digest = statement.subjects[0]
    if name != SUBJECT:
        raise FormatError(f"is about {name[:40]!a}, not about the facts", where)
    file = file_name(str(statement.predicate["role"]), envelope.keyid)
    return Signed(file, data, envelope, digest, statement.predicate)


def judge_approvals(
    facts: Facts,
    files: Iterable[bytes],
    *,
    keys: Mapping[str, Sequence[PublicKey]],
    recorders: Iterable[str] = (),
) -> tuple[Approval, ...]:
    """Each approval with its status, then what is still missing.

    Args:
        facts: as they are now.
        files: bytes of each approval.
        keys: that may approve, by role.
        recorders: ids of machines' keys.
    """
    machines = set(recorders)
    judged: list[Approval] = []
    for number, data in enumerate(files, start=1):
        try:
            signed = parse_approval(data, where=f"approval {number}")
        except FormatError:
            judged.append(_broken(data))
            continue
        judged.append(_entry(signed, _status(signed, facts, keys, machines)))
    judged = _without_shared_keys(judged)
    return (*sorted(judged, key=lambda one: (one.role, one.file, one.sha256)),
            *_missing(facts, judged))  # fmt: skip


def _status(
    signed: Signed, facts: Facts, keys: Mapping[str, Sequence[PublicKey]], machines: set[str]
) -> Any:
    key = next(
        (k for k in keys.get(str(signed.terms["role"]), ()) if k.keyid == signed.envelope.keyid),
        None,
    )
    if key is None or key.keyid in machines:
        return "untrusted_key"
    try:
        verify_envelope(signed.envelope, key)
    except SignatureError:
        return "untrusted_key"
    if signed.facts_sha256 != facts.sha256():
        return "out_of_date"
    return "valid" if signed.terms["decision"] == "approve" else "rejected"


def _entry(signed: Signed, status: Any) -> Approval:
    terms = signed.terms
    return Approval(
        role=terms["role"], name=terms["name"], decision=terms["decision"], note=terms["note"],
        time=terms["time"], keyid=signed.envelope.keyid, file=signed.file,
        sha256=hashlib.sha256(signed.data).hexdigest(), status=status,
    )  # fmt: skip


def _broken(data: bytes) -> Approval:
    """A file that is no approval any more, such as one that was edited."""
    digest = hashlib.sha256(data).hexdigest()
    return Approval(role="unknown", file=f"unknown-{digest[:8]}{SUFFIX}", sha256=digest,
                    status="untrusted_key")  # fmt: skip


def _without_shared_keys(judged: Sequence[Approval]) -> list[Approval]:
    """One key fills one role: used for two, it fills neither."""
    counted = [one for one in judged if one.status in ("valid", "out_of_date")]
    roles = Counter(keyid for keyid, _ in {(one.keyid, one.role) for one in counted})
    return [
        one.model_copy(update={"status": "same_key"})
        if one in counted and roles[one.keyid] > 1
        else one
        for one in judged
    ]


def _missing(facts: Facts, judged: Sequence[Approval]) -> Iterable[Approval]:
    valid = Counter(one.role for one in judged if one.status == "valid")
    asked = {
        str(row.cells["role"].value): row.cells["count"].value
        for row in facts.tables.get(_TABLE, ())
    }
    for role, count in (asked or DEFAULT).items():
        wanted = count if isinstance(count, int) else 1
        for _ in range(wanted - valid[role]):
            yield Approval(role=role, status="missing")


def copies(files: Iterable[bytes]) -> dict[str, bytes]:
    """The approvals as they are kept beside the documents."""
    kept: dict[str, bytes] = {}
    for data in files:
        try:
            name = parse_approval(data, where="approval").file
        except FormatError:
            name = _broken(data).file
        kept[f"{FOLDER}{name}"] = data
    return kept


def fault_of_copy(entry: Approval, data: bytes | None) -> str:
    """What does not hold about an approval that the facts list and the file beside them.

    Whether the key is trusted is for whoever knows whom to trust; the terms are compared here.
    """
    if data is None:
        return "is listed, but its file is not there"
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        return "is another file than the one listed"
    if entry.role == "unknown":
        return ""
    try:
        signed = parse_approval(data, where=entry.file)
    except FormatError as error:
        return error.what
    if _entry(signed, entry.status) != entry:
        return "says something else than what is listed"
    return ""


def _require_terms(terms: Mapping[str, Any], where: str) -> None:
    if set(terms) != _FIELDS:
        raise FormatError(f"must have the fields {', '.join(sorted(_FIELDS))}", where)
    texts = _FIELDS - {"documents"}
    if not all(isinstance(terms[name], str) for name in texts):
        raise FormatError("role, name, decision, note and time must be texts", where)
    if not _ROLE.fullmatch(terms["role"]):
        raise FormatError(f"{terms['role'][:40]!a} is no role", where, "for instance model_owner")
    if terms["decision"] not in DECISIONS:
        raise FormatError(f"the decision must be one of {', '.join(DECISIONS)}", where)
    if not terms["name"].strip():
        raise FormatError("an approval needs the name of a person", where)
    if not isinstance(terms["documents"], list):
        raise FormatError("documents must be a list", where)
