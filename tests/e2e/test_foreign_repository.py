"""A DVC repository of somebody else: adopted, recorded, attested, packed, verified by strangers."""

from __future__ import annotations

import shutil

import pytest

from tests.support.foreign import PIPELINE, failing, require, results

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CORE = ("C1", "C2", "C3", "C4", "C5", "C6")


@pytest.mark.parametrize("place", ["../packed", "."])
def test_release_and_repository_pass(foreign, place):
    found = results(foreign, place)
    assert failing(found) == set(), found
    assert {name for name in CORE if found[name]["status"] == "passed"} == set(CORE)


def test_the_commit_is_vouched_for(foreign):
    assert results(foreign, ".")["C15"]["status"] == "passed"


def test_a_tampered_file_fails_c4(foreign):
    file = foreign.root.parent / "packed/model/weights.json"
    file.write_text(file.read_text().replace("{", "{ "))
    assert "C4" in failing(results(foreign, "../packed"))


def test_the_release_carries_the_model_and_not_the_rest(foreign):
    packed = foreign.root.parent / "packed"
    assert (packed / "model/README.txt").is_file()
    assert not (packed / "features").exists()


@pytest.mark.parametrize("tampered", [False, True])
def test_stock_in_toto_agrees(foreign, tampered):
    packed = foreign.root.parent / "packed"
    if tampered:
        (packed / "model/README.txt").write_text("another model\n")
    done = foreign.run(
        "sh", "-c",
        f"cd {packed} && in-toto-verify --layout root.layout --verification-keys owner.pub "
        "--link-dir links --inspection-timeout 86400",
    )  # fmt: skip
    assert (done.returncode != 0) == tampered, done.stderr


def test_nothing_is_left_to_do_and_undo_restores_the_file(foreign):
    assert "didn't change" in foreign.repro("train").stdout
    require(foreign, "forebear", "init", "--undo", "--yes")
    assert foreign.read("dvc.yaml") == PIPELINE


ONE_FILE = """\
stages:
  fit:
    cmd: python -c "open('model.json', 'w').write('{}')"
    outs:
    - model.json:
        type: model
"""


def test_a_single_file_is_a_model_too(foreign):
    foreign.write("dvc.yaml", ONE_FILE)
    require(foreign, "forebear", "init", "--yes")
    foreign.repro()
    shutil.rmtree(foreign.root.parent / "packed")
    require(foreign, "forebear", "pack", "../packed")
    found = results(foreign, "../packed")
    assert failing(found) == set()
    assert found["C9"]["status"] == "passed"
    (foreign.root.parent / "packed/model.json").write_text("{ }")
    assert "C4" in failing(results(foreign, "../packed"))
