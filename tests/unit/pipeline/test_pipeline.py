"""The pipeline as plain data, read by DVC itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.pipeline import (
    Out,
    Pipeline,
    Stage,
    find_root,
    inner_argv,
    link_path,
    load_pipeline,
    load_workspace,
)
from tests.support.workspace import Workspace

PIPELINE = """
vars:
- size: 3
stages:
  late:
    cmd: forebear record late -- cp parts/one.txt late.txt
    deps:
    - parts
    outs:
    - late.txt
    - links/late.link
  part:
    foreach:
    - one
    - two
    do:
      cmd: forebear record part@${item} -- head -c ${size} other.yaml
      deps:
      - other.yaml
      params:
      - seed
      - other.yaml:
        - model.lr
      outs:
      - parts/${item}.txt
      - links/part@${item}.link
  grid:
    matrix:
      a: [1, 2]
      b: [x]
    cmd: forebear record grid@${item.a}-${item.b} -- echo ${item.a}
    outs:
    - grid/${item.a}:
        type: model
        cache: false
    plots:
    - curves/${item.a}.csv
  cold:
    cmd: forebear record cold -- true
    frozen: true
    outs:
    - cold.txt
"""


@pytest.fixture
def pipeline(workspace: Workspace) -> Pipeline:
    workspace.write("dvc.yaml", PIPELINE)
    workspace.write("other.yaml", "model:\n  lr: 0.5\n  depth: 2\n")
    workspace.write("raw.txt", "raw")
    workspace.write(
        "raw.txt.dvc", "outs:\n- md5: bda4e11402f3f51ff2ba6f4bcb8bc4ae\n  path: raw.txt\n"
    )
    return load_pipeline(workspace.root)


def test_producers_come_before_consumers(pipeline: Pipeline) -> None:
    names = [stage.name for stage in pipeline.stages]
    assert names == ["part@one", "part@two", "late", "grid@1-x", "grid@2-x"]


def test_foreach_and_matrix_are_resolved(pipeline: Pipeline) -> None:
    assert inner_argv(pipeline.stage("part@two")) == ("head", "-c", "3", "other.yaml")
    grid = pipeline.stage("grid@2-x")
    assert grid.outs == (
        Out("curves/2.csv", plot=True),
        Out("grid/2", cached=False, kind="model"),
    )


def test_params_are_keyed_by_section_and_by_file(pipeline: Pipeline) -> None:
    assert pipeline.stage("part@one").params == {"seed": 7, "other.yaml": {"model": {"lr": 0.5}}}


def test_frozen_stages_and_dvc_files_are_sources(pipeline: Pipeline) -> None:
    assert [source.name for source in pipeline.sources] == ["cold", "raw.txt.dvc"]
    assert pipeline.producer("cold.txt") is None
    assert pipeline.producer("raw.txt") is None
    with pytest.raises(ConfigError, match="frozen"):
        pipeline.stage("cold")


def test_producer_is_found_by_path_inside_and_across_outs(pipeline: Pipeline) -> None:
    part = pipeline.producer("parts/one.txt")
    assert part is not None
    assert part.name == "part@one"
    assert pipeline.producer("parts") is None
    assert [stage.name for stage in pipeline.producers("parts")] == ["part@one", "part@two"]
    inside = pipeline.producer("grid/1/weights.bin")
    assert inside is not None
    assert inside.name == "grid@1-x"


def test_json_round_trip_keeps_everything_but_the_root(pipeline: Pipeline) -> None:
    again = Pipeline.from_json(json.loads(json.dumps(pipeline.to_json())))
    assert again == Pipeline(pipeline.stages, None, pipeline.sources)


@pytest.mark.parametrize(
    "value", [None, {}, {"schema": "forebear.pipeline/v1"}, {"schema": "other", "stages": []}]
)
def test_json_of_another_form_is_a_format_error(value: object) -> None:
    with pytest.raises(FormatError):
        Pipeline.from_json(value)


def test_json_with_a_field_of_another_type_is_a_format_error() -> None:
    value = Pipeline((Stage("a", "x"),)).to_json()
    value["stages"][0]["deps"] = "in.txt"
    with pytest.raises(FormatError, match="deps"):
        Pipeline.from_json(value)


@pytest.mark.parametrize(
    "cmd",
    [
        "python x.py",
        "forebear record a",
        "forebear record a --",
        "forebear record b -- x",
        "X=1 forebear record a -- x",
        "forebear record a -- 'x",
        "forebear verify a -- x",
    ],
)
def test_command_that_is_not_one_recorder_call_is_refused(cmd: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inner_argv(Stage("a", cmd))
    assert caught.value.where == "dvc.yaml: a.cmd"


def test_command_may_hold_options_and_a_second_separator() -> None:
    stage = Stage("a", "forebear record --require-clean a -- x 'b c' -- d")
    assert inner_argv(stage) == ("x", "b c", "--", "d")
    assert link_path(stage) == "links/a.link"


def test_missing_param_is_named(workspace: Workspace) -> None:
    workspace.write("params.yaml", "seed: 7\n")
    with pytest.raises(ConfigError) as caught:
        load_pipeline(workspace.root)
    assert caught.value.where == "params.yaml: make"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dvc.yaml", "stages: [1]"),
        ("dvc.yaml", "stages: {a: {cmd: x, outs: [{"),
        ("dvc.yaml", "stages: {a: {cmd: '${nothing}'}}"),
        ("params.yaml", "make: {when: 2020-01-01}\nseed: 1\n"),
        ("params.yaml", "make: [\n"),
    ],
)
def test_what_dvc_refuses_is_a_config_error(workspace: Workspace, file: str, text: str) -> None:
    workspace.write(file, text)
    with pytest.raises(ConfigError):
        load_pipeline(workspace.root)


def test_cycle_is_a_config_error(workspace: Workspace) -> None:
    stage = "  {0}:\n    cmd: x\n    deps: [{1}]\n    outs: [{0}]\n"
    workspace.write("dvc.yaml", "stages:\n" + stage.format("a", "b") + stage.format("b", "a"))
    with pytest.raises(ConfigError, match="cycle"):
        load_pipeline(workspace.root)


def test_cache_folder_is_dvcs_own(workspace: Workspace) -> None:
    assert load_workspace(workspace.root).cache_dir == workspace.root / ".dvc/cache/files/md5"


def test_root_is_found_from_below_and_from_the_environment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = workspace.root / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below) == workspace.root
    monkeypatch.setenv("DVC_ROOT", str(workspace.root))
    monkeypatch.chdir(workspace.root.parent)
    assert find_root() == workspace.root


def test_no_repository_is_an_environment_failure(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="no DVC repository"):
        find_root(tmp_path)


def test_import_loads_no_dvc() -> None:
    code = "import sys, forebear.pipeline; raise SystemExit('dvc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_repository_around_the_current_folder_counts_before_dvc_root(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # an experiment elsewhere on disk: DVC_ROOT names the repository it was started in
    elsewhere = workspace.root / ".dvc/tmp/exps/one"
    shutil.copytree(workspace.root / ".git", elsewhere / ".git")
    (elsewhere / ".dvc").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(workspace.root))
    monkeypatch.chdir(elsewhere)
    assert find_root() == elsewhere
    monkeypatch.chdir(tmp_path.parent)
    assert find_root() == workspace.root


def test_credentials_in_the_url_of_an_import_are_left_out(workspace: Workspace) -> None:
    workspace.write("given.csv", "g\n")
    workspace.write(
        "given.csv.dvc",
        "frozen: true\ndeps:\n- path: https://me:secret@example.org/given.csv?token=secret\n"
        "  etag: abc\nouts:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  hash: md5\n"
        "  path: given.csv\n",
    )
    (source,) = load_pipeline(workspace.root).sources
    assert source.origin["url"] == "https://example.org/given.csv"
    assert "secret" not in json.dumps(load_pipeline(workspace.root).to_json())
