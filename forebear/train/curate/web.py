"""Pages of a web archive (WARC), and the text of a page.

Only successful responses with HTML count, and the plain text of ``conversion`` records (WET).
Records are read by warcio, text is extracted by trafilatura, as datatrove's own reader and
extractor do; those are not used as they are, because the reader wants a system library (libmagic)
and the extractor drops what takes longer than a second, so that its result would depend on the
machine.

Source: ISO 28500 (WARC 1.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forebear.errors import FormatError, MissingExtra

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# A page says its encoding in its first bytes, or not at all (HTML standard, section 13.2.3.2).
_HEAD_BYTES = 1024
_HTTP_OK = "200"


@dataclass(frozen=True, slots=True)
class Page:
    """One record that holds a document.

    Attributes:
        number: of the record, from 1; others are counted, too.
        fault: why it cannot be read; None when it can.
        payload: its bytes.
    """

    number: int
    url: str
    text: str
    payload: bytes
    html: bool
    fault: FormatError | None = None


def require_web() -> None:
    """Refuses to go on without the libraries for web archives.

    Raises:
        MissingExtra: one of them is not installed.
    """
    if find_spec("warcio") is None or find_spec("trafilatura") is None:
        raise MissingExtra("web", "reading web archives")


def read_pages(file: Path) -> Iterator[Page]:
    """Documents of a ``.warc`` or ``.warc.gz`` file, in its order.

    Raises:
        FormatError: the file is broken.
        OSError: it cannot be read.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    number = 0
    try:
        with file.open("rb") as stream:
            for number, record in enumerate(ArchiveIterator(stream), start=1):
                kind = _kind(record)
                if kind is not None:
                    yield _page(record, number, kind)
    except ArchiveLoadFailed as error:
        raise FormatError(
            f"is broken after record {number}, or no WARC: {str(error)[:200]}", where=str(file)
        ) from error


def _kind(record: Any) -> str | None:
    """Media type of a record that holds a document, or None."""
    if record.rec_type == "conversion":
        return "text/plain"
    if record.rec_type != "response" or record.http_headers is None:
        return None
    if record.http_headers.get_statuscode() != _HTTP_OK:
        return None
    said = record.rec_headers.get_header("WARC-Identified-Payload-Type")
    said = said or record.http_headers.get_header("Content-Type") or ""
    kind = said.partition(";")[0].strip().lower()
    return kind if kind in _HTML else None


def _page(record: Any, number: int, kind: str) -> Page:
    url = record.rec_headers.get_header("WARC-Target-URI") or ""
    header = record.http_headers.get_header("Content-Type") if record.http_headers else ""
    payload = record.content_stream().read()
    text = _decoded(payload, (header or "").encode("latin-1", "replace"))
    fault = None if text.strip() else FormatError("holds no text in a known encoding", where=url)
    return Page(number, url, text, payload, html=kind in _HTML, fault=fault)


def _decoded(payload: bytes, header: bytes) -> str:
    """The text in the encoding that the header or the page names, else UTF-8; empty if neither."""
    named = _CHARSET.search(header) or _CHARSET.search(payload[:_HEAD_BYTES])
    for encoding in (*([named[1].decode()] if named else []), "utf-8"):
        try:
            return payload.decode(encoding)
        except (LookupError, UnicodeError):
            continue
    return ""


def page_text(html: str) -> str:
    """The main text of a page, without menus, scripts and comments; empty when there is none.

    Source: Barbaresi 2021 (trafilatura), ``extract`` for precision. Its memory of earlier pages
    (``deduplicate``) stays off: what it drops would depend on how pages are spread over tasks.
    """
    from trafilatura import extract

    return extract(html, favor_precision=True, include_comments=False, deduplicate=False) or ""
