from __future__ import annotations

from pathlib import Path

import pytest

from forebear.errors import FormatError
from forebear.evidence.store import Evidence
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Check, Failed, Finding, Passed, Unchecked, Verdict
from forebear.verify.run import verify

POLICY = TrustPolicy(owner_keys=())


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence("release", tmp_path, tmp_path)


def giving(verdict: Verdict):
    return lambda *_: verdict


def raising(error: Exception):
    def check(*_):
        raise error

    return check


def run(evidence: Evidence, *checks: Check) -> dict[str, Verdict]:
    report = verify(evidence, POLICY, checks=checks)
    return {result.id: result.verdict for result in report.results}


def test_a_check_that_breaks_down_has_failed(evidence: Evidence):
    verdicts = run(evidence, Check("C4", "disk", raising(RuntimeError("oops"))))
    assert isinstance(verdicts["C4"], Failed)
    assert verdicts["C4"].internal
    assert "oops" in verdicts["C4"].findings[0].text


def test_dependants_of_a_failure_are_unchecked_and_others_still_run(evidence: Evidence):
    verdicts = run(
        evidence,
        Check("C2", "layout", giving(Failed((Finding("x", "y"),)))),
        Check("C3", "rules", giving(Passed("held")), ("C2",)),
        Check("C7", "confinement", giving(Passed("held")), ("C3",)),
        Check("C4", "disk", giving(Passed("held"))),
    )
    assert isinstance(verdicts["C3"], Unchecked)
    assert isinstance(verdicts["C7"], Unchecked)
    assert verdicts["C4"] == Passed("held")


def test_a_check_whose_base_was_never_run_is_unchecked(evidence: Evidence):
    verdicts = run(evidence, Check("C3", "rules", giving(Passed("held")), ("C2",)))
    assert isinstance(verdicts["C3"], Unchecked)


def test_a_document_that_c1_refused_leaves_others_unchecked(evidence: Evidence):
    verdicts = run(
        evidence,
        Check("C1", "forms", giving(Failed((Finding("x", "y"),)))),
        Check("C5", "trees", raising(FormatError("is odd", "pipeline.json"))),
    )
    assert isinstance(verdicts["C5"], Unchecked)


def test_a_format_error_that_c1_did_not_see_is_a_failure(evidence: Evidence):
    verdicts = run(
        evidence,
        Check("C1", "forms", giving(Passed("held"))),
        Check("C5", "trees", raising(FormatError("is odd", "pipeline.json"))),
    )
    assert isinstance(verdicts["C5"], Failed)


def test_an_empty_folder_fails_c1_and_passes_nothing_of_the_core(evidence: Evidence):
    report = verify(evidence, POLICY)
    status = {result.id: result.status for result in report.results}
    assert status["C1"] == "failed"
    assert "passed" not in {status[check] for check in ("C1", "C2", "C3", "C4", "C6")}
    assert report.exit_code() == 1
