"""What a reader sees: escaped text, marks, a hub card that the hub's own library reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from forebear.documents.build import build_documents
from forebear.documents.fields import FIELDS
from forebear.documents.numbers import format_number
from forebear.documents.render import escape

if TYPE_CHECKING:
    from tests.unit.documents.fixture import Project

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = (REPOSITORY / "cards" / "declarations.example.yaml").read_text(encoding="utf-8")
BY = "declared_by: {name: N, role: R, date: 2026-11-24}\n"
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


def _documents(project: Project, text: str) -> dict[str, str]:
    project.declare(BY + f"use:\n  summary: {json.dumps(text)}\nlimit: {{known: "
                    + json.dumps([text, text]) + "}\n")  # fmt: skip
    return {name: data.decode() for name, data in build_documents(project.inputs())[1].items()}


@pytest.mark.parametrize("text", HOSTILE)
def test_declared_text_adds_no_structure(project: Project, text: str) -> None:
    """The same outline and front matter as with harmless text, by a real Markdown parser."""
    harmless, hostile = _documents(project, "harmless"), _documents(project, text)
    for name in ("model-card.oecd.md", "README.md"):
        assert _outline(hostile[name]) == _outline(harmless[name])
        assert "<h1" not in hostile[name]
        assert "</script" not in hostile[name]
    assert _front_matter(hostile["README.md"]) == _front_matter(harmless["README.md"])


def _outline(markdown: str) -> list[str]:
    from markdown_it import MarkdownIt

    body = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inner = [child for token in tokens for child in token.children or []]
    return [t.type for t in [*tokens, *inner] if t.type not in ("text", "text_special")]


def _front_matter(markdown: str) -> object:
    return yaml.safe_load(markdown.split("---\n")[1])


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


def test_no_verdict_word_is_ever_written(project: Project) -> None:
    project.declare(EXAMPLE)
    for data in build_documents(project.inputs())[1].values():
        text = data.decode().lower()
        assert not re.search(r"\bcompliant\b|\bconforms\b|\bcertified\b|\bis exempt\b", text)


def test_the_card_has_its_thirteen_sections(project: Project) -> None:
    _, files = build_documents(project.inputs())
    headings = re.findall(r"^## (\d+)\. (.+)$", files["model-card.oecd.md"].decode(), re.MULTILINE)
    assert [int(number) for number, _ in headings] == list(range(1, 14))
    assert headings[4][1] == "Model"
    assert headings[12][1] == "Accountability"
    sections = json.loads(files["model-card.oecd.json"])["sections"]
    assert all(section["oecd"] for section in sections)


def test_every_mark_leads_to_a_row_of_the_appendix(project: Project) -> None:
    _, files = build_documents(project.inputs())
    card, hub = files["model-card.oecd.md"].decode(), files["README.md"].decode()
    rows = set(re.findall(r'<a id="(e\d+)"></a>', card))
    used = set(re.findall(r"\[●\]\(#(e\d+)\)", card))
    used |= set(re.findall(r"\[●\]\(model-card\.oecd\.md#(e\d+)\)", hub))
    assert used
    assert used == rows


def test_every_declared_value_leads_to_its_declarer(project: Project) -> None:
    project.declare(EXAMPLE)
    _, files = build_documents(project.inputs())
    card = files["model-card.oecd.md"].decode()
    assert set(re.findall(r"\[○\]\(#(d\d+)\)", card)) == {"d1"}
    assert '<a id="d1"></a>1 | Erika Mustermann (example) | Head of Compliance (example)' in card


def test_readers_meet_no_keys_of_files(project: Project) -> None:
    project.declare(EXAMPLE)
    _, files = build_documents(project.inputs())
    body = files["model-card.oecd.md"].decode().split("## Evidence appendix")[0]
    shown = re.sub(r"`[^`]*`|<http[^>]*>|\(#[ed]\d+\)", "", body)
    assert not re.findall(r"\b\w+\\_\w+|\b[a-z]+_[a-z_]+\b", shown)


def test_the_hub_reads_the_card(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import ModelCard

    project.declare(EXAMPLE)
    facts, files = build_documents(project.inputs())
    file = project.root / "README.md"
    file.write_bytes(files["README.md"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = ModelCard.load(file).data
    assert (data.license, data.language, data.pipeline_tag) == (
        "apache-2.0", ["en"], "text-generation",
    )  # fmt: skip
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.datasets == ["icd10cm", "pydoc-topics"]
    read = {(r.dataset_type, r.metric_type): r for r in data.eval_results}
    rows = facts.tables["eval.results"]
    assert len(read) == len(data.eval_results) == len(rows)
    for row in rows:
        result = read[str(row.cells["task"].value), "accuracy"]
        score = row.cells["candidate_score"]
        assert score.interval is not None
        assert result.metric_value == score.value
        assert result.metric_args["interval_low"] == score.interval.low
        assert result.metric_args["n"] == row.cells["n"].value


def test_unknown_values_are_left_out_of_the_front_matter(project: Project) -> None:
    _, files = build_documents(project.inputs())
    matter = _front_matter(files["README.md"].decode())
    assert isinstance(matter, dict)
    assert "license" not in matter
    assert "language" not in matter
    assert None not in matter.values()


def test_allowances_stand_among_the_limitations(project: Project) -> None:
    _, files = build_documents(project.inputs())
    for name in ("model-card.oecd.md", "README.md"):
        text = files[name].decode()
        assert "the only weights that a package carries" in text
        assert "base-only" in text


def test_compute_and_energy_are_withheld_when_declared_so(project: Project) -> None:
    """Compliance page, 13.17: neither the raw nor the rounded number stands anywhere."""
    open_card = build_documents(project.inputs())[1]["model-card.oecd.md"].decode()
    assert "5.59 × 10¹³ FLOP" in open_card
    project.declare(BY + "publish:\n  compute_energy: false\n")
    facts, files = build_documents(project.inputs())
    raw = str(facts.values["train.flop_modification"].value)
    for name in ("model-card.oecd.md", "model-card.oecd.json", "README.md"):
        text = files[name].decode()
        assert "FLOP" not in text
        assert raw not in text
        assert "50.25" not in text


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
