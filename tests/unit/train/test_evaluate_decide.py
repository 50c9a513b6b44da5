"""The ``eval`` stage on run folders: contamination, waivers, previous release, what is written."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import GateError
from forebear.formats import strictjson
from forebear.formats.link import PAYLOAD_TYPE
from forebear.gate.again import recompute
from forebear.gate.waiver import draft_terms, render_waiver
from forebear.signing.keys import create_key, load_signer
from forebear.signing.signer import sign_envelope
from forebear.train.evaluate.decide import EvalParams, Searched, evaluate
from tests.unit.gate.folders import write_run

N = 200
SECTION: dict[str, Any] = {"first_release": True, "margins": {"mc4": 0.1}, "contamination": {}}


def question(number: int) -> dict[str, Any]:
    title = f"Disorder number {number} of the left knee with a very long and careful description"
    return {
        "id": f"mc4{number:05}", "description": title, "code": f"M{number:03}.1",
        "choices": ["A", "B", "C", "D"], "answer": 0, "stratum": "M",
    }  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Golden set, corpus and two runs; the candidate is a little better."""
    lines = b"".join(strictjson.dumps(question(number)) for number in range(N))
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "mc4.jsonl").write_bytes(lines)
    identity = {"source": "golden/mc4.jsonl", "data_sha256": hashlib.sha256(lines).hexdigest()}
    runs = tmp_path / "data" / "measure"
    for name, right in (("final", 120), ("base", 100), ("released", 110)):
        values = [1.0] * right + [0.0] * (N - right)
        write_run(runs / name, {"mc4": values}, identity=identity)
        summary = {"schema": "forebear/summary/v2", "name": name, "records": []}
        (runs / name / "summary.json").write_bytes(strictjson.dumps(summary))
    write_corpus(tmp_path, "A text about something else altogether.")
    return tmp_path


def write_corpus(place: Path, *texts: str) -> None:
    (place / "corpus").mkdir(exist_ok=True)
    rows = (
        {"id": f"own:{n}", "source": "own", "licence": "MIT", "text": text}
        for n, text in enumerate(texts)
    )
    (place / "corpus" / "instruction.jsonl").write_bytes(b"".join(map(strictjson.dumps, rows)))


def decided(place: Path, *, previous: bool = False, **changes: Any) -> dict[str, Any]:
    """The verdict that the stage writes, whether it blocks or not."""
    runs, out = place / "data" / "measure", place / "data" / "eval" / "verdict"
    params = EvalParams.model_validate({"seed": 7, **SECTION, **changes})
    try:
        evaluate(
            params,
            candidate=runs / "final",
            references=[runs / "base"],
            golden=place / "golden",
            out=out,
            metrics_file=place / "metrics.json",
            previous=runs / "released" if previous else None,
            searched=Searched(corpus=place / "corpus"),
            waivers=place / "waivers",
        )
    except GateError as error:
        assert "so nothing after this stage runs" in error.what  # noqa: PT017  # either is looked at
    value: dict[str, Any] = json.loads((out / "gate.json").read_bytes())
    return value


def test_a_clean_candidate_passes_and_everything_is_written(place: Path) -> None:
    gate = decided(place)
    assert gate["verdict"] == "PASS"
    verdict = place / "data/eval/verdict"
    assert {file.name for file in verdict.iterdir()} == {
        "gate.json", "comparison.json", "contamination.json", "report.html", "plots",
    }  # fmt: skip
    found = (verdict / "contamination.json").read_bytes()
    assert gate["contamination_sha256"] == hashlib.sha256(found).hexdigest()
    assert (verdict / "report.html").read_bytes().startswith(b"<!")
    assert json.loads((place / "metrics.json").read_bytes())["base"]["mc4"]["delta"] == 0.1
    assert recompute(place).same


def test_two_runs_of_the_stage_write_the_same_bytes(place: Path) -> None:
    verdict = place / "data/eval/verdict"
    written = []
    for _ in range(2):
        decided(place)
        written.append({one: one.read_bytes() for one in verdict.rglob("*") if one.is_file()})
    assert written[0] == written[1]


def test_a_golden_question_in_the_training_texts_fails_with_the_ledgers_leaf(place: Path) -> None:
    pasted = f"{question(7)['description']} {question(7)['code']}"
    write_corpus(place, pasted)
    gate = decided(place)
    assert gate["verdict"] == "FAIL"
    (reason,) = gate["pairs"][0]["reasons"]
    assert reason.startswith("contaminated golden set: 1 of 200")
    assert f"ledger leaf {hashlib.sha256(pasted.encode()).hexdigest()}" in reason
    with pytest.raises(GateError, match="golden set cannot be waived"):
        draft_terms(
            gate, "mc4", "base", reason="it is only one of two hundred questions, after all",
            approver="A. Person", issued=date(2026, 11, 1), expires=date(2026, 11, 30),
        )  # fmt: skip
    assert recompute(place).same


def test_training_texts_that_are_not_searched_block(place: Path) -> None:
    (place / "corpus" / "instruction.jsonl").unlink()
    assert decided(place)["verdict"] == "PASS"  # an empty corpus was searched
    runs = place / "data" / "measure"
    with pytest.raises(GateError, match="INCONCLUSIVE"):
        evaluate(
            EvalParams.model_validate({"seed": 7, **SECTION}),
            candidate=runs / "final",
            references=[runs / "base"],
            golden=place / "golden",
            out=place / "out",
            metrics_file=place / "metrics.json",
        )


def test_the_previous_release_is_compared_under_that_name(place: Path) -> None:
    gate = decided(place, previous=True, first_release=False)
    assert [one["name"] for one in gate["references"]] == ["base", "previous"]
    assert [(one["reference"], one["verdict"]) for one in gate["pairs"]] == [
        ("base", "PASS"), ("previous", "PASS"),
    ]  # fmt: skip
    assert recompute(place).same


def test_a_waiver_that_fits_lets_the_verdict_pass_and_an_edited_one_does_not(place: Path) -> None:
    signer = load_signer(create_key("owner", place / "keys", None)[0])
    rule = {"required": {"mc4": {"vs": "base", "min_delta": 0.5}}}
    gate = decided(place, **rule)
    assert gate["verdict"] == "INCONCLUSIVE"
    terms = draft_terms(
        gate, "mc4", "base", reason="the gain that we wanted is out of reach this month",
        approver="A. Person", issued=date(2026, 11, 1), expires=date(2026, 11, 30),
    )  # fmt: skip
    (place / "waivers").mkdir()
    file = place / "waivers" / "mc4.dsse"
    for changes, expected in (({"delta": 0.2}, "INCONCLUSIVE"), ({}, "PASS_WITH_WAIVERS")):
        payload = render_waiver(gate["candidate_tree"], {**terms, **changes})
        file.write_bytes(sign_envelope(signer, payload, PAYLOAD_TYPE))
        assert decided(place, **rule)["verdict"] == expected
    assert (place / "data/eval/verdict/waivers/mc4.dsse").read_bytes() == file.read_bytes()
    assert recompute(place).same
