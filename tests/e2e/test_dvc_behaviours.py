"""What DVC does behind the recorder's back: each case in a real repository, with real DVC.

Links are ordinary cached outs, so whatever DVC restores, skips or copies must leave a repository
that verifies; what a person changes by hand must not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.foreign import commit, failing, require, results
from tests.support.workspace import Workspace, copy_template, open_workspace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LINKS = ("prepare", "train")


def links(workspace: Workspace) -> dict[str, bytes]:
    return {name: (workspace.root / f"links/{name}.link").read_bytes() for name in LINKS}


def findings(found: dict[str, dict], check: str) -> str:
    return json.dumps(found[check])


# ── runs ───────────────────────────────────────────────────────────────────────────────────────


def test_a_forced_run_changes_its_link_and_runs_nothing_but_attest_after_it(foreign):
    before = links(foreign)
    said = foreign.repro("--force", "--single-item", "prepare").stdout
    assert links(foreign)["prepare"] != before["prepare"]
    said = foreign.repro().stdout
    assert "Stage 'train' didn't change" in said
    assert "Running stage 'attest'" in said
    assert links(foreign)["train"] == before["train"]
    assert failing(results(foreign)) == set()


def test_the_run_cache_restores_outs_and_link_of_one_run(foreign):
    before = links(foreign)
    params = foreign.read("params.yaml")
    foreign.write("params.yaml", params.replace("0.25", "0.75"))
    foreign.repro("train")
    assert links(foreign)["train"] != before["train"]
    foreign.write("params.yaml", params)
    said = foreign.repro().stdout
    assert "is cached" in said
    assert links(foreign) == before
    assert failing(results(foreign)) == set()


def test_a_fresh_clone_pulls_and_verifies_and_has_nothing_to_run(foreign, tmp_path):
    require(foreign, "dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    commit(foreign, "a remote")
    require(foreign, "dvc", "push", "-q")
    folder = tmp_path / "other"
    shutil.copytree(tmp_path / "w/bin", folder / "bin")
    (folder / "config/forebear/keys").mkdir(parents=True)
    shutil.copy(foreign.keys / "owner.pub", folder / "config/forebear/keys")
    clone = open_workspace(folder)
    require(foreign, "git", "clone", "-q", str(foreign.root), str(clone.root))
    require(clone, "dvc", "pull", "-q")
    found = results(clone)
    assert failing(found) == set()
    assert found["C4"]["status"] == found["C15"]["status"] == "passed"
    assert "Running stage" not in clone.repro().stdout


def test_committing_a_hand_edit_fails_c4_and_says_what_to_run(foreign):
    (foreign.root / "model/weights.json").unlink()  # it may be a link into the cache
    foreign.write("model/weights.json", '{"w": 1000000}')
    require(foreign, "dvc", "commit", "--force", "--quiet", "train")
    found = results(foreign)
    assert {"C4", "C15"} <= failing(found)
    assert "train" in findings(found, "C4")
    assert "dvc repro" in findings(found, "C4")


def test_a_failed_command_leaves_no_link(foreign):
    foreign.write(
        "train.py",
        "import pathlib\npathlib.Path('model').mkdir(exist_ok=True)\nraise SystemExit(7)",
    )
    done = foreign.run("dvc", "repro", "train")
    assert done.returncode != 0
    assert "exit code 7" in done.stderr
    assert not (foreign.root / "links/train.link").exists()
    assert (foreign.root / "links/prepare.link").exists()


@pytest.mark.parametrize("where", [(), ("--temp",)], ids=["here", "elsewhere"])
def test_an_experiment_is_recorded_and_verifies(foreign, where):
    require(foreign, "dvc", "exp", "run", *where, "-n", "warm", "-S", "train.rate=0.5")
    if where:
        assert '"w": 47.5' in foreign.read("model/weights.json")
        require(foreign, "dvc", "exp", "apply", "warm")
    assert '"w": 95.0' in foreign.read("model/weights.json")
    assert foreign.run_record("train")["params_json"] == '{"train":{"rate":0.5}}'
    assert failing(results(foreign)) == set()


# ── the cache ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_outs_that_are_links_into_the_cache_are_recorded_packed_and_verified(foreign, kind):
    require(foreign, "dvc", "config", "cache.type", kind)
    foreign.write("params.yaml", foreign.read("params.yaml").replace("0.25", "0.125"))
    foreign.repro()
    require(foreign, "dvc", "checkout", "--relink", "--quiet")
    weights = foreign.root / "model/weights.json"
    assert weights.is_symlink() if kind == "symlink" else weights.stat().st_nlink > 1
    assert failing(results(foreign)) == set()
    foreign.repro("--force", "train")
    foreign.repro()
    assert failing(results(foreign)) == set()
    require(foreign, "forebear", "pack", "../linked")
    assert not (foreign.root.parent / "linked/model/weights.json").is_symlink()
    assert failing(results(foreign, "../linked")) == set()


@pytest.mark.parametrize("target", ["outside", "inside"])
def test_a_link_to_anywhere_but_the_cache_is_no_file(foreign, tmp_path, target):
    place = foreign.root / "notes.json" if target == "inside" else tmp_path / "notes.json"
    weights = foreign.root / "model/weights.json"
    place.write_bytes(weights.read_bytes())
    weights.unlink()
    weights.symlink_to(place)
    assert "C4" in failing(results(foreign))


def test_a_corrupted_object_of_the_cache_fails_c4_after_checkout(foreign):
    weights = foreign.root / "model/weights.json"
    data = weights.read_bytes()
    (held,) = [
        file for file in (foreign.root / ".dvc/cache/files/md5").rglob("*")
        if file.is_file() and file.read_bytes() == data
    ]  # fmt: skip
    held.chmod(0o644)
    held.write_bytes(data.replace(b"47", b"74"))
    held.chmod(0o444)
    shutil.rmtree(foreign.root / "model")
    # DVC trusts an object that is write-protected, or refuses: either way nothing false passes
    foreign.run("dvc", "checkout", "--quiet", "model")
    found = results(foreign)
    assert "C4" in failing(found)


# ── sources ────────────────────────────────────────────────────────────────────────────────────


def _with_source(workspace: Workspace, dep: str) -> None:
    """Makes ``prepare`` read one more file, and runs everything."""
    text = workspace.read("dvc.yaml")
    workspace.write(
        "dvc.yaml", text.replace("    - data/raw.csv\n", f"    - data/raw.csv\n    - {dep}\n")
    )
    commit(workspace, "one more source")
    workspace.repro()
    commit(workspace, "run")


def test_dvc_files_and_imports_are_sources_with_url_and_revision(foreign, tmp_path):
    foreign.write("../away/table.csv", "t,1\n")
    require(foreign, "dvc", "import-url", "-q", "../away/table.csv", "table.csv")
    _with_source(foreign, "table.csv")
    products = foreign_source(foreign).products
    assert {"data/raw.csv", "table.csv", "prepare.py"} <= products.keys()
    origin = foreign_source(foreign).byproducts["forebear"]["origins"]["table.csv"]
    assert origin["url"].endswith("away/table.csv")
    assert len(origin["revision"]) == 32
    found = results(foreign)
    assert failing(found) == set()
    assert found["C15"]["status"] == "passed"


def test_an_import_from_another_repository_names_its_commit(foreign, tmp_path):
    other = open_workspace(tmp_path / "w")  # its environment, in another folder
    upstream = tmp_path / "w/upstream"
    upstream.mkdir()
    there = Workspace(upstream, other.keys, other.env)
    require(there, "git", "init", "-q")
    require(there, "dvc", "init", "-q")
    there.write("given.csv", "g,1\n")
    commit(there, "given")
    require(foreign, "dvc", "import", "-q", str(upstream), "given.csv")
    _with_source(foreign, "given.csv")
    origin = foreign_source(foreign).byproducts["forebear"]["origins"]["given.csv"]
    assert origin["url"] == str(upstream)
    assert origin["path"] == "given.csv"
    assert origin["revision"] == require(there, "git", "rev-parse", "HEAD").strip()
    assert failing(results(foreign)) == set()


def test_outs_of_a_frozen_stage_are_sources(foreign):
    # what made it is not recorded: DVC never runs it again
    require(foreign, "forebear", "init", "--undo", "--yes")
    require(foreign, "dvc", "repro", "-q")
    require(foreign, "dvc", "freeze", "prepare")
    require(foreign, "forebear", "init", "--ship", "model", "--yes")
    commit(foreign, "frozen")
    foreign.repro()
    commit(foreign, "run")
    # DVC does not notice that attest has one dep less: the old release is there, and C15 tells
    assert "C15" in failing(results(foreign))
    foreign.repro("--force", "--single-item", "attest")
    assert "tree:features" in foreign_source(foreign).products
    assert "links/prepare.link" not in foreign.read("dvc.yaml")
    found = results(foreign)
    assert failing(found) == set()
    assert found["C15"]["status"] == "passed"


def test_tracked_data_that_differs_from_its_dvc_file_is_not_called_committed(foreign):
    foreign.write("data/raw.csv", foreign.read("data/raw.csv") + "r40,40\n")
    foreign.repro()
    record = foreign_source(foreign).byproducts["forebear"]
    assert not record["committed"]
    assert "data/raw.csv" in record["differs"]
    assert results(foreign)["C15"]["status"] == "unchecked"


def foreign_source(workspace: Workspace):
    """The owner's link, unverified."""
    from forebear.formats.dsse import parse_envelope
    from forebear.formats.link import parse_link

    (file,) = (workspace.root / "release/links").glob("source.*.link")
    return parse_link(parse_envelope(file.read_bytes(), where=file.name).payload, where=file.name)


# ── templates ──────────────────────────────────────────────────────────────────────────────────

TEMPLATES = """\
stages:
  part:
    foreach: [a, b]
    do:
      cmd: echo ${item} > part-${item}.txt
      outs:
      - part-${item}.txt
  mix:
    matrix:
      left: [a]
      right: [b]
    cmd: cat part-${item.left}.txt part-${item.right}.txt > mix-${key}.txt
    deps:
    - part-${item.left}.txt
    - part-${item.right}.txt
    outs:
    - mix-${key}.txt:
        type: model
"""


def test_foreach_and_matrix_stages_have_a_link_each(foreign_release: Path, tmp_path):
    workspace = copy_template(foreign_release, tmp_path / "w")
    for path in ("release", "links", "model", "features"):
        shutil.rmtree(workspace.root / path)
    for path in ("dvc.lock", "scores.json"):
        (workspace.root / path).unlink()
    workspace.write("dvc.yaml", TEMPLATES)
    require(workspace, "forebear", "init", "--yes")
    commit(workspace, "templates")
    workspace.repro()
    made = {file.name for file in (workspace.root / "links").glob("*.link")}
    assert made == {"part@a.link", "part@b.link", "mix@a-b.link", "attest.link"}
    assert failing(results(workspace)) == set()
    require(workspace, "forebear", "pack", "../templates")
    assert failing(results(workspace, "../templates")) == set()
