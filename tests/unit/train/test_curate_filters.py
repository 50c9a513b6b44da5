"""Every filter of curate drops or mends what it is for, and lets its twin pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.train.curate.decontaminate import GoldenIndex
from forebear.train.curate.language import language_of
from forebear.train.curate.licences import is_allowed
from forebear.train.curate.optout import OptOutList, read_opt_out
from forebear.train.curate.params import PiiParams
from forebear.train.curate.pii import PersonalData
from forebear.train.curate.pipeline import Outcome, Tally
from tests.unit.train.curating import dropped, kept, section, sift, source, write_rows

ENGLISH = (
    "The committee met on the second day of the month to hear what the engineers had found. "
    "They said that the bridge would have to be closed, and that the work was to be done with care."
)
GERMAN = (
    "Der Ausschuss trat am zweiten Tag des Monats zusammen, um zu hören, was die Ingenieure "
    "gefunden hatten. Die Brücke müsse geschlossen werden, und die Arbeit brauche Sorgfalt."
)
PROSE = """\
In the north the people of the town have met with the mayor to speak about the bridge.
Teachers of the southern school wrote a letter that their captain carried to the old harbour.
She said it was to be expected, with so much rain and the river as high as it had ever been.
Two bakers and their sons waited at the market until the first carts came over the hill.
Nobody knew who had left the library open, but the books that stood near the door were wet.
When the doctor heard of it she sent for both nurses and asked them to bring blankets."""
LINKS = "\n".join(["Home", "About us", "Contact", "News", "Products", "Jobs", "Imprint"] * 3)
CODE = "function go() { return 1; }\n" * 6


def through(tmp_path: Path, texts: list[Any], **filters: object) -> list[Outcome]:
    file = write_rows(tmp_path / "given.jsonl", texts)
    return sift(section(source(file), **filters), tmp_path / "work")


def test_texts_in_other_languages_go_and_the_language_of_the_others_is_noted(
    tmp_path: Path,
) -> None:
    found = through(tmp_path, [ENGLISH, GERMAN], language={"keep": ["en"]})
    assert dropped(found) == {GERMAN: ("language", "de")}
    (one,) = [outcome for outcome in found if outcome.dropped_by is None]
    assert (one.text, one.metadata["language"]) == (ENGLISH, "en")
    (both := tmp_path / "both").mkdir()
    assert kept(through(both, [ENGLISH, GERMAN], language={"keep": ["de", "en"]})) == {
        ENGLISH,
        GERMAN,
    }


def test_language_is_told_offline_and_the_same_each_time() -> None:
    assert language_of(ENGLISH) == language_of(ENGLISH)
    name, score = language_of(GERMAN)
    assert name == "de"
    assert 0.9 < score <= 1


def test_gopher_drops_lists_of_links_and_repeated_lines_and_keeps_prose(tmp_path: Path) -> None:
    repeated = "\n".join([PROSE.splitlines()[0]] * 8)
    found = through(tmp_path, [PROSE, LINKS, repeated], gopher={"min_words": 10})
    assert kept(found) == {PROSE}
    assert dropped(found)[LINKS] == ("gopher", "gopher_enough_stop_words")
    assert dropped(found)[repeated] == ("gopher", "dup_line_frac")
    (loose := tmp_path / "loose").mkdir()
    limits = {"min_words": 10, "max_repetition": None}
    assert kept(through(loose, [PROSE, LINKS, repeated], gopher=limits)) == {PROSE, repeated}


def test_c4_keeps_the_sentences_of_a_text_and_drops_code(tmp_path: Path) -> None:
    found = through(tmp_path, [f"Menu\n{PROSE}\nBack to top", CODE], c4={"min_sentences": 3})
    assert kept(found) == {PROSE}
    assert set(dropped(found).values()) <= {("c4", "curly_bracket"), ("c4", "too_few_sentences")}
    assert len(dropped(found)) == 1


def test_fineweb_drops_short_lines_without_punctuation_and_keeps_prose(tmp_path: Path) -> None:
    found = through(tmp_path, [PROSE, LINKS], fineweb={})
    assert kept(found) == {PROSE}
    assert dropped(found)[LINKS] == ("fineweb", "line_punct_ratio")


def test_a_filter_passes_over_roles_that_it_is_not_for(tmp_path: Path) -> None:
    other = {"roles": ["domain"]}
    language = {"keep": ["de"], **other}
    found = through(tmp_path, [LINKS], fineweb=other, gopher=other, c4=other, language=language)
    assert kept(found) == {LINKS}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to jane.doe@mail.example.net now", "Write to <EMAIL> now"),
        ("From 8.8.8.8 to 2001:4860:4860::8888.", "From <IP> to <IP>."),
        ("Call +49 30 901820 or (212) 555-0187.", "Call <PHONE> or <PHONE>."),
        ("Card 4111 1111 1111 1111 was used", "Card <CARD> was used"),
        ("Account DE89 3704 0044 0532 0130 00 is hers", "Account <IBAN> is hers"),
    ],
)
def test_personal_data_becomes_a_placeholder(text: str, clean: str) -> None:
    counts: Counter[str] = Counter()
    assert PersonalData(PiiParams().kinds).replace(text, counts) == clean
    assert sum(counts.values()) == clean.count("<")


@pytest.mark.parametrize(
    "text",
    [
        "S72.322E: Displaced transverse fracture of shaft of left femur",
        "The router at 192.168.0.1 and the time 10:30:59",
        "Card 4111 1111 1111 1112 fails its check digit",
        "Account DE89 3704 0044 0532 0133 00 does not exist",
        "Version 3.11.2, chapter 12-34, 1914-1918, 100 000 000 people",
        "x = a[1:2:3] and 5.5.5",
    ],
)
def test_codes_dates_and_private_addresses_are_no_personal_data(text: str) -> None:
    counts: Counter[str] = Counter()
    assert PersonalData(PiiParams().kinds).replace(text, counts) == text
    assert not counts


def test_personal_data_is_removed_from_kept_texts_counted_and_only_where_asked(
    tmp_path: Path,
) -> None:
    text = "Mail a@b.example or call +49 30 901820."
    found = through(tmp_path, [text], pii={"kinds": ["email"]})
    assert kept(found) == {"Mail <EMAIL> or call +49 30 901820."}
    tally = Tally(["quality"], 3)
    tally.add(found[0])
    assert tally.pii == {"email": 1}


def test_personal_data_goes_from_questions_and_answers_too(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "given.jsonl", [{"prompt": "Who is a@b.example?", "answer": "Me"}])
    (one,) = sift(section(source(file, role="instruction"), pii={}), tmp_path / "work")
    assert one.metadata["fields"]["prompt"] == "Who is <EMAIL>?"


def test_near_copies_go_and_different_texts_stay(tmp_path: Path) -> None:
    near = PROSE.replace("captain", "master")
    other = ENGLISH * 3
    found = through(tmp_path, [PROSE, near, other, PROSE], near_copies={})
    assert [one.dropped_by for one in found].count("near_copy") == 1
    assert [one.dropped_by for one in found].count("exact_copy") == 1
    assert len(kept(found) & {PROSE, near}) == 1
    assert other in kept(found)
    (off := tmp_path / "off").mkdir()
    assert kept(through(off, [PROSE, near, other])) == {PROSE, near, other}


def test_near_copies_of_other_roles_are_let_alone(tmp_path: Path) -> None:
    near = PROSE.replace("captain", "master")
    found = through(tmp_path, [PROSE, near], near_copies={"roles": ["domain"]})
    assert kept(found) == {PROSE, near}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
    ],
)
def test_a_licence_expression_is_weighed_by_its_operators(expression: str, allowed: bool) -> None:
    assert is_allowed(expression, {"MIT", "Apache-2.0"}) is allowed


def test_documents_under_other_licences_go(tmp_path: Path) -> None:
    rows = [{"text": "free words", "l": "MIT"}, {"text": "bound words", "l": "CC-BY-NC-4.0"}]
    file = write_rows(tmp_path / "given.jsonl", rows)
    params = section(source(file, fields={"licence": "l"}), licences={"allow": ["MIT"]})
    found = sift(params, tmp_path / "work")
    assert dropped(found) == {"bound words": ("licence", "CC-BY-NC-4.0")}
    assert [one.metadata["licence"] for one in found if one.text == "free words"] == ["MIT"]


def test_reserved_sites_go_with_their_subdomains_and_no_text_is_kept_of_them(
    tmp_path: Path,
) -> None:
    listed = tmp_path / "list"
    listed.write_text(
        "# reservations\ndomain:example.org  # robots.txt\nurl:https://example.com/blog\n"
    )
    reserved = read_opt_out(listed)
    rows = [
        {"text": "first words", "url": "https://www.example.org/a"},
        {"text": "second words", "url": "https://example.com/blog/1"},
        {"text": "third words", "url": "https://example.com/news"},
        {"text": "fourth words", "url": "https://notexample.org/"},
        {"text": "fifth words"},
    ]
    file = write_rows(tmp_path / "given.jsonl", rows)
    found = sift(section(source(file)), tmp_path / "work", reserved=reserved)
    assert dropped(found) == {
        "first words": ("opt_out", "domain"),
        "second words": ("opt_out", "url"),
    }
    tally = Tally(["opt_out"], 5)
    for one in found:
        tally.add(one)
    assert {sample["text"] for sample in tally.samples()["opt_out"]} == {""}
    assert tally.counts() == {"opt_out": {"domain": 1, "url": 1}}


def test_a_whole_source_can_be_reserved(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "given.jsonl", ["some words"])
    reserved = OptOutList(sources=frozenset({"given"}))
    found = sift(section(source(file)), tmp_path / "work", reserved=reserved)
    assert dropped(found) == {"some words": ("opt_out", "source")}


@pytest.mark.parametrize("line", ["example.org", "domain:Example.org/x", "url:example.org", "x:y"])
def test_a_line_that_is_no_opt_out_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(f"domain:a.example\n{line}\n")
    with pytest.raises(ConfigError) as refused:
        read_opt_out(tmp_path / "list")
    assert "line(s) 2 " in refused.value.what
    (tmp_path / "list").write_text(f"domain:a.example\n# {line}\n")
    assert len(read_opt_out(tmp_path / "list")) == 1
    with pytest.raises(EnvironmentFailure):
        read_opt_out(tmp_path / "none")


def test_the_repositorys_own_opt_out_list_is_well_formed(repository: Path) -> None:
    read_opt_out(repository / "data" / "opt_out.txt")


def test_texts_that_repeat_an_item_of_an_eval_set_go(tmp_path: Path) -> None:
    item = "A feature of amino acids that is not found in carbohydrates is the presence of nitrogen"
    index = GoldenIndex()
    index.add_text(item, "mmlu")
    index.add_text("Too short", "mmlu")
    quoting, other = f"Remember: {item.upper()}!", "Too short to be an item, but clean it is"
    file = write_rows(tmp_path / "given.jsonl", [quoting, other])
    found = sift(section(source(file)), tmp_path / "work", index=index)
    assert dropped(found) == {quoting: ("decontamination", "mmlu_ngrams")}
    assert kept(found) == {other}


@pytest.mark.parametrize(
    ("filters", "key"),
    [
        ({"language": {"keep": ["english"]}}, "language"),
        ({"gopher": {"min_word": 3}}, "gopher"),
        ({"near_copies": {"roles": ["instruction"]}}, "near_copies"),
        ({"pii": {"kinds": ["name"]}}, "pii"),
        ({"licences": {"allow": []}}, "licences"),
        ({"executor": {"kind": "slurm"}}, "executor"),
    ],
)
def test_a_filters_params_are_strict(filters: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        section(source("given.jsonl"), **filters)
    assert f"curate.{key}" in refused.value.what
