"""What a reader sees: escaped text, marks, a hub card that the hub's own library reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.documents.build import build_documents
from forebear.documents.fields import FIELDS
from forebear.documents.numbers import format_number
from forebear.documents.registry import render_all
from forebear.documents.render import escape
from tests.unit.documents.fixture import make_project
from tests.unit.documents.made import computed, data_set, declared, facts, row, score

if TYPE_CHECKING:
    from forebear.documents.values import Facts

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = (REPOSITORY / "cards" / "declarations.example.yaml").read_text(encoding="utf-8")
HOSTILE = [
    "</script><h1>x",
    "---",
    "--- # evil\nlicense: mit",
    "# heading",
    "[click](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "<img src=x onerror=alert(1)>",
    "| a | b |",
    "`code` **bold** _it_ ~~no~~",
    "1. list",
    "\u202eevil\u202c",
    "&lt;h1&gt;",
]


def _made(text: str) -> Facts:
    return facts(
        {"use.summary": declared(text), "limit.known": declared([text, text])},
        {
            "risk.items": [row("0", name=declared(text), mitigation=declared(text))],
            "data.sets": [data_set("one", publisher=text)],
        },
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_declared_text_adds_no_structure(text: str) -> None:
    """The same outline and front matter as with harmless text, by a real Markdown parser."""
    harmless, hostile = render_all(_made("harmless")), render_all(_made(text))
    names = [name for name in harmless if name.endswith(".md")]
    assert len(names) > 8
    for name in names:
        one, other = hostile[name].decode(), harmless[name].decode()
        assert _outline(one) == _outline(other), name
        assert "<h1" not in one
        assert "</script" not in one
    front = [_front_matter(files["README.md"].decode()) for files in (harmless, hostile)]
    assert front[0] == front[1]


def _outline(markdown: str) -> list[str]:
    from markdown_it import MarkdownIt

    body = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inner = [child for token in tokens for child in token.children or []]
    return [t.type for t in [*tokens, *inner] if t.type not in ("text", "text_special")]


def _front_matter(markdown: str) -> object:
    return yaml.safe_load(markdown.split("---\n")[1])


@settings(deadline=None)  # the machine may be busy; nothing here can hang
@given(st.text(max_size=80))
def test_escaped_text_shows_itself(text: str) -> None:
    """Rendered, it is one paragraph of plain text that reads as it was written."""
    from markdown_it import MarkdownIt

    if not text.split():
        return
    tokens = MarkdownIt("commonmark", {"html": True}).parse("- **x:** " + escape(text))
    inner = [c for t in tokens for c in t.children or []]
    kinds = {c.type for c in inner}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
    shown = "".join(c.content for c in inner)
    expected = " ".join(text.split())
    assert len(shown) == len(f"x: {expected}")


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Documents of a real pipeline for which nobody has declared anything."""
    return _built(tmp_path_factory.mktemp("drafts"), None)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Documents of the same pipeline with the example declarations."""
    return _built(tmp_path_factory.mktemp("complete"), EXAMPLE)


def _built(folder: Path, declarations: str | None) -> dict[str, bytes]:
    (folder / "repository").mkdir()
    project = make_project(folder / "repository", folder / "keys")
    if declarations is not None:
        project.declare(declarations)
    return build_documents(project.inputs())[1]


def test_no_verdict_word_is_ever_written(complete: dict[str, bytes]) -> None:
    for data in complete.values():
        text = data.decode().lower()
        assert not re.search(r"\bcompliant\b|\bconforms\b|\bcertified\b|\bis exempt\b", text)


def test_the_card_has_its_thirteen_sections(drafts: dict[str, bytes]) -> None:
    card = drafts["model-card.oecd.md"].decode()
    headings = re.findall(r"^## (\d+)\. (.+)$", card, re.MULTILINE)
    assert [int(number) for number, _ in headings] == list(range(1, 14))
    assert headings[4][1] == "Model"
    assert headings[12][1] == "Accountability"
    sections = json.loads(drafts["model-card.oecd.json"])["sections"]
    assert all(section["oecd"] for section in sections)


def test_every_mark_leads_to_a_row_of_the_appendix(drafts: dict[str, bytes]) -> None:
    for name in _texts(drafts):
        text = drafts[name].decode()
        rows = set(re.findall(r'<a id="(e\d+)"></a>', text))
        assert set(re.findall(r"\[●\]\(#(e\d+)\)", text)) == rows, name
    hub = set(re.findall(r"\[●\]\(model-card\.oecd\.md#(e\d+)\)", drafts["README.md"].decode()))
    assert hub
    assert hub <= set(re.findall(r'<a id="(e\d+)"></a>', drafts["model-card.oecd.md"].decode()))


def test_every_declared_value_leads_to_its_declarer(complete: dict[str, bytes]) -> None:
    card = complete["model-card.oecd.md"].decode()
    assert set(re.findall(r"\[○\]\(#(d\d+)\)", card)) == {"d1"}
    assert '<a id="d1"></a>1 | Erika Mustermann (example) | Head of Compliance (example)' in card


def test_readers_meet_no_keys_of_files(complete: dict[str, bytes]) -> None:
    """No word that only a programmer understands, in any document, before its appendix."""
    for name in _texts(complete):
        body = complete[name].decode().split("## Evidence appendix")[0]
        shown = re.sub(r"`[^`]*`|<http[^>]*>|\]\([^)]*\)", "", body)
        assert not re.findall(r"\b\w+\\_\w+|\b[a-z]+_[a-z_]+\b", shown), name


def _texts(files: dict[str, bytes]) -> list[str]:
    return [name for name in files if name.endswith(".md") and name != "README.md"]


def test_what_is_missing_is_shown_with_who_supplies_it(
    drafts: dict[str, bytes], complete: dict[str, bytes]
) -> None:
    """Compliance page, 13.2."""
    for name in ("model-card.oecd.md", "README.md"):
        assert "**MISSING: Out of scope (the model owner)**" in drafts[name].decode()
        assert "MISSING" not in complete[name].decode()
    assert "**Draft.**" in drafts["restricted/annex-xi.md"].decode()
    assert "**Draft.**" not in complete["restricted/annex-xi.md"].decode()


def test_allowances_stand_among_the_limitations(drafts: dict[str, bytes]) -> None:
    for name in ("model-card.oecd.md", "README.md"):
        text = drafts[name].decode()
        assert "the only weights that a package carries" in text
        assert "base-only" in text


def test_a_waiver_stands_in_the_results_and_the_limitations() -> None:
    """Compliance page, 13.27: with name, reason and last day."""
    waiver = row(
        "mc4:base", task=computed("mc4"), reference=computed("base"), delta=computed(-0.1),
        reason=computed("the golden set is small"), approver=computed("W. Aiver"),
        expires=computed("2026-12-24"),
    )  # fmt: skip
    files = render_all(facts(tables={"eval.waivers": [waiver]}))
    card = files["model-card.oecd.md"].decode()
    for section in ("## 10. ", "## 11. "):
        part = card.split(section)[1].split("\n## ")[0]
        for word in ("W. Aiver", "the golden set is small", "2026-12-24"):
            assert word in part
    assert "W. Aiver" in files["README.md"].decode()


def test_a_score_says_how_sure_it_is_or_that_nobody_measured_it() -> None:
    """Compliance page, 13.25."""
    rows = [
        row("a:base", task=computed("a"), candidate_score=score(0.5, 0.4, 0.6)),
        row("b:base", task=computed("b"), candidate_score=computed(0.7)),
    ]
    card = render_all(facts(tables={"eval.results": rows}))["model-card.oecd.md"].decode()
    sure, unsure = (next(li for li in card.splitlines() if f"| {n}\u00a0" in li) for n in "ab")
    assert "(95%: 0.400 to 0.600)" in sure
    assert "no uncertainty measured" in unsure
    assert "no uncertainty measured" not in sure


@pytest.mark.parametrize(
    ("number", "unit", "shown"),
    [
        (134515008, None, "134.5 million"),
        (49152, "tokens", "49,152 tokens"),
        (8192, "tokens", "8192 tokens"),
        (6.5e13, "FLOP", "6.50 × 10¹³ FLOP"),
        (0.28, None, "0.280"),
        (-0.05, None, "−0.0500"),
        (3 * 2**30, "bytes", "3 GiB"),
        (50.25, "seconds", "50.2 s"),
        (7300, "seconds", "2.03 h"),
        (0, None, "0"),
        (0.00001, None, "1.00 × 10⁻⁵"),
    ],
)
def test_numbers_read_well(number: float, unit: str | None, shown: str) -> None:
    assert format_number(number, unit) == shown


def test_labels_of_the_registry_are_unique_within_a_group() -> None:
    assert len({field.id for field in FIELDS}) == len(FIELDS)
    labels = [(field.id.split(".")[0], field.label) for field in FIELDS]
    assert len(set(labels)) == len(labels)
