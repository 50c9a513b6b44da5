"""Waivers: what fits, what never may, and how long. Evaluation page, 16.16."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import FormatError, SignatureError
from forebear.formats.dsse import Envelope
from forebear.formats.link import PAYLOAD_TYPE
from forebear.gate.verdict import decide
from forebear.gate.waiver import (
    PASS_WITH_WAIVERS,
    Waiver,
    faults,
    load_waivers,
    misfit,
    parse_waiver,
    render_waiver,
    unfit,
    verdict_digest,
    waive,
    without_waivers,
)
from forebear.signing.keys import Signer, create_key, load_signer
from forebear.signing.signer import sign_envelope, verify_envelope
from tests.unit.gate.runs import paired, run, settings, task_run

TREE = "f" * 64
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return load_signer(create_key("owner", tmp_path_factory.mktemp("keys"), None)[0])


def gate(**tasks: tuple[int, int, int]) -> dict[str, Any]:
    """A verdict on a candidate with the tree ``TREE``; (losses, gains, n) of each task."""
    margins = dict.fromkeys(tasks, 0.02)
    candidate, base = paired(**tasks)
    gate_settings = settings(margins=margins)
    return {**decide(candidate, [base], gate_settings), "candidate_tree": TREE}


FAILING = gate(mc4=(30, 14, 500))


def terms(value: dict[str, Any], task: str = "mc4", **changes: Any) -> dict[str, Any]:
    pair = next(pair for pair in value["pairs"] if pair["task"] == task)
    return {
        **{name: pair[name] for name in ("task", "reference", "metric", "delta")},
        "verdict_sha256": verdict_digest(value),
        "reason": "a known gap of the golden set; the next release closes it",
        "approver": "A. Person",
        "issued": "2026-11-01",
        "expires": "2026-12-01",
        **changes,
    }


def signed(signer: Signer, fields: dict[str, Any], tree: str = TREE) -> Waiver:
    data = sign_envelope(signer, render_waiver(tree, fields), PAYLOAD_TYPE)
    return parse_waiver(data, where=f"waivers/{fields['task']}.dsse")


def test_a_fitting_waiver_lets_the_gate_pass_and_is_listed(signer: Signer) -> None:
    waiver = signed(signer, terms(FAILING))
    value = waive(FAILING, [waiver])
    assert value["verdict"] == PASS_WITH_WAIVERS
    assert value["waivers"] == [waiver.entry()]
    assert value["pairs"] == FAILING["pairs"]
    assert without_waivers(value) == FAILING


@pytest.mark.parametrize(
    "changes",
    [
        {"delta": -0.01},
        {"metric": "f1"},
        {"reference": "previous"},
        {"verdict_sha256": "0" * 64},
    ],
)
def test_a_waiver_of_something_else_changes_nothing(
    signer: Signer, changes: dict[str, Any]
) -> None:
    waiver = signed(signer, terms(FAILING, **changes))
    assert misfit(waiver, FAILING)
    assert waive(FAILING, [waiver]) == FAILING


def test_a_waiver_of_another_checkpoint_changes_nothing(signer: Signer) -> None:
    waiver = signed(signer, terms(FAILING), tree="e" * 64)
    assert "is for the checkpoint eeee" in misfit(waiver, FAILING)
    assert waive(FAILING, [waiver]) == FAILING


def test_every_fault_needs_its_own_waiver(signer: Signer) -> None:
    value = gate(mc4=(30, 14, 500), mmlu_pro=(40, 10, 500))
    one, other = (signed(signer, terms(value, task)) for task in ("mc4", "mmlu_pro"))
    assert waive(value, [one]) == value
    assert waive(value, [one, other])["verdict"] == PASS_WITH_WAIVERS
    assert waive(value, [other, one]) == waive(value, [one, other])


def test_what_was_not_measured_cannot_be_waived(signer: Signer) -> None:
    value = {**FAILING, "pairs": [{**FAILING["pairs"][0], "delta": None}]}
    waiver = signed(signer, terms(value, delta=0))
    assert misfit(waiver, value) == "what was not measured cannot be waived"
    assert waive(value, [waiver]) == value


def contaminated(source: str) -> dict[str, Any]:
    """A verdict on a task of which two items stand in the training texts."""
    ours, theirs = (
        run(name, {"mc4": task_run("mc4", [1.0] * 100, source=source)})
        for name in ("final", "base")
    )
    gate_settings = settings(margins={"mc4": 0.1}, contamination={})
    found = {"sets": {"mc4": {"all": ["00000", "00001"]}}}
    return {**decide(ours, [theirs], gate_settings, found), "candidate_tree": TREE}


def test_contamination_of_the_golden_set_cannot_be_waived(signer: Signer) -> None:
    golden = contaminated("golden/mc4.jsonl")
    assert golden["verdict"] == "FAIL"
    waiver = signed(signer, terms(golden))
    assert misfit(waiver, golden) == "contamination of the golden set cannot be waived"
    assert waive(golden, [waiver]) == golden


def test_contamination_of_another_set_can(signer: Signer) -> None:
    value = contaminated("mmlu_pro/test.jsonl")
    assert value["verdict"] == "INCONCLUSIVE"
    assert waive(value, [signed(signer, terms(value))])["verdict"] == PASS_WITH_WAIVERS


def test_a_hard_limit_is_not_waived_beside_a_pair(signer: Signer) -> None:
    value = {**FAILING, "limits": [{"task": "harmbench", "verdict": "FAIL"}]}
    waiver = signed(signer, terms(value))
    assert not misfit(waiver, value)
    assert waive(value, [waiver]) == value


def test_a_passing_gate_uses_no_waiver(signer: Signer) -> None:
    passing = gate(mc4=(4, 6, 1000))
    assert passing["verdict"] == "PASS"
    assert waive(passing, [signed(signer, terms(passing))]) == passing


def test_faults_name_signature_and_expiry(signer: Signer) -> None:
    def accept(envelope: Envelope) -> None:
        verify_envelope(envelope, signer.public)

    def refuse(envelope: Envelope) -> None:
        raise SignatureError(f"key {envelope.keyid:.4} is unknown")

    waiver = signed(signer, terms(FAILING))
    last_day = datetime(2026, 12, 1, 23, 59, tzinfo=UTC)
    assert not list(faults(waiver, FAILING, verify=accept, now=last_day))
    after = datetime(2026, 12, 2, tzinfo=UTC)
    assert list(faults(waiver, FAILING, verify=accept, now=after)) == ["expired on 2026-12-01"]
    (fault,) = faults(waiver, FAILING, verify=refuse, now=NOW)
    assert "not signed by a trusted owner" in fault


def test_a_listed_waiver_must_be_the_file_beside_the_verdict(signer: Signer) -> None:
    def accept(envelope: Envelope) -> None:
        verify_envelope(envelope, signer.public)

    waiver = signed(signer, terms(FAILING))
    value = waive(FAILING, [waiver])
    edited = {**value, "waivers": [{**waiver.entry(), "approver": "B. Person"}]}
    assert not unfit(value, FAILING, [waiver], verify=accept, now=NOW)
    for gate_value, files in ((value, []), (edited, [waiver])):
        ((name, _),) = unfit(gate_value, FAILING, files, verify=accept, now=NOW)
        assert name == "mc4.dsse"
    nothing = {**value, "waivers": []}
    assert unfit(nothing, FAILING, [waiver], verify=accept, now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": "2027-02-01"},  # 92 days
        {"expires": "2026-10-31"},
        {"expires": "tomorrow"},
        {"expires": "20261201"},
        {"reason": "because"},
        {"approver": " "},
        {"delta": "0.1"},
        {"delta": True},
        {"extra": 1},
    ],
)
def test_a_malformed_waiver_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        render_waiver(TREE, terms(FAILING, **changes))


def test_ninety_days_are_allowed() -> None:
    assert render_waiver(TREE, terms(FAILING, expires="2027-01-30"))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"payload":1}\n'])
def test_any_bytes_end_in_a_format_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.dsse").write_bytes(data)
    with pytest.raises(FormatError):
        load_waivers(tmp_path)


def test_waivers_are_read_by_name_and_a_missing_folder_holds_none(
    signer: Signer, tmp_path: Path
) -> None:
    for name in ("b.dsse", "a.dsse"):
        payload = render_waiver(TREE, terms(FAILING))
        (tmp_path / name).write_bytes(sign_envelope(signer, payload, PAYLOAD_TYPE))
    (tmp_path / "README.md").write_text("waivers\n")
    assert [waiver.file for waiver in load_waivers(tmp_path)] == ["a.dsse", "b.dsse"]
    assert load_waivers(tmp_path / "nowhere") == []
