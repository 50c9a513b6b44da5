"""The generator's digest covers the code and the data that shape the documents."""

from __future__ import annotations

from pathlib import Path

import yaml

from forebear.documents.generator import DATA, MODULES
from tests.support.closure import closure

_ROOT = Path(__file__).parents[3]
_FOLDERS = ("forebear/documents/", "forebear/drawing/")
_NO_SHAPE = {
    "documents/__init__.py", "documents/build.py", "documents/declarations.py",
    "documents/generator.py", "drawing/__init__.py",
}  # fmt: skip


def test_every_module_that_shapes_a_document_is_covered() -> None:
    used = {*closure("forebear/documents/facts.py"), *closure("forebear/documents/registry.py")}
    shaping = {path.removeprefix("forebear/") for path in used if path.startswith(_FOLDERS)}
    assert shaping - _NO_SHAPE == set(MODULES)


def test_all_that_the_digest_reads_is_a_dep_of_the_stage() -> None:
    read_by_stage = set(closure("stages/document.py"))
    assert {f"forebear/{name}" for name in MODULES} <= read_by_stage
    assert (_ROOT / "forebear" / "documents" / "templates").is_dir()


def test_the_data_that_it_reads_is_a_dep_of_the_stage() -> None:
    stages = yaml.safe_load((_ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = stages["document"]["deps"]
    for name in DATA:
        path = f"forebear/data/{name}"
        assert (_ROOT / path).is_file(), path
        assert any(path == dep or path.startswith(f"{dep}/") for dep in deps), path
