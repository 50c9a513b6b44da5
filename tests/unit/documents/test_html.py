"""HTML: well formed, self-contained, no script, readable by those who do not see it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from forebear.documents import cards, copyrightpolicy
from forebear.documents.html import render_html
from tests.unit.documents.made import computed, declared, facts, row

HOSTILE = [
    "</script><h1>x",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "<a href='javascript:alert(1)'>x</a>",
    '<a id="e1" onclick=alert(1)></a>',
    "![x](https://example.org/x.png)",
    "<javascript:alert(1)>",
    "<style>body{display:none}</style>",
]
_VOID = {"meta", "hr", "br", "img", "link"}
_ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "nav", "ol", "li", "a", "main",
    "h1", "h2", "h3", "h4", "p", "ul", "strong", "em", "code", "table", "caption", "thead",
    "tbody", "tr", "th", "td", "div", "hr", "blockquote",
}  # fmt: skip


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _VOID
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def _card(text: str = "harmless") -> str:
    made = facts(
        {"use.summary": declared(text), "limit.known": declared([text, text])},
        {"risk.items": [row("0", name=declared(text), likelihood=declared(text))]},
    )
    return cards.render(made)["model-card.oecd.html"].decode()


@pytest.mark.parametrize("text", HOSTILE)
def test_declared_text_becomes_text_alone(text: str) -> None:
    """Compliance page, 13.24."""
    page, harmless = _Page(_card(text)), _Page(_card())
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert {tag for tag, _ in page.tags} <= _ALLOWED
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
    for attrs in page.all("a"):
        assert re.match(r"https?://|mailto:|#|[\w./-]+\.md", attrs.get("href") or "#")


def test_a_page_is_well_formed_and_fetches_nothing() -> None:
    text = _card()
    page = _Page(text)
    assert page.open == []
    assert not page.all("script")
    assert not page.all("link")
    assert not re.search(r"@import|url\(", text)
    policy = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_a_page_names_its_language_and_has_one_title() -> None:
    page = _Page(_card())
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


def test_tables_have_captions_and_headers_with_scope() -> None:
    made = facts(tables={"risk.items": [row("0", name=declared("A"), severity=declared("low"))]})
    page = _Page(cards.render(made)["model-card.oecd.html"].decode())
    scopes = {attrs.get("scope") for attrs in page.all("th")}
    assert scopes == {"col", "row"}
    assert "<caption>Risks</caption>" in cards.render(made)["model-card.oecd.html"].decode()
    regions = [one for one in page.all("div") if one.get("class") == "scroll"]
    assert len(regions) == len(page.all("table"))
    assert all(one["role"] == "region" and one["tabindex"] == "0" for one in regions)
    assert all(one["aria-label"] for one in regions)


def test_every_mark_says_in_words_what_it_means_and_leads_somewhere() -> None:
    page = _Page(_card())
    anchors = {attrs.get("id") for _, attrs in page.tags}
    marks = [one for one in page.all("a") if (one.get("class") or "").startswith("mark")]
    assert len(marks) > 3
    for one in marks:
        assert one["aria-label"]
        assert (one["href"] or "")[1:] in anchors


def test_every_entry_of_the_contents_leads_to_a_heading() -> None:
    page = _Page(_card())
    headings = {attrs.get("id") for attrs in page.all("h2")}
    contents = {(a["href"] or "")[1:] for a in page.all("a") if (a.get("href") or "")[:2] == "#n"}
    assert contents == headings
    assert len(headings) == 14


def test_colours_have_a_contrast_of_four_and_a_half() -> None:
    text = _card()
    pairs = [("#1d2126", "#ffffff"), ("#0b4f9e", "#ffffff"), ("#1d2126", "#fdf4ea"),
             ("#0b4f9e", "#f2f4f6"), ("#1d2126", "#fff3bf")]  # fmt: skip
    for one, other in pairs:
        assert one in text
        assert _contrast(one, other) >= 4.5


def _contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_html_of_other_markdown_lets_no_tag_through() -> None:
    text = b'# T\n\n<div onclick=x>a</div>\n\n<a id="e1"></a>b\n'
    page = render_html(text, language="en", title="T").decode()
    assert "<div onclick" not in page
    assert '<a id="e1"></a>b' in page


def test_links_between_documents_lead_to_files_that_are_written() -> None:
    made = facts({"model.digest": computed("c" * 64)})
    from forebear.documents.registry import render_all

    files = render_all(made)
    for name, data in files.items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([\w./-]+)(?:#\w+)?\)", data.decode()):
            if target not in ("bom.cdx.json", "bom.spdx.json"):
                assert target in files, (name, target)


def test_the_public_copy_of_the_policy_shows_no_list() -> None:
    values = {"copyright.excluded_lists": declared(["secret-list.example"])}
    files = copyrightpolicy.render(facts(values))
    for name, data in files.items():
        assert ("secret-list.example" in data.decode()) is name.startswith("restricted/")
