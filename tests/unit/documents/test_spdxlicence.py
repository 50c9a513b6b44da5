"""Licences as SPDX reads them: a bundled list of identifiers, expressions told from names."""

from __future__ import annotations

import pytest

from forebear.documents.spdxlicence import (
    is_expression,
    library_licence,
    licence_ids,
    listed_id,
    reference_for,
    references,
)


def test_every_name_of_the_bundled_list_is_one_that_cyclonedx_takes() -> None:
    from cyclonedx.spdx import is_supported_id

    names = list(licence_ids().values())
    assert len(names) > 700
    assert [name for name in names if not is_supported_id(name)] == []


@pytest.mark.parametrize(
    ("text", "name"),
    [("Apache-2.0", "Apache-2.0"), (" mit ", "MIT"), ("LLVM-exception", None), ("llama4", None)],
)
def test_a_listed_licence_is_found_whatever_its_case(text: str, name: str | None) -> None:
    assert listed_id(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "MIT",
        "MIT OR Apache-2.0",
        "(MIT AND LicenseRef-Mine) OR GPL-2.0-only WITH Classpath-exception-2.0",
        "GPL-2.0+",
        "LicenseRef-PublicDomain-US",
        "DocumentRef-other:LicenseRef-Mine",
    ],
)
def test_an_expression_is_recognised(text: str) -> None:
    assert is_expression(text)


@pytest.mark.parametrize(
    "text",
    ["", "MIT Apache-2.0", "MIT OR", "OR MIT", "(MIT", "MIT)", "Terms of Example", "llama4",
     "MIT WITH", "()", "MIT AND ()"],
)  # fmt: skip
def test_what_is_no_expression_is_not_taken_for_one(text: str) -> None:
    assert not is_expression(text)


def test_names_that_the_list_lacks_become_references() -> None:
    assert reference_for("Terms of Example, 2026") == "LicenseRef-Terms-of-Example-2026"
    assert reference_for("???") == "LicenseRef-unnamed"
    assert references("MIT AND LicenseRef-A OR LicenseRef-B") == ["LicenseRef-A", "LicenseRef-B"]
    assert is_expression(reference_for("Terms of Example"))


def test_every_library_of_the_table_has_a_licence_that_is_an_expression() -> None:
    licence, lines = library_licence("torch")
    assert licence is not None
    assert is_expression(licence)
    assert lines[0][1].startswith("metadata of the package, version ")
    assert library_licence("no-such-library") == (None, ())
