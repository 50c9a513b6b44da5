"""Waivers: a named person lets one measured fault of one candidate pass, for a limited time.

A waiver is a signed statement in ``waivers/NAME.dsse`` about the checkpoint's tree. It fits one
pair of one verdict: task, reference, metric, difference and the digest of the verdict as it is
without waivers. What was not measured, a contaminated golden set and a hard limit cannot be waived.
Whether the signature counts is for the caller, who knows the owner's keys; no key is met here, so
that stages may use it.

Source: evaluation page, section 11.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from forebear.errors import (
    EnvironmentFailure,
    FormatError,
    GateError,
    PolicyError,
    SignatureError,
)
from forebear.formats import strictjson
from forebear.formats.dsse import Envelope, parse_envelope
from forebear.formats.statement import (
    PAYLOAD_TYPE,
    WAIVER,
    Statement,
    parse_statement,
    render_statement,
)
from forebear.gate.pairs import GOLDEN, INCONCLUSIVE
from forebear.gate.verdict import FAIL, PASS, SMOKE

PASS_WITH_WAIVERS = "PASS_WITH_WAIVERS"  # noqa: S105  # a verdict
SUBJECT = "checkpoint"
SUFFIX = ".dsse"
FOLDER = "waivers"  # below the verdict, where the ones that were used are kept
MAX_DAYS = 90
MIN_REASON = 40

_FIELDS = {
    "approver",
    "delta",
    "expires",
    "issued",
    "metric",
    "reason",
    "reference",
    "task",
    "verdict_sha256",
}
_TEXTS = sorted(_FIELDS - {"delta"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.dsse")
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Waiver:
    """One waiver, its signature not yet verified.

    Attributes:
        file: name of its file.
        data: the file.
        envelope: as parsed.
        tree: tree digest of the checkpoint that it lets pass.
        terms: task, reference, metric, delta, verdict_sha256, reason, approver, issued, expires.
    """

    file: str
    data: bytes
    envelope: Envelope
    tree: str
    terms: Mapping[str, Any]

    @property
    def expires(self) -> date:
        """The last day on which it counts."""
        return date.fromisoformat(self.terms["expires"])

    def entry(self) -> dict[str, Any]:
        """How it stands in ``gate.json``."""
        return {
            **self.terms,
            "file": self.file,
            "keyid": self.envelope.keyid,
            "sha256": hashlib.sha256(self.data).hexdigest(),
        }


def render_waiver(tree: str, terms: Mapping[str, Any]) -> bytes:
    """Payload for an owner to sign.

    Raises:
        FormatError: a term is missing, unknown or not what it must be.
    """
    _require_terms(terms, "waiver")
    return render_statement(Statement(((SUBJECT, tree),), WAIVER, dict(terms)))


def draft_terms(  # noqa: PLR0913  # one argument per term
    gate: Mapping[str, Any],
    task: str,
    reference: str,
    *,
    metric: str | None = None,
    reason: str,
    approver: str,
    issued: date,
    expires: date,
) -> dict[str, Any]:
    """Terms of a waiver that fits the verdict.

    Args:
        gate: value of ``gate.json``, without or with waivers.
        task: of the pair that does not pass.
        reference: the run that it is compared with.
        metric: of the task; may be left out where the gate compares only one.
        reason: at least 40 characters.
        approver: a person.
        issued: today.
        expires: the last day on which it counts, at most 90 days on.

    Raises:
        GateError: the pair is none of the verdict's, passes, or can never be waived; or a metric
            must be named.
        FormatError: reason, approver or days are not what they must be.
    """
    before = without_waivers(gate)
    try:
        pair = _find(before["pairs"], task, reference, metric)
        terms = {
            **{name: pair[name] for name in ("task", "reference", "metric", "delta")},
            "verdict_sha256": verdict_digest(before),
            "reason": reason,
            "approver": approver,
            "issued": issued.isoformat(),
            "expires": expires.isoformat(),
        }
        why = _not_waivable(terms, pair)
    except (KeyError, TypeError) as error:
        raise FormatError(f"is no verdict: {error}", "gate.json") from error
    if why:
        raise GateError(why, "gate.json", "read the reasons of the pair; train or measure on")
    _require_terms(terms, "waiver")
    return terms


def _find(
    pairs: Sequence[Mapping[str, Any]], task: str, reference: str, metric: str | None
) -> Mapping[str, Any]:
    found = [
        pair
        for pair in pairs
        if (pair["task"], pair["reference"]) == (task, reference)
        and metric in {None, pair["metric"]}
    ]
    if not found:
        named = f"{task[:60]!a}{f' by {metric[:40]!a}' if metric else ''}"
        raise GateError(f"the gate does not compare {named} with {reference[:60]!a}", "gate.json")
    if len(found) > 1:
        names = ", ".join(str(pair["metric"]) for pair in found)
        raise GateError(f"{task[:60]!a} is compared by {names}", "gate.json", "name the metric")
    return found[0]


def parse_waiver(data: bytes, *, where: str) -> Waiver:
    """Waiver in the file ``where``, unverified.

    Raises:
        FormatError: no envelope around a waiver, or a term is missing, unknown or malformed.
    """
    envelope = parse_envelope(data, where=where)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise FormatError(f"the payload type must be {PAYLOAD_TYPE}", where)
    statement = parse_statement(envelope.payload, where=where)
    if statement.predicate_type != WAIVER:
        raise FormatError("is no waiver", where)
    if [name for name, _ in statement.subjects] != [SUBJECT]:
        raise FormatError(f"must be about one {SUBJECT}", where)
    _require_terms(statement.predicate, where)
    name = where.rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise FormatError(f"the file must be named like name{SUFFIX}, in plain letters", where)
    return Waiver(name, data, envelope, statement.subjects[0][1], dict(statement.predicate))


def load_waivers(folder: Path) -> list[Waiver]:
    """Every ``*.dsse`` in ``folder``, by name; empty where there is no such folder.

    Raises:
        FormatError: a file is no waiver.
        EnvironmentFailure: it cannot be read.
    """
    found = []
    for file in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        try:
            with file.open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise EnvironmentFailure(f"cannot read: {error.strerror}", str(file)) from error
        found.append(parse_waiver(data[:_MAX_BYTES], where=file.as_posix()))
    return found


def verdict_digest(gate: Mapping[str, Any]) -> str:
    """Digest of the verdict that a waiver names: the file as it is without waivers."""
    return hashlib.sha256(strictjson.dumps(dict(gate))).hexdigest()


def waive(gate: Mapping[str, Any], waivers: Iterable[Waiver]) -> dict[str, Any]:
    """The verdict with waivers taken into account; unchanged unless they cover every fault.

    Args:
        gate: as ``decide`` gives it.
        waivers: any; those that do not fit are left out, see :func:`misfit`.
    """
    value = dict(gate)
    if gate["verdict"] in {PASS, SMOKE}:
        return value
    if any(limit["verdict"] != PASS for limit in gate.get("limits", ())):
        return value  # a hard limit is hard
    fitting: dict[tuple[str, str, str], Waiver] = {}
    for waiver in waivers:
        if not misfit(waiver, gate):
            fitting.setdefault(_pair_of(waiver.terms), waiver)
    blocking = [_pair_of(pair) for pair in gate["pairs"] if pair["verdict"] != PASS]
    if not blocking or any(pair not in fitting for pair in blocking):
        return value
    value["waivers"] = [fitting[pair].entry() for pair in sorted(blocking)]
    value["verdict"] = PASS_WITH_WAIVERS
    return value


def misfit(waiver: Waiver, gate: Mapping[str, Any]) -> str:
    """Why the waiver does not apply to this verdict; empty when it does."""
    terms = waiver.terms
    if waiver.tree != gate["candidate_tree"]:
        return f"is for the checkpoint {waiver.tree:.12}…, not for this one"
    if terms["verdict_sha256"] != verdict_digest(gate):
        return "names another verdict than the one that was decided"
    pair = next((one for one in gate["pairs"] if _pair_of(one) == _pair_of(terms)), None)
    if pair is None:
        task = f"{terms['task']} by {terms['metric']}"
        return f"the gate does not compare {task} with {terms['reference']}"
    return _not_waivable(terms, pair)


def _not_waivable(terms: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    if pair["verdict"] == PASS:
        return "nothing is to be waived: the pair passes"
    if pair["delta"] is None:
        return "what was not measured cannot be waived"
    if any(str(reason).startswith(GOLDEN) for reason in pair["reasons"]):
        return "contamination of the golden set cannot be waived"
    if terms["delta"] != pair["delta"]:
        return "names another difference than the one that was measured"
    return ""


def faults(
    waiver: Waiver, gate: Mapping[str, Any], *, verify: Callable[[Envelope], None], now: datetime
) -> Iterator[str]:
    """What speaks against a waiver that a verdict rests on.

    Args:
        waiver: as parsed from its file.
        gate: the verdict as decided without waivers.
        verify: raises SignatureError or PolicyError unless a trusted owner signed the envelope.
        now: time to judge expiry by, with a time zone.
    """
    try:
        verify(waiver.envelope)
    except (SignatureError, PolicyError) as error:
        yield f"is not signed by a trusted owner: {error.what}"
    if now.date() > waiver.expires:
        yield f"expired on {waiver.expires}"
    why = misfit(waiver, gate)
    if why:
        yield why


def unfit(
    gate: Mapping[str, Any],
    before: Mapping[str, Any],
    waivers: Sequence[Waiver],
    *,
    verify: Callable[[Envelope], None],
    now: datetime,
) -> list[tuple[str, str]]:
    """File and fault of everything wrong with the waivers that a verdict lists; empty is good.

    Args:
        gate: value of ``gate.json``.
        before: the verdict without waivers: decided again, or :func:`without_waivers`.
        waivers: the files that lie beside it.
        verify: as for :func:`faults`.
        now: as for :func:`faults`.
    """
    listed = gate.get("waivers")
    entries = listed if isinstance(listed, list) else []
    by_name = {waiver.file: waiver for waiver in waivers}
    found = []
    for entry in entries:
        name = str(entry.get("file")) if isinstance(entry, dict) else "?"
        waiver = by_name.get(name)
        if waiver is None or waiver.entry() != entry:
            found.append((name, "is not the waiver that the verdict lists"))
            continue
        found += [(name, fault) for fault in faults(waiver, before, verify=verify, now=now)]
    if gate.get("verdict") == PASS_WITH_WAIVERS and not entries:
        found.append(("gate.json", "passes with waivers, but lists none"))
    return found


def without_waivers(gate: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict as it was before :func:`waive`, which keeps the pairs as they are.

    Raises:
        FormatError: it has no pairs.
    """
    value = dict(gate)
    if gate.get("verdict") == PASS_WITH_WAIVERS:
        try:
            verdicts = {pair["verdict"] for pair in gate["pairs"]}
        except (KeyError, TypeError) as error:
            raise FormatError(f"is no verdict: {error}", "gate.json") from error
        value["waivers"] = []
        value["verdict"] = FAIL if FAIL in verdicts else INCONCLUSIVE
    return value


def _pair_of(terms: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(terms["task"]), str(terms["metric"]), str(terms["reference"])


def _require_terms(terms: Mapping[str, Any], where: str) -> None:
    if terms.keys() != _FIELDS:
        raise FormatError(f"a waiver has exactly the fields {', '.join(sorted(_FIELDS))}", where)
    for name in _TEXTS:
        if not isinstance(terms[name], str) or not terms[name].strip():
            raise FormatError(f"{name} must be a text, not empty", where)
    delta = terms["delta"]
    if isinstance(delta, bool) or not isinstance(delta, int | float):
        raise FormatError("delta must be a number", where)
    if len(terms["reason"].strip()) < MIN_REASON:
        raise FormatError(f"the reason must have at least {MIN_REASON} characters", where)
    issued, expires = (_day(terms[name], f"{where}: {name}") for name in ("issued", "expires"))
    if not 0 <= (expires - issued).days <= MAX_DAYS:
        raise FormatError(f"must expire at most {MAX_DAYS} days after it is issued", where)


def _day(text: str, where: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise FormatError("must be a day such as 2026-11-24", where) from error
    if day.isoformat() != text:
        raise FormatError("must be a day such as 2026-11-24", where)
    return day
