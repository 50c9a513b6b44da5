"""The stage and the command over the same fixture: outs, exit codes, output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forebear import pipeline
from forebear.cli.document import command
from forebear.documents.build import build_documents
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


def _run_command(project: Project, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
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
    return CliRunner().invoke(command, list(words), standalone_mode=False)


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
    written = {file.name: file.read_bytes() for file in out.iterdir()}
    assert written == build_documents(project.inputs())[1]
    for name, data in written.items():
        assert (project.root / "cards/documents" / name).read_bytes() == data


def test_the_command_writes_drafts_and_returns_1(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _run_command(project, monkeypatch)
    assert result.return_value == 1
    assert "C101 error use.out_of_scope [D1, D2]" in result.output
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
