"""The generator's digest covers the code that shapes the documents."""

from __future__ import annotations

from pathlib import Path

from forebear.documents.generator import MODULES
from tests.support.closure import closure

_FOLDER = "forebear/documents/"
_NO_SHAPE = {"__init__.py", "declarations.py", "build.py", "generator.py"}


def test_every_module_that_shapes_a_document_is_covered() -> None:
    used = {*closure(f"{_FOLDER}facts.py"), *closure(f"{_FOLDER}render.py")}
    shaping = {path.removeprefix(_FOLDER) for path in used if path.startswith(_FOLDER)}
    assert shaping - _NO_SHAPE == set(MODULES)


def test_all_that_the_digest_reads_is_a_dep_of_the_stage() -> None:
    read_by_stage = set(closure("stages/document.py"))
    assert {f"{_FOLDER}{name}" for name in MODULES} <= read_by_stage
    assert (Path(__file__).parents[3] / _FOLDER / "templates").is_dir()
