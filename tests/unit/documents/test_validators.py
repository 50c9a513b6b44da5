"""Documents are written without any library, and what is not installed is never called checked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forebear.documents import croissant, cyclonedx, hubcard, spdx
from forebear.documents.validators import unchecked_sentences, validate
from forebear.documents.values import Missing
from tests.unit.documents import bills

_WITHOUT = """
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {gone!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Gone())
from forebear.documents import croissant, cyclonedx, hubcard, spdx
from forebear.documents.validators import unchecked_sentences, validate
from tests.unit.documents import bills

facts = bills.facts()
files = {{}}
for module in (cyclonedx, spdx, croissant, hubcard):
    files.update(module.render(facts))
for name in sorted(files):
    print(name, len(files[name]))
for line in unchecked_sentences(validate(files, facts)):
    print(line)
print(validate(files, facts, libraries=False).unchecked)
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
_GONE = [
    "cyclonedx", "spdx_python_model", "mlcroissant", "huggingface_hub", "jsonschema", "torch",
    "transformers", "numpy", "rdflib",
]  # fmt: skip


def _files() -> dict[str, bytes]:
    facts = bills.facts()
    files: dict[str, bytes] = {}
    for module in (cyclonedx, spdx, croissant, hubcard):
        files |= module.render(facts)
    return files


def test_without_the_libraries_all_are_written_and_said_to_be_unchecked() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(gone=_GONE)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = run.stdout.splitlines()
    written = {name: len(data) for name, data in _files().items()}
    assert lines[: len(written)] == [f"{name} {written[name]}" for name in sorted(written)]
    unchecked = lines[len(written) : -1]
    assert [line.split(" was not validated: ")[0] for line in unchecked] == sorted(written)
    assert "bom.cdx.json was not validated: cyclonedx-python-lib[validation]" in unchecked[1]
    assert lines[-1] == "()"


def test_with_the_libraries_nothing_stays_unchecked() -> None:
    validation = validate({cyclonedx.FILE: _files()[cyclonedx.FILE]}, bills.facts())
    assert list(unchecked_sentences(validation)) == []
    assert validation.faults == ()


@pytest.mark.parametrize("name", [cyclonedx.FILE, spdx.FILE, croissant.file_name("curate:icd")])
def test_a_document_that_breaks_its_schema_is_named(name: str) -> None:
    files = _files()
    broken = files[name].replace(b'"name"', b'"nome"')
    assert broken != files[name]
    faults = validate({name: broken}, bills.facts()).faults
    assert faults
    assert {fault.file for fault in faults} == {name}


def test_a_gap_that_a_person_owes_is_not_told_twice() -> None:
    facts = bills.facts(without=("model.licence",))
    files = hubcard.render(facts)
    assert [f.message for f in validate(files, facts, libraries=False).faults] == ["has no license"]
    owed = Missing(code="C101", field="model.licence", label="Licence", supplier="somebody")
    draft = facts.model_copy(update={"missing": (owed,)})
    assert validate(hubcard.render(draft), draft, libraries=False).faults == ()


def test_files_that_are_none_of_these_are_passed_over() -> None:
    assert validate({"model-card.oecd.md": b"# x", "facts.json": b"{}"}, bills.facts()).faults == ()


@pytest.mark.parametrize("word", ["compliant", "conforms to the AI Act", "certified", "is exempt"])
def test_no_verdict_stands_in_any_of_them(word: str) -> None:
    for name, data in _files().items():
        assert word.lower() not in data.decode().lower(), name
