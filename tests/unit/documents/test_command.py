"""The stage and the command over the same fixture: outs, exit codes, output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from forebear import pipeline
from forebear.cli.document import command
from forebear.documents.build import build_documents
from forebear.errors import MissingExtra, UsageError
from tests.unit.documents.fixture import PARAMS, Project

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = (REPOSITORY / "cards" / "declarations.example.yaml").read_text(encoding="utf-8")
OPTIONS = {
    "links": "links",
    "base": "data/base/base.json",
    "ledger": "data/curate/ledger/root.json",
    "verdict": "data/eval/verdict",
    "declarations": "cards/declarations.yaml",
    "trust": "trust",
    "out": "cards/documents",
    "restricted": "cards/restricted",
}
ARGUMENTS = [word for name, path in OPTIONS.items() for word in (f"--{name}", path)]


def _run_stage(project: Project, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    params = tmp_path / "params.json"
    params.write_text(json.dumps(PARAMS))
    return subprocess.run(
        [sys.executable, "-m", "stages.document", *ARGUMENTS],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "FOREBEAR_PARAMS": str(params)},
        capture_output=True,
        text=True,
        check=False,
    )


def run(
    subcommand: click.Command, project: Project, monkeypatch: pytest.MonkeyPatch, *words: str
) -> Result:
    """A subcommand of ``forebear`` in the project."""
    stage = pipeline.Stage(
        name="document",
        cmd=" ".join(
            ["forebear record document -- python -m stages.document", *ARGUMENTS],
        ),
        params=PARAMS,
    )
    loaded = pipeline.Pipeline(stages=(stage,), root=project.root)
    monkeypatch.setattr(pipeline, "find_root", lambda: project.root)
    monkeypatch.setattr(pipeline, "load_pipeline", lambda _root: loaded)
    return CliRunner().invoke(subcommand, list(words), standalone_mode=False)


def _run_command(project: Project, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    return run(command, project, monkeypatch, *words)


def test_the_stage_writes_drafts_and_succeeds(project: Project, tmp_path: Path) -> None:
    done = _run_stage(project, tmp_path)
    assert done.returncode == 0, done.stderr
    index = json.loads((project.root / "cards/documents/documents.json").read_bytes())
    assert index["draft"] is True


def test_the_stage_refuses_changed_evidence_and_writes_nothing(
    project: Project, tmp_path: Path
) -> None:
    file = project.root / "data/cpt/metrics.json"
    file.write_bytes(file.read_bytes().replace(b"1.97", b"0.97"))
    done = _run_stage(project, tmp_path)
    assert done.returncode == 1
    assert "data/cpt/metrics.json" in done.stderr
    assert not (project.root / "cards/documents").exists()


def test_stage_and_command_write_the_same_bytes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare(EXAMPLE)
    assert _run_stage(project, tmp_path).returncode == 0
    out = tmp_path / "by-hand"
    result = _run_command(project, monkeypatch, "--out", str(out))
    assert result.return_value == 0, result.output
    names = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    written = {name: (out / name).read_bytes() for name in names}
    assert written == build_documents(project.inputs())[1]
    for name, data in written.items():
        kept = "" if name.startswith("restricted/") else "documents/"
        assert (project.root / "cards" / f"{kept}{name}").read_bytes() == data


def test_the_command_keeps_apart_what_is_for_authorities(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare(EXAMPLE)
    assert _run_command(project, monkeypatch).return_value == 0
    assert (project.root / "cards/restricted/annex-xi.md").exists()
    assert not (project.root / "cards/documents/restricted").exists()


def test_the_command_writes_drafts_and_returns_1(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _run_command(project, monkeypatch)
    assert result.return_value == 1
    assert "C101 error use.out_of_scope [D1, D2" in result.output
    assert (project.root / "cards/documents/README.md").exists()


def test_check_writes_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run_command(project, monkeypatch, "--check", "--json")
    assert result.return_value == 1
    body = json.loads(result.output)
    assert (body["ok"], body["draft"]) == (False, True)
    fields = [f["field"] for f in body["findings"] if f["code"] == "C101"]
    assert fields == sorted(fields)
    assert len(fields) == len(build_documents(project.inputs())[0].missing)
    assert not (project.root / "cards/documents").exists()


def test_warnings_fail_only_when_strict(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare(EXAMPLE)
    assert _run_command(project, monkeypatch, "--check").return_value == 0
    assert _run_command(project, monkeypatch, "--check", "--strict").return_value == 1


def test_changed_evidence_is_a_finding_and_nothing_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compliance page, 13.5 and 13.6: C120 with the file's path, C121 with the link's."""
    file = project.root / "data/sft/metrics.json"
    data = file.read_bytes()
    file.write_bytes(data.replace(b"1.97", b"0.97"))
    result = _run_command(project, monkeypatch, "--check")
    assert result.return_value == 1
    assert result.output.startswith("C120 error data/sft/metrics.json")
    file.unlink()
    assert "C120" in _run_command(project, monkeypatch, "--check").output
    file.write_bytes(data)
    link = project.root / "links" / "sft.link"
    link.write_text(link.read_text().replace('"sig":"', '"sig":"AAAA'))
    body = json.loads(_run_command(project, monkeypatch, "--check", "--json").output)
    assert [one["code"] for one in body["findings"]] == ["C121"]
    assert not (project.root / "cards/documents").exists()


def test_only_what_is_asked_for_is_written(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare(EXAMPLE)
    words = ("--out", str(tmp_path / "out"), "--only", "D7,d11", "--format", "md")
    assert _run_command(project, monkeypatch, *words).return_value == 0
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {"copyright-policy.md", "copyright-policy.internal.md", "licences.md",
                     "facts.json", "documents.json"}  # fmt: skip
    index = json.loads((tmp_path / "out/documents.json").read_bytes())
    assert {Path(one["path"]).name for one in index["documents"]} == names - {"documents.json"}


@pytest.mark.parametrize("words", [("--only", "D99"), ("--format", "docx"), ("--schema", "x"),
                                   ("--explain", "model.nam")])  # fmt: skip
def test_what_does_not_exist_is_wrong_usage(
    project: Project, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    error = _run_command(project, monkeypatch, *words).exception
    assert isinstance(error, UsageError)
    assert error.fix


def test_explain_tells_value_origin_and_supplier(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare(EXAMPLE)
    text = _run_command(project, monkeypatch, "--explain", "train.flop_modification").output
    assert "sum of train.stages[cpt].flop" in text
    text = _run_command(project, monkeypatch, "--explain", "provider.size").output
    assert "Supplied by the provider's legal department" in text
    assert "declared by Erika Mustermann" in text
    text = _run_command(project, monkeypatch, "--explain", "model.digest").output
    assert "signed by links/merge.link" in text


def test_schema_is_printed_without_a_repository() -> None:
    result = CliRunner().invoke(command, ["--schema", "facts"], standalone_mode=False)
    assert json.loads(result.output)["type"] == "object"


def test_a_missing_library_for_pdf_leaves_exit_3_and_the_pages(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: bytes) -> bytes:
        raise MissingExtra("pdf", "writing PDF")

    monkeypatch.setattr("forebear.documents.pdf.render_pdf", absent)
    project.declare(EXAMPLE)
    words = ("--out", str(tmp_path / "out"), "--only", "D7", "--format", "pdf")
    result = _run_command(project, monkeypatch, *words)
    assert result.return_value == 3
    assert "pip install 'forebear[pdf]'" in result.output
    assert (tmp_path / "out/copyright-policy.html").exists()


def test_the_check_imports_no_training_library(project: Project) -> None:
    """Compliance page, 13.32."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from forebear.documents.build import collect\n"
        "from forebear.documents.check import check_documents\n"
        "from forebear.documents.validators import validate\n"
        "from tests.unit.documents.fixture import Project, PARAMS\n"
        "inputs = Project(Path(sys.argv[1]), None).inputs()\n"
        "c = collect(inputs)\ncheck_documents(c.facts)\n"
        "validate(c.render(), c.facts, libraries=False)\n"
        "assert not {'torch', 'transformers', 'dvc', 'numpy', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(project.root)], check=True, cwd=REPOSITORY)
