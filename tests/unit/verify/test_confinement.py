"""C7: what links tell of confinement, against the pipeline and the trust policy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from forebear.pipeline import Pipeline, Stage
from forebear.verify.checks.c07_confinement import check_confinement
from forebear.verify.result import Failed, Passed, Unchecked

ENFORCED = {"level": "enforced", "mechanism": "landlock", "abi": 7, "network": "none",
            "denied": [], "reason": "", "grants": []}  # fmt: skip


def _evidence(report: object, **options: object):
    stage = Stage("s", "forebear record s -- x", meta={"forebear": options})
    link = SimpleNamespace(byproducts={"forebear": {"confinement": report}})
    return SimpleNamespace(
        links={"s": SimpleNamespace(link=link, path="links/s.12345678.link"),
               "source": SimpleNamespace()},
        pipeline=Pipeline((stage,)),
    )  # fmt: skip


def _check(report: object, least: str | None = None, **options: object):
    return check_confinement(_evidence(report, **options), SimpleNamespace(min_confinement=least))


def test_enforced_stages_pass_without_a_policy_and_with_any():
    for least in (None, "unchecked", "observed", "enforced"):
        assert isinstance(_check(ENFORCED, least), Passed)


@pytest.mark.parametrize(
    ("report", "shown", "passes"),
    [
        ({**ENFORCED, "level": "observed", "mechanism": "strace"}, "observed (process)",
         "observed"),
        ({**ENFORCED, "level": "observed", "mechanism": "audit hook"}, "observed (python)",
         "observed"),
        ({**ENFORCED, "network": "allowed"}, "with an open network", "unchecked"),
        ({**ENFORCED, "level": "unchecked", "mechanism": "none"}, "unchecked", "unchecked"),
        ({}, "unchecked", "unchecked"),
        (None, "unchecked", "unchecked"),
        ({**ENFORCED, "level": "absolute"}, "unchecked", "unchecked"),
        ({"level": "enforced"}, "with an open network", "unchecked"),
    ],
)  # fmt: skip
def test_less_is_unchecked_without_a_policy_and_fails_by_policy(report, shown, passes):
    verdict = _check(report)
    assert isinstance(verdict, Unchecked)
    assert shown in verdict.reason
    verdict = _check(report, "enforced")
    assert isinstance(verdict, Failed)
    assert verdict.findings[0].path == "links/s.12345678.link"
    assert shown in verdict.findings[0].text
    assert isinstance(_check(report, passes), Passed)


def test_the_reason_that_the_recorder_gives_stands_in_the_finding():
    report = {**ENFORCED, "level": "unchecked", "reason": "ENOSYS: no Landlock"}
    verdict = _check(report, "enforced")
    assert isinstance(verdict, Failed)
    assert "ENOSYS" in verdict.findings[0].text


@pytest.mark.parametrize(
    ("changed", "declared"),
    [
        ({"network": "declared"}, {"network": True}),
        ({"grants": ["repository"]}, {"reads": ["repository"]}),
    ],
)
def test_what_a_stage_was_given_must_be_declared_and_is_told(changed, declared):
    report = {**ENFORCED, **changed}
    verdict = _check(report)
    assert isinstance(verdict, Failed)
    assert "dvc.yaml does not declare" in verdict.findings[0].text
    verdict = _check(report, "enforced", **declared)
    assert isinstance(verdict, Passed)
    assert "s had" in verdict.note


def test_no_tcp_counts_as_enforced():
    assert isinstance(_check({**ENFORCED, "network": "no TCP"}, "enforced"), Passed)
