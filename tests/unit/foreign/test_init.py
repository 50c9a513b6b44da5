"""``forebear init`` on the text of a ``dvc.yaml``: what is added, what stays, and the way back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from forebear.errors import ConfigError
from forebear.foreign.plan import Wishes, plan_init, plan_undo
from forebear.foreign.write import write_plan
from forebear.pipeline import inner_argv, load_pipeline
from tests.support.terminal import run_on_terminal
from tests.support.workspace import Workspace

PLAIN = """\
# our pipeline; do not touch the order
vars:
- params.yaml

stages:
  prepare:   # makes features
    cmd: python prepare.py   data/raw.csv  # fast
    deps:
      - prepare.py
      - data/raw.csv   # tracked by DVC
    params: [seed]
    outs:
      - features.csv


  train:
    desc: "trains 'it'"
    cmd: >-
      python train.py
      --lr ${lr}
    deps: [features.csv, train.py]
    outs: [model: {type: model}]   # the result
    # keep this comment

plots:
- curves.csv
"""
FLOWS = """\
stages:
    a:
        wdir: sub
        cmd: 'cat ''in put'' | sort > "$HOME/../out"'
        deps: [in]
        outs:
        - out
    b:
        cmd: "python -c \\"print('x')\\" && echo \\\\$X"
        outs:
        -   model:
                type: model
"""
MANY = """\
stages:
  one:
    cmd: |
      # first this
      python a.py

      python b.py 'it''s' > o
    outs:
    - o
  two:
    cmd:
    - echo one > t1
    - echo "two" > t2   # second
    outs:
    - t1
    - t2:
        type: model"""
TEMPLATES = """\
stages:
  train:
    foreach: ${models}
    do:
      cmd: python train.py ${key} ${item.lr}
      deps:
      - train.py
      outs:
      - out/${key}:
          type: model
  score:
    foreach: [x, y]
    do:
      cmd: echo ${item} > s-${item}
      outs:
      - s-${item}
  grid:
    matrix:
      n: [1, 2]
      kind: [p]
    cmd: echo ${item.n} ${item.kind} > g-${key}
    outs:
    - g-${key}
"""
PARAMS = "seed: 7\nlr: 1e-5\nmodels:\n  s: {lr: 1}\n  t: {lr: 2}\n"
TEXTS = {
    "plain": PLAIN,
    "flows": FLOWS,
    "many": MANY,
    "templates": TEMPLATES,
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "no line end": PLAIN.rstrip("\n"),
    "trailing blanks": MANY + "\n\n\n# end\n",
}


@pytest.fixture
def repo(workspace: Workspace) -> Callable[[str], Workspace]:
    """Writes a ``dvc.yaml`` into a fresh repository."""

    def make(text: str) -> Workspace:
        (workspace.root / "dvc.yaml").write_bytes(text.encode())
        workspace.write("params.yaml", PARAMS)
        return workspace

    return make


def _init(repo: Workspace, *ship: str, **wishes: object) -> str:
    write_plan(repo.root, plan_init(repo.root, Wishes(ship, **wishes)))  # type: ignore[arg-type]  # by name
    return (repo.root / "dvc.yaml").read_bytes().decode()


def _undo(repo: Workspace) -> str:
    write_plan(repo.root, plan_undo(repo.root))
    return (repo.root / "dvc.yaml").read_bytes().decode()


@pytest.mark.parametrize("name", TEXTS)
def test_undo_restores_every_byte(repo, name):
    workspace = repo(TEXTS[name])
    assert _init(workspace) != TEXTS[name]
    assert _undo(workspace) == TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_every_stage_is_recorded_and_a_second_init_changes_nothing(repo, name):
    workspace = repo(TEXTS[name])
    text = _init(workspace)
    for stage in load_pipeline(workspace.root).stages:
        assert inner_argv(stage)
        assert f"links/{stage.name}.link" in {out.path for out in stage.outs}
    assert plan_init(workspace.root, Wishes()).after == text


def test_lines_that_are_not_changed_stay_as_they_are(repo):
    text = _init(repo(PLAIN))
    changed = (
        "    cmd: python",
        "      python train.py",
        "    deps: [f",
        "    outs: [m",
        "train.py",
    )
    kept = [line for line in PLAIN.splitlines() if not line.startswith(changed)]
    ours = iter(text.splitlines())
    assert [line for line in kept if line not in ours] == []
    assert "cmd: forebear record prepare -- python prepare.py   data/raw.csv  # fast" in text


def test_plain_words_need_no_shell(repo):
    workspace = repo(PLAIN)
    _init(workspace)
    pipeline = load_pipeline(workspace.root)
    assert inner_argv(pipeline.stage("prepare")) == ("python", "prepare.py", "data/raw.csv")
    assert inner_argv(pipeline.stage("train")) == ("python", "train.py", "--lr", "1e-05")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_operators_quotes_and_variables_reach_the_shell_as_they_were(repo, shell):
    workspace = repo(FLOWS)
    _init(workspace, shell=shell)
    pipeline = load_pipeline(workspace.root)
    script = "cat 'in put' | sort > \"$HOME/../out\""
    assert inner_argv(pipeline.stage("a")) == (shell, "-c", script, "a")
    assert inner_argv(pipeline.stage("b"))[2] == "python -c \"print('x')\" && echo \\$X"
    assert _undo(workspace) == FLOWS


def test_a_stage_in_another_folder_names_its_link_from_there(repo):
    assert "- ../links/a.link  # forebear init" in _init(repo(FLOWS))


def test_templates_name_each_stage_by_what_they_iterate_over(repo):
    workspace = repo(TEMPLATES)
    _init(workspace)
    pipeline = load_pipeline(workspace.root)
    assert inner_argv(pipeline.stage("train@s")) == ("python", "train.py", "s", "1")
    assert inner_argv(pipeline.stage("score@y")) == ("sh", "-c", "echo y > s-y", "score@y")
    assert "grid@2-p" in {stage.name for stage in pipeline.stages}
    assert {f"links/{name}.link" for name in ("train@s", "train@t", "score@x", "grid@1-p")} <= set(
        pipeline.stage("attest").deps
    )


def test_a_new_item_of_a_template_becomes_a_dep_of_attest(repo):
    workspace = repo(TEMPLATES)
    _init(workspace)
    workspace.write("params.yaml", PARAMS + "  u: {lr: 3}\n")
    assert "links/train@u.link" in _init(workspace)
    assert _undo(workspace) == TEMPLATES


def test_undo_keeps_what_was_written_after_init(repo):
    workspace = repo(PLAIN)
    text = _init(workspace)
    edited = text.replace("--lr ${lr}", "--lr ${lr} --more").replace("# keep", "# do keep")
    (workspace.root / "dvc.yaml").write_bytes(edited.encode())
    wanted = PLAIN.replace("--lr ${lr}", "--lr ${lr} --more").replace("# keep", "# do keep")
    assert _undo(workspace) == wanted


def test_several_commands_that_were_edited_after_init_are_not_guessed(repo):
    workspace = repo(MANY)
    text = _init(workspace)
    (workspace.root / "dvc.yaml").write_text(
        text.replace("      echo one > t1\n", "      echo 1 > t1\n")
    )
    with pytest.raises(ConfigError, match="cannot come back"):
        _undo(workspace)


def test_a_stage_recorded_by_hand_is_left_alone_by_init_and_undo(repo):
    by_hand = "  h:\n    cmd: forebear record h -- true\n    outs:\n    - links/h.link\n"
    text = MANY.replace("  two:\n", f"{by_hand}  two:\n")
    workspace = repo(text)
    _init(workspace)
    assert inner_argv(load_pipeline(workspace.root).stage("h")) == ("true",)
    assert _undo(workspace) == text


def test_frozen_stages_are_not_touched(repo):
    text = MANY.replace("  one:\n", "  one:\n    frozen: true\n")
    workspace = repo(text)
    after = _init(workspace)
    assert after.startswith(text[: text.index("  two:")])
    assert "links/one.link" not in after


def test_params_files_become_deps_unless_told_otherwise(repo):
    workspace = repo(PLAIN)
    _init(workspace)
    assert "params.yaml" in load_pipeline(workspace.root).stage("prepare").deps
    _undo(workspace)
    _init(workspace, params_as_deps=False)
    assert "params.yaml" not in load_pipeline(workspace.root).stage("prepare").deps
    assert _undo(workspace) == PLAIN


def test_named_outs_are_shipped(repo):
    unmarked = PLAIN.replace("[model: {type: model}]", "[model]")
    workspace = repo(unmarked)
    _init(workspace, "model")
    pipeline = load_pipeline(workspace.root)
    assert pipeline.stage("train").options() == {"ship": ["model"]}
    assert "model" in pipeline.stage("attest").deps
    assert _undo(workspace) == unmarked


def test_a_model_among_the_artifacts_is_shipped(repo):
    text = PLAIN.replace("[model: {type: model}]", "[model]") + (
        "artifacts:\n  best:\n    path: model\n    type: model\n"
    )
    workspace = repo(text)
    _init(workspace)
    assert load_pipeline(workspace.root).stage("train").options() == {"ship": ["model"]}


def test_terms_of_the_release_are_read_when_there_are_any(repo):
    workspace = repo(PLAIN)
    workspace.write("params.yaml", PARAMS + "attest:\n  serial: 2\n")
    _init(workspace)
    assert load_pipeline(workspace.root).stage("attest").params == {"attest": {"serial": 2}}


REFUSED = {
    "nothing to ship": (PLAIN.replace(": {type: model}", ""), "--ship"),
    "unnamed": (
        "stages:\n  a:\n    foreach:\n    - {n: 1}\n    do:\n      cmd: echo ${item.n}\n",
        "list of mappings",
    ),
    "anchor": (
        "stages:\n  a:\n    cmd: &c echo > o\n    outs: [o: {type: model}]\n  b:\n    cmd: *c\n",
        "anchor",
    ),
    "braces": ("stages:\n  a: {cmd: touch o, outs: [o]}\n", "braces"),
    "name taken": ("stages:\n  source:\n    cmd: echo\n    outs: [o: {type: model}]\n", "taken"),
    "attest taken": (
        "stages:\n  attest:\n    cmd: touch o\n    outs: [o: {type: model}]\n",
        "signs no release",
    ),
    "outside": (
        "stages:\n  a:\n    cmd: touch o\n    deps: [/etc/passwd]\n    outs: [o: {type: model}]\n",
        "import-url",
    ),
    "no stages": ("vars: [params.yaml]\n", "declares no stages"),
    "quoted value": (
        "vars: [{v: it's}]\nstages:\n  a:\n    cmd: echo ${v} > o\n    outs: [o: {type: model}]\n",
        "quotes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_refused_and_nothing_is_written(repo, name):
    text, said = REFUSED[name]
    workspace = repo(text)
    with pytest.raises(ConfigError, match=said):
        _init(workspace)
    assert workspace.read("dvc.yaml") == text


def test_all_faults_are_told_at_once(repo):
    workspace = repo(REFUSED["outside"][0] + REFUSED["unnamed"][0].removeprefix("stages:\n")
                     .replace("  a:", "  b:"))  # fmt: skip
    with pytest.raises(ConfigError, match="2 fault"):
        _init(workspace)


def test_stages_of_a_second_file_are_refused_by_name(repo):
    workspace = repo(PLAIN)
    workspace.write("sub/dvc.yaml", "stages:\n  more:\n    cmd: touch o\n    outs: [o]\n")
    with pytest.raises(ConfigError, match=r"sub/dvc.yaml:more: only stages of the dvc.yaml at"):
        _init(workspace)
    shutil.rmtree(workspace.root / "sub")
    assert _init(workspace)


def test_a_folder_where_releases_go_is_not_taken_over(repo):
    workspace = repo(PLAIN)
    workspace.write("release/notes.txt", "mine")
    with pytest.raises(ConfigError, match="release: lies there already"):
        _init(workspace)


# ── the command ────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_shows_the_change_and_makes_none(repo):
    workspace = repo(PLAIN)
    done = workspace.run("forebear", "init", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "+    cmd: forebear record prepare -- python prepare.py" in done.stdout
    assert workspace.read("dvc.yaml") == PLAIN


def test_without_a_terminal_it_writes_only_with_yes(repo):
    workspace = repo(PLAIN)
    done = workspace.run("forebear", "init")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert workspace.read("dvc.yaml") == PLAIN
    assert workspace.run("forebear", "init", "--yes").returncode == 0
    assert workspace.read("dvc.yaml") != PLAIN
    assert workspace.run("forebear", "init", "--undo", "--yes").returncode == 0
    assert workspace.read("dvc.yaml") == PLAIN


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("n", False)])
def test_on_a_terminal_it_asks(repo, tmp_path: Path, answer, written):
    workspace = repo(PLAIN)
    words = [str(tmp_path / "w/bin/forebear"), "init"]
    code, shown = run_on_terminal(words, [answer], env=workspace.env, cwd=workspace.root)
    assert code == 0, shown
    assert (workspace.read("dvc.yaml") != PLAIN) == written


def test_a_repository_without_dvc_yaml_is_told_what_to_do(workspace):
    (workspace.root / "dvc.yaml").unlink()
    done = workspace.run("forebear", "init", "--yes")
    assert done.returncode == 2
    assert "dvc stage add" in done.stderr
