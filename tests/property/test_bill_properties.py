"""Whatever people write and name: both bills stay valid, and names never add or merge parts."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.documents import croissant, cyclonedx, spdx
from forebear.documents.consistency import cyclonedx_faults, spdx_faults
from forebear.documents.spdxlicence import is_expression, reference_for
from forebear.documents.validators import (
    validate_croissant,
    validate_cyclonedx,
    validate_spdx_bindings,
)
from tests.unit.documents import bills

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=12, deadline=None)
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_words_leave_the_bills_valid(summary: str, name: str, licence: str, key: str) -> None:
    sets = bills.row(f"curate:{key}", id=key, role="domain", licence=licence, publisher=name)
    facts = bills.facts(
        values={
            "use.summary": bills.declared(summary),
            "provider.legal_name": bills.declared(name),
            "model.licence": bills.declared(licence),
            "model.licence_url": bills.declared(f"https://example.org/{key}"),
        },
        tables={"data.sets": (bills.TABLES["data.sets"][0], sets)},
    )
    first, second = cyclonedx.render(facts)[cyclonedx.FILE], spdx.render(facts)[spdx.FILE]
    assert validate_cyclonedx(first) == []
    assert validate_spdx_bindings(second) == []
    assert spdx_faults(json.loads(second)) == []
    assert cyclonedx_faults(json.loads(first)) == []
    for data in croissant.render(facts).values():
        assert [text for text in validate_croissant(data) if "recommended" not in text] == []


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6, unique=True))
def test_two_names_never_give_one_reference(keys: list[str]) -> None:
    rows = tuple(bills.row(key, id=key, role="domain") for key in keys)
    facts = bills.facts(tables={"data.sets": rows})
    document = json.loads(cyclonedx.render(facts)[cyclonedx.FILE])
    assert not [text for text in cyclonedx_faults(document) if "stands twice" in text]
    assert len(croissant.render(facts)) == len(keys)


@given(TEXTS)
def test_any_licence_becomes_a_reference_that_is_an_expression(text: str) -> None:
    assert is_expression(reference_for(text))
