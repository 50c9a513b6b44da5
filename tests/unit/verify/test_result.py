from __future__ import annotations

import pytest

from forebear.verify.result import (
    CORE,
    CheckResult,
    Failed,
    Finding,
    Passed,
    Report,
    Unchecked,
    Verdict,
    failed,
)

FAILED = Failed((Finding("file", "is odd"),))


def report(**verdicts: Verdict) -> Report:
    every = {**{check: Passed("held") for check in CORE}, "C7": Passed("held"), **verdicts}
    results = tuple(CheckResult(check, "a check", verdict) for check, verdict in every.items())
    return Report(results, "release", "a key")


def test_all_passed_is_0_also_when_strict():
    assert report().exit_code() == 0
    assert report().exit_code(strict=True) == 0


@pytest.mark.parametrize("check", [*CORE, "C7"])
def test_one_failed_is_1(check: str):
    assert report(**{check: FAILED}).exit_code() == 1
    assert report(**{check: FAILED}).exit_code(strict=True) == 1


@pytest.mark.parametrize("check", CORE)
def test_a_core_check_unchecked_is_3(check: str):
    assert report(**{check: Unchecked("why")}).exit_code() == 3


def test_another_check_unchecked_is_0_and_3_when_strict():
    assert report(C7=Unchecked("why")).exit_code() == 0
    assert report(C7=Unchecked("why")).exit_code(strict=True) == 3


def test_a_failure_outweighs_an_unchecked_core_check():
    assert report(C1=Unchecked("why"), C7=FAILED).exit_code() == 1


def test_a_report_without_results_is_no_pass():
    assert Report((), "release", "a key").exit_code() == 3


def test_failed_with_no_findings_is_passed_and_with_one_is_not():
    assert failed([], "fine") == Passed("fine")
    assert failed([Finding("file", "is odd")], "fine") == FAILED


def test_json_tells_the_same_as_the_results():
    value = report(C2=FAILED, C7=Unchecked("why")).to_json()
    assert value["counts"] == {"passed": 5, "failed": 1, "unchecked": 1}
    assert value["exit_code"] == 1
    by_id = {entry["id"]: entry for entry in value["checks"]}
    assert by_id["C2"]["findings"] == [{"path": "file", "text": "is odd"}]
    assert by_id["C7"]["reason"] == "why"
    assert by_id["C1"]["note"] == "held"
