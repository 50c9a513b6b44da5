"""How licences combine (compliance page, section 10 and 13.18 to 13.20)."""

from __future__ import annotations

from typing import Any

import pytest

from forebear.documents.licences import Context, Item, Report, Review, combine
from forebear.documents.licencetable import find, find_terms, load_table

DE = Context(in_union=True, monetised=False, mau=1000, distributed=True, name="acme-icd",
             has_notice=False)  # fmt: skip


def _context(**more: Any) -> Context:
    known = {name: getattr(DE, name) for name in Context.__slots__}
    return Context(**(known | more))


def _item(licence: str | None, use: Any, name: str = "") -> Item:
    called = name or f"the {use}"
    return Item(called, called, licence, use, (f"facts.{called}",))


def _combined(*items: Item, declared: str | None = "Apache-2.0", context: Context = DE,
              **more: Any) -> Report:  # fmt: skip
    by_use = {use: [one for one in items if one.use == use] for use in
              ("base", "dataset", "evaluation", "teacher", "merge", "judge")}  # fmt: skip
    return combine(
        by_use["base"], [*by_use["dataset"], *by_use["evaluation"]], by_use["teacher"],
        by_use["merge"], None if declared is None else _item(declared, "output"), context,
        judges=by_use["judge"], **more,
    )  # fmt: skip


def _kinds(report: Report) -> set[str]:
    return {duty.kind for duty in report.duties}


def test_permissive_items_are_fine_and_leave_notices() -> None:
    report = _combined(_item("Apache-2.0", "base"), _item("CC0-1.0", "dataset"))
    assert (report.status, report.open_eu, report.conflicts) == ("ok", "yes", ())
    assert _kinds(report) == {"notice"}


def test_attribution_is_listed() -> None:
    report = _combined(_item("MIT", "base"), _item("CC-BY-4.0", "dataset"))
    assert report.status == "ok"
    assert "attribution" in _kinds(report)


@pytest.mark.parametrize("licence", ["CC-BY-SA-4.0", "GPL-3.0-only", "CC-BY-ND-4.0", "Foo-1.0",
                                     "LicenseRef-Contract", None])  # fmt: skip
def test_what_the_table_cannot_decide_needs_a_review(licence: str | None) -> None:
    report = _combined(_item("MIT", "base"), _item(licence, "dataset", "corpus"))
    assert report.status == "needs_review"
    review = Review("corpus", "fine", "A. Lawyer", "counsel", "2026-11-01", lifts=True)
    cleared = _combined(_item("MIT", "base"), _item(licence, "dataset", "corpus"),
                        reviews={"corpus": review})  # fmt: skip
    judged = next(one for one in cleared.items if one.item.name == "corpus")
    assert cleared.status == "ok"
    assert "conclusion of A. Lawyer" in judged.reason


def test_a_review_that_lifts_nothing_changes_nothing() -> None:
    review = Review("corpus", "not allowed", "A. Lawyer", "counsel", "2026-11-01", lifts=False)
    report = _combined(_item("MIT", "base"), _item("Foo", "dataset", "corpus"),
                       reviews={"corpus": review})  # fmt: skip
    assert report.status == "needs_review"


def test_llama_withholds_rights_in_the_union() -> None:
    llama = _item("llama4", "base")
    assert _combined(llama, declared="llama4").status == "conflict"
    abroad = _combined(llama, declared="llama4", context=_context(in_union=False))
    assert (abroad.status, abroad.conflicts) == ("obligations", ())
    assert _combined(llama, declared="llama4", context=_context(in_union=None)).status == (
        "needs_review"
    )


def test_llama_asks_for_name_notice_and_display() -> None:
    llama = _item("LicenseRef-Llama-4-Community", "base")
    report = _combined(llama, declared="llama4", context=_context(in_union=False))
    met = {duty.kind: duty.met for duty in report.duties}
    assert (met["naming"], met["notice"], met["display"]) == (False, False, True)
    assert report.notices == ("Built with Llama",)
    fine = _context(in_union=False, name="Llama-acme-icd", has_notice=True)
    met = {duty.kind: duty.met for duty in _combined(llama, declared="llama4", context=fine).duties}
    assert (met["naming"], met["notice"]) == (True, True)


def test_llama_has_a_cap_on_users_and_is_not_open() -> None:
    llama = _item("llama3.1", "base")
    many = _combined(llama, declared="llama3.1", context=_context(mau=800_000_000))
    few = _combined(llama, declared="llama3.1", context=_context(mau=700_000_000))
    assert (many.status, few.status) == ("conflict", "obligations")
    assert few.capped
    assert few.open_eu == "no"


def test_a_wider_licence_than_a_duty_is_a_conflict() -> None:
    report = _combined(_item("llama3.1", "base"), declared="Apache-2.0")
    assert [one.rule for one in report.conflicts] == ["declared licence is wider than a duty"]
    assert _combined(_item("llama3.1", "base"), declared="llama3.1").conflicts == ()


@pytest.mark.parametrize(
    ("monetised", "status"), [(True, "conflict"), (False, "obligations"), (None, "needs_review")]
)
def test_non_commercial_data_depend_on_payment(monetised: bool | None, status: str) -> None:
    report = _combined(_item("MIT", "base"), _item("CC-BY-NC-4.0", "dataset"),
                       context=_context(monetised=monetised))  # fmt: skip
    assert report.status == status
    assert "non_commercial" in _kinds(report)


@pytest.mark.parametrize("terms", ["LicenseRef-OpenAI-Terms", "LicenseRef-Anthropic-Terms",
                                   "LicenseRef-Gemini-Terms", "llama3"])  # fmt: skip
def test_terms_that_forbid_training_are_a_conflict_as_teacher(terms: str) -> None:
    teacher = _item(terms, "teacher", "some-model")
    assert _combined(_item("MIT", "base"), teacher).status == "conflict"
    review = Review("some-model", "we do not compete", "B", "counsel", "2026-11-01", lifts=True)
    cleared = _combined(_item("MIT", "base"), teacher, reviews={"some-model": review})
    assert cleared.conflicts == ()
    shown = next(one for one in cleared.items if one.item.use == "teacher")
    assert shown.reviewed == review


def test_a_teacher_is_known_by_its_name_where_its_terms_are_not() -> None:
    entry = find_terms("gpt-5.1", "asked nobody")
    assert entry is not None
    assert entry.id == "terms-openai"
    assert find_terms("some-model", "asked nobody") is None


def test_a_teacher_whose_output_makes_a_derivative_passes_its_duties_on() -> None:
    report = _combined(_item("MIT", "base"),
                       _item("deepseek-licence-1.0", "teacher", "DeepSeek-V3"),
                       declared="LicenseRef-own")  # fmt: skip
    assert report.status == "obligations"
    assert {"notice", "pass_on", "acceptable_use"} <= _kinds(report)
    assert {duty.origin for duty in report.duties if duty.kind == "pass_on"} == {"DeepSeek-V3"}


def test_a_merge_takes_the_duties_of_every_parent() -> None:
    report = _combined(
        _item("MIT", "base"), _item("gemma", "merge", "left"), _item("llama3.1", "merge", "right"),
        declared="LicenseRef-own",
    )  # fmt: skip
    origins = {duty.origin for duty in report.duties}
    assert {"the base", "left", "right"} <= origins
    assert {duty.origin for duty in report.duties if duty.kind == "naming"} == {"right"}


def test_share_alike_and_use_restrictions_do_not_go_together() -> None:
    report = _combined(_item("gemma", "base"), _item("CC-BY-SA-4.0", "dataset"),
                       declared="LicenseRef-own")  # fmt: skip
    assert "share-alike and use restrictions" in {one.rule for one in report.conflicts}
    alone = _combined(_item("MIT", "base"), _item("CC-BY-SA-4.0", "dataset"))
    assert alone.conflicts == ()


def test_judges_and_evaluation_sets_bring_no_duties() -> None:
    report = _combined(_item("MIT", "base"), _item("CC-BY-SA-4.0", "evaluation"),
                       _item("LicenseRef-OpenAI-Terms", "judge", "gpt-5"))  # fmt: skip
    assert report.status == "ok"
    assert {duty.origin for duty in report.duties} == {"the base"}
    assert {one.item.use for one in report.items} >= {"evaluation", "judge"}


def test_of_alternatives_the_better_one_is_taken_and_of_unions_the_worse() -> None:
    assert _combined(_item("Foo-1.0 OR MIT", "base")).status == "ok"
    assert _combined(_item("Foo-1.0 AND MIT", "base")).status == "needs_review"
    excepted = _item("GPL-2.0-only WITH Classpath-exception-2.0", "base")
    assert _combined(excepted, declared="LicenseRef-own").status == "needs_review"


def test_without_a_declared_licence_nothing_is_called_open() -> None:
    assert _combined(_item("MIT", "base"), declared=None).open_eu == "needs_review"
    assert _combined(_item("MIT", "base"), declared="LicenseRef-own").open_eu == "needs_review"


def test_every_entry_names_its_source_and_no_name_stands_twice() -> None:
    names = [name.lower() for entry in load_table() for name in (entry.id, *entry.names)]
    assert len(names) == len(set(names))
    for entry in load_table():
        assert entry.source.url.startswith("https://")
        assert entry.reviewed
        assert find(entry.id.upper()) == entry
