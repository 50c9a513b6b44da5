"""Every reference beside a figure leads to a signed file, and there to that figure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forebear.documents.build import build_documents
from forebear.documents.evidence import ABSENT, follow
from forebear.documents.validators import validate
from forebear.formats import strictjson
from tests.unit.documents.fixture import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = (Path(__file__).parents[3] / "cards" / "declarations.example.yaml").read_text(
    encoding="utf-8"
)
_PLACE = re.compile(r"sha256:([0-9a-f]{64})#(/.*)?")
_BESIDE = "forebear:evidence:"
_OWN_PARAMS = "links/document.link"  # signed only after the documents are written


def _lines(value: Any) -> Iterator[tuple[str, str]]:
    """Every property of D8, wherever it stands."""
    if isinstance(value, list):
        for entry in value:
            yield from _lines(entry)
    elif isinstance(value, dict):
        if set(value) == {"name", "value"}:
            yield value["name"], value["value"]
        for inner in value.values():
            yield from _lines(inner)


def _signed(root: Path) -> dict[str, Any]:
    """Content of every file that can be cited, by digest; of a link its signed payload."""
    found: dict[str, Any] = {}
    for file in sorted(root.rglob("*")):
        if file.suffix in (".json", ".link") and file.is_file():
            data = file.read_bytes()
            content = json.loads(data)
            if file.suffix == ".link":
                content = strictjson.parse(base64.b64decode(content["payload"]), where=file.name)
            found[hashlib.sha256(data).hexdigest()] = content
    return found


@dataclass(frozen=True)
class _Built:
    """Both bills of a finished pipeline, what can be cited, and what is signed only later."""

    bill: dict[str, Any]
    document: dict[str, Any]
    signed: dict[str, Any]
    own: set[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> _Built:
    """Made once: nothing here changes it."""
    folder = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        root = folder / "repository"
        root.mkdir()
        project = make_project(root, folder / "keys")
        project.declare(EXAMPLE)
        facts, files = build_documents(project.inputs())
    assert validate(files, facts, libraries=False).faults == ()
    own = {file.sha256 for file in facts.evidence if file.link == _OWN_PARAMS}
    bill, document = (json.loads(files[name]) for name in ("bom.cdx.json", "bom.spdx.json"))
    return _Built(bill, document, _signed(root), own)


def _require_places(built: _Built, places: list[str]) -> None:
    assert len(places) > 50
    for text in places:
        match = _PLACE.fullmatch(text)
        assert match, text
        if match.group(1) not in built.own:
            assert follow(built.signed[match.group(1)], match.group(2) or "") is not ABSENT, text


def test_every_reference_of_the_cyclonedx_bill_leads_somewhere(built: _Built) -> None:
    lines = _lines(built.bill)
    _require_places(built, [text for name, text in lines if name.startswith(_BESIDE)])


def test_every_score_of_the_cyclonedx_bill_is_what_its_reference_leads_to(built: _Built) -> None:
    card = next(c for c in built.bill["components"] if c["bom-ref"] == "model")["modelCard"]
    beside = {entry["name"]: entry["value"] for entry in card["properties"]}
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics
    for metric in metrics:
        match = _PLACE.fullmatch(beside[f"{_BESIDE}{metric['slice']}:{metric['type']}"])
        assert match
        found = follow(built.signed[match.group(1)], match.group(2) or "")
        assert str(found) == metric["value"]


def _statements(document: dict[str, Any]) -> list[str]:
    return [e["statement"] for e in document["@graph"] if e["type"] == "Annotation"]


def test_every_reference_of_the_spdx_bill_leads_somewhere(built: _Built) -> None:
    lines = [line.split("=", 1) for text in _statements(built.document)
             for line in text.split("\n")]  # fmt: skip
    _require_places(built, [text for name, text in lines if name.startswith(_BESIDE)])


def test_every_declared_statement_names_the_role_of_who_made_it(built: _Built) -> None:
    roles = {text for name, text in _lines(built.bill) if name.startswith("forebear:declared:")}
    assert roles == {"Head of Compliance (example)"}
    line = "forebear:declared:use.intended=Head of Compliance (example)"
    assert line in "\n".join(_statements(built.document)).split("\n")
