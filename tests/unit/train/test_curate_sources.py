"""Sources of every kind give the same documents; what is malformed is named by its place."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.train.curate.params import SourceParams
from forebear.train.curate.sources import Draft, Reject, check_source, read_source
from forebear.train.curate.web import page_text
from tests.unit.train.curating import gathered, kept, rejects, section, sift, source, write_rows

REVISION = "0123456789abcdef0123456789abcdef01234567"
ARTICLE = (
    "<p>The harbour of the old town was opened again on Monday, after the sand that two storms "
    "had left in it was taken away. Fishermen said that they had waited for it since the spring, "
    "and that the first boats would go out before the end of the week.</p>"
)
PAGE = f"""<html><head><title>Harbour</title><script>var tracked = 1;</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li></ul></nav>
<article><h1>Harbour opens</h1>{ARTICLE * 2}</article><footer>Imprint</footer></body></html>"""


def read(
    declared: dict[str, object], *, max_bad_fraction: float = 0.0
) -> tuple[list[Draft], list[Reject]]:
    bad: list[Reject] = []
    checked = SourceParams.model_validate(declared)
    check_source(checked)
    found = list(read_source(checked, max_bad_fraction=max_bad_fraction, reject=bad.append))
    return found, bad


def parquet(file: Path, columns: dict[str, list[Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), file)
    return file


def warc(file: Path, pages: list[tuple[str, bytes, str, str]]) -> Path:
    """Pages as ``(url, payload, content type, status)``."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with file.open("wb") as stream:
        writer = WARCWriter(stream, gzip=file.suffix == ".gz")
        writer.write_record(writer.create_warcinfo_record(file.name, {"software": "tests"}))
        for url, payload, kind, status in pages:
            http = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
            record = writer.create_warc_record(
                url, "response", payload=io.BytesIO(payload), http_headers=http
            )
            writer.write_record(record)
    return file


def test_jsonl_parquet_and_folders_give_the_same_documents(tmp_path: Path) -> None:
    texts = ["first words", "second words", "third words"]
    write_rows(tmp_path / "all.jsonl", texts)
    (tmp_path / "folder").mkdir()
    write_rows(tmp_path / "folder" / "b.jsonl", texts[1:])
    with gzip.open(tmp_path / "folder" / "a.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"text": texts[0]}) + "\n")
    parquet(tmp_path / "all.parquet", {"text": texts, "url": ["", None, "u"]})
    for declared in (
        source(tmp_path / "all.jsonl"),
        source(tmp_path / "folder"),
        source(tmp_path / "all.parquet", "parquet"),
    ):
        drafts, bad = read(declared)
        assert [draft.text for draft in drafts] == texts
        assert [draft.read for draft in drafts] == [text.encode() for text in texts]
        assert bad == []
    assert drafts[2].url == "u"


def test_fields_have_the_names_that_the_source_gives_them(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "options": ["a", "b"], "l": "CC0-1.0", "at": "https://x.example"}]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    fields = {"text": ["q", "options"], "licence": "l", "url": "at"}
    ((draft,), _) = read(source(file, fields=fields))
    assert (draft.text, draft.licence, draft.url) == ("Why?\na\nb", "CC0-1.0", "https://x.example")
    with pytest.raises(FormatError) as refused:
        read(source(file, fields={"licence": "no such", "text": ["q"]}))
    assert f"{file}:1: 'no such' must be the row's licence" in refused.value.what


def test_preferences_keep_their_three_texts(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    file = write_rows(tmp_path / "rows.jsonl", [row])
    ((draft,), _) = read(source(file, role="preference"))
    assert draft.fields == row
    file = write_rows(tmp_path / "rows.jsonl", [{"prompt": "Why?", "chosen": "So."}])
    with pytest.raises(FormatError):
        read(source(file, role="preference"))


def test_pages_of_a_web_archive_become_their_main_text(tmp_path: Path) -> None:
    french = PAGE.replace("Monday", "Mardi, jour de f\u00eate").encode("latin-1")
    file = warc(
        tmp_path / "crawl.warc.gz",
        [
            ("https://a.example/1", PAGE.encode(), "text/html; charset=utf-8", "200 OK"),
            ("https://a.example/2", french, "text/html; charset=iso-8859-1", "200 OK"),
            ("https://a.example/3", PAGE.encode(), "text/html", "404 Not Found"),
            ("https://a.example/4", b"\x89PNG", "image/png", "200 OK"),
            ("https://a.example/5", b"<html><body></body></html>", "text/html", "200 OK"),
        ],
    )
    outcomes = sift(section(source(file, "warc")), tmp_path / "work")
    by_url = {one.metadata["url"]: one for one in outcomes}
    assert set(by_url) == {f"https://a.example/{number}" for number in (1, 2, 5)}
    first = by_url["https://a.example/1"]
    assert "opened again on Monday" in first.text
    assert not any(word in first.text for word in ("tracked", "Imprint", "<p>", "Home"))
    assert "jour de f\u00eate" in by_url["https://a.example/2"].text
    assert by_url["https://a.example/5"].dropped_by == "extraction"
    digest = hashlib.sha256(PAGE.encode()).hexdigest()
    assert first.metadata["read"] == [digest, len(PAGE.encode())]
    assert len(kept(outcomes)) == 2


def test_extraction_does_not_depend_on_what_came_before() -> None:
    assert page_text(PAGE) == page_text(PAGE)
    assert page_text(PAGE)


def test_a_page_in_an_unknown_encoding_is_rejected_by_its_place(tmp_path: Path) -> None:
    pages = [
        ("https://a.example/1", PAGE.encode(), "text/html", "200 OK"),
        ("https://a.example/2", b"\xff\xfe\xfa<html>", "text/html; charset=klingon", "200 OK"),
    ]
    file = warc(tmp_path / "crawl.warc", pages)
    drafts, bad = read(source(file, "warc"), max_bad_fraction=0.5)
    assert len(drafts) == 1
    assert [(one.file, one.line) for one in bad] == [(str(file), 3)]
    with pytest.raises(FormatError) as refused:
        read(source(file, "warc"))
    assert f"{file}:3: " in refused.value.what


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.warc", "warc"), ("x.warc.gz", "warc"), ("x.parquet", "parquet"), ("x.jsonl.gz", "jsonl")],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"PAR1 this is no file of its kind\n")
    with pytest.raises(FormatError) as refused:
        read(source(file, kind))
    assert str(file) in refused.value.where


def test_a_file_that_is_cut_off_is_one_clear_error(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "some words"}\n' * 5000)
    file = tmp_path / "x.jsonl.gz"
    file.write_bytes(whole)
    assert len(read(source(file))[0]) == 5000
    file.write_bytes(whole[:-30])
    with pytest.raises(FormatError) as refused:
        read(source(file))
    assert str(file) in refused.value.where


def test_malformed_rows_are_listed_with_file_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "fine words"}\n{"text": 3}\n[1]\n{"text": "cut\n{"text": "more"}\n')
    params = section(source(file), max_bad_fraction=0.6)
    assert gathered(params, tmp_path / "work").n_rejects == 3
    bad = rejects(tmp_path / "work")
    assert [(one.source, one.file, one.line) for one in bad] == [
        ("given", str(file), line) for line in (2, 3, 4)
    ]
    assert "'text' must be text" in bad[0].reason
    with pytest.raises(FormatError):
        gathered(section(source(file), max_bad_fraction=0.5), tmp_path / "strict")


def test_the_hub_is_read_at_one_commit_and_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the hub: what is asked of it, and what becomes of its rows."""
    import datasets

    asked: dict[str, object] = {}

    def load_dataset(repo: str, **named: object) -> list[dict[str, object]]:
        asked.update(named, repo=repo)
        return [{"text": "first words"}, {"text": None}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    declared = source("", "hub", repo="a/b", revision=REVISION, split="train", config="en")
    drafts, bad = read(declared, max_bad_fraction=0.5)
    assert [draft.text for draft in drafts] == ["first words"]
    assert [(one.file, one.line) for one in bad] == [(f"a/b@{REVISION}", 2)]
    assert asked == {
        "repo": "a/b", "name": "en", "split": "train", "revision": REVISION, "streaming": True,
    }  # fmt: skip


def test_the_hub_while_offline_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    declared = source("", "hub", repo="a/b", revision=REVISION, split="train")
    with pytest.raises(EnvironmentFailure) as refused:
        check_source(SourceParams.model_validate(declared))
    assert "HF_HUB_OFFLINE" in refused.value.fix


@pytest.mark.parametrize(
    ("declared", "key"),
    [
        (source("", "hub", repo="a/b", revision="main", split="train"), "revision"),
        (source("", "hub", repo="a/b", split="train"), ""),
        (source("x", "parquet", repo="a/b"), ""),
        (source("x", "csv"), "kind"),
        (source("x", role="test"), "role"),
        ({**source("x"), "licence": "my own"}, "licence"),
        ({k: v for k, v in source("x").items() if k != "licence"}, "licence"),
    ],
)
def test_a_source_that_is_not_pinned_or_licensed_is_refused(
    declared: dict[str, object], key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        section(declared)
    assert f"curate.sources.0{'.' + key if key else ''}" in refused.value.what
    section(source("x"), source("", "hub", repo="a/b", revision=REVISION, split="s", id="other"))
