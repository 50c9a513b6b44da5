"""Our reading of in-toto's artifact rules is stock in-toto's, whatever rules and artifacts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.errors import FormatError
from forebear.formats.layout import escape
from forebear.formats.rules import broken_rule, matching

NAMES = st.sampled_from(["a", "a/b", "a/c", "a/b/d", "[a]", "a*", "b?", "tree:a", "cmd:s", "ab"])
DIGESTS = st.sampled_from(["0" * 64, "1" * 64])
ARTIFACTS = st.dictionaries(NAMES, DIGESTS, max_size=6)
PATTERNS = st.one_of(
    NAMES,
    NAMES.map(escape),
    NAMES.map(lambda name: f"{escape(name)}/*"),
    st.sampled_from(["*", "a*", "?", "[ab]*", "*b", "[!a]*", "[", "[[]"]),
)
RULES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["REQUIRE", "CREATE", "ALLOW", "DISALLOW"]), PATTERNS).map(list),
        PATTERNS.map(lambda name: ["MATCH", name, "WITH", "PRODUCTS", "FROM", "other"]),
        PATTERNS.map(lambda name: ["MATCH", name, "WITH", "PRODUCTS", "FROM", "absent"]),
    ),
    max_size=6,
)


def stock(kind: str, rules: list[list[str]], links: dict[str, Any]) -> bool:
    from in_toto.exceptions import RuleVerificationError
    from in_toto.models.link import Link
    from in_toto.verifylib import verify_item_rules

    as_links = {
        name: Link(
            name=name,
            materials={path: {"sha256": one} for path, one in sides["materials"].items()},
            products={path: {"sha256": one} for path, one in sides["products"].items()},
        )
        for name, sides in links.items()
    }
    try:
        verify_item_rules("step", kind, rules, as_links)
    except RuleVerificationError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(RULES, ARTIFACTS, ARTIFACTS, ARTIFACTS, st.sampled_from(["materials", "products"]))
def test_rules_hold_here_exactly_where_they_hold_in_stock_in_toto(
    rules: list[list[str]],
    materials: dict[str, str],
    products: dict[str, str],
    elsewhere: dict[str, str],
    kind: str,
) -> None:
    links = {
        "step": {"materials": materials, "products": products},
        "other": {"materials": {}, "products": elsewhere},
    }
    own = materials if kind == "materials" else products
    created = products.keys() - materials.keys()
    said = broken_rule(rules, own, created, {"other": elsewhere}.get)
    assert (said is None) == stock(kind, rules, links), said


@given(NAMES)
def test_an_escaped_name_matches_itself_alone(name: str) -> None:
    assert matching(escape(name), {name, f"{name}x", f"x{name}", "a", "b"}) == {name}


@pytest.mark.parametrize(
    "rule", [[], ["MODIFY", "a"], ["DELETE", "a"], ["ALLOW"], ["ALLOW", "a", "b"],
             ["MATCH", "a", "WITH", "MATERIALS", "FROM", "s"],
             ["MATCH", "a", "IN", "x", "WITH", "PRODUCTS", "FROM", "s"]]
)  # fmt: skip
def test_a_rule_that_our_layouts_do_not_use_is_refused(rule: list[str]) -> None:
    with pytest.raises(FormatError):
        broken_rule([rule], {"a": "0" * 64}, {}, lambda _: None)
