"""Stages run again in a clean room, under real DVC: verdicts, what is signed, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import FormatError, UsageError
from forebear.evidence.reproduction import parse_reproduction
from forebear.formats.statement import REPRODUCTION, Statement, parse_bundle, parse_statement
from forebear.pipeline import load_workspace
from forebear.recording.child import process_table
from forebear.release.reproduce import Original, parse_settings, with_settings
from forebear.release.reproduce import reproduce as run_again
from forebear.signing.keys import create_key, key_files, load_public
from forebear.signing.signer import verify_envelope
from tests.support.workspace import MAKE, PIPELINE, Workspace, copy_template, make_template


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    make_template(folder)
    copy_template(folder, folder / "done").repro()
    return folder / "done"


@pytest.fixture
def workspace(recorded: Path, tmp_path: Path) -> Workspace:
    made = copy_template(recorded, tmp_path / "w")
    create_key("recorder", tmp_path / "w" / "other", None)
    return made


def other_key(workspace: Workspace) -> Path:
    return key_files("recorder", workspace.root.parent / "other")[0]


def reproduce(workspace: Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    return workspace.run(
        "forebear", "reproduce", *words, "--key", str(other_key(workspace)), "--out", "../said"
    )


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)["stages"]
    return found


def said(workspace: Workspace, stage: str) -> Statement:
    file = workspace.root.parent / "said" / f"{stage}.reproduction.sigstore.json"
    bundle = parse_bundle(file.read_bytes(), where=file.name)
    verify_envelope(bundle.envelope, load_public(other_key(workspace).with_suffix(".pub")))
    return parse_statement(bundle.envelope.payload, where=file.name)


# ── identical ──────────────────────────────────────────────────────────────────────────────────


def test_stages_that_come_out_the_same_are_identical_and_attested(workspace: Workspace) -> None:
    before = state(workspace.root)
    done = reproduce(workspace, "make", "use")
    assert done.returncode == 0, done.stderr
    assert state(workspace.root) == before
    assert [line for line in done.stdout.splitlines() if "identical" in line] == [
        "make: identical",
        "use: identical",
    ]
    statement = said(workspace, "make")
    link = workspace.link("make")
    assert statement.predicate_type == REPRODUCTION
    assert dict(statement.subjects) == {
        name: link.products[name] for name in ("tree:out/tree", "metrics.json")
    }
    found = parse_reproduction(statement, where="make")
    assert found.verdict == "identical"
    assert found.environment["equal"] is True
    assert found.confinement["level"] in {"enforced", "observed", "unchecked"}


def test_the_own_key_makes_a_repetition_and_no_independent_reproduction(
    workspace: Workspace,
) -> None:
    done = workspace.run("forebear", "reproduce", "make", "--out", "../said", "--json")
    assert done.returncode == 0, done.stderr
    assert rows(done)[0]["independent"] is False
    again = workspace.run("forebear", "reproduce", "make", "--out", "../said")
    assert "no independent reproduction" in again.stdout
    assert rows(reproduce(workspace, "make", "--json"))[0]["independent"] is True


def test_what_the_workspace_lost_comes_from_commit_and_cache_by_digest(
    workspace: Workspace,
) -> None:
    workspace.write("make.py", "raise SystemExit('edited since')\n")
    file = workspace.root / "out/tree/x.txt"
    file.unlink()
    file.write_text("edited since")
    done = reproduce(workspace, "make", "use")
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.read_text() == "edited since"


def test_what_is_nowhere_leaves_the_stage_unchecked(workspace: Workspace) -> None:
    file = workspace.root / "out/tree/x.txt"
    file.unlink()
    file.write_text("edited since")
    assert workspace.run("rm", "-r", ".dvc/cache").returncode == 0
    done = reproduce(workspace, "make", "use", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    assert [row["verdict"] for row in rows(done)] == ["identical", "unchecked"]
    assert "out/tree/x.txt (sha256 " in rows(done)[1]["reason"]
    assert not (workspace.root.parent / "said" / "use.reproduction.sigstore.json").exists()


# ── different ──────────────────────────────────────────────────────────────────────────────────


def test_other_params_come_out_different_and_are_shown(workspace: Workspace) -> None:
    done = reproduce(workspace, "make", "--set", "make.text=bye")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("make: different: first in out/tree/x.txt")
    found = parse_reproduction(said(workspace, "make"), where="make")
    assert found.verdict == "different"
    assert found.changed_params == {"make.text": '"bye"'}
    assert found.comparison["files"] == ["out/tree/x.txt"]


def test_the_same_value_set_again_is_no_change(workspace: Workspace) -> None:
    done = reproduce(workspace, "make", "--set", "seed=7", "--json")
    assert done.returncode == 0, done.stderr
    assert rows(done)[0]["changed_params"] == {}


def test_a_param_that_no_stage_has_is_refused_before_anything_runs(workspace: Workspace) -> None:
    for word in ("make.nothing=1", "nothing=1"):
        assert reproduce(workspace, "make", "--set", word).returncode == 2
    assert not (workspace.root.parent / "said").exists()


def test_a_key_that_is_not_there_is_told_before_anything_runs(workspace: Workspace) -> None:
    done = workspace.run("forebear", "reproduce", "make", "--key", "../gone.pem")
    assert done.returncode == 4
    assert "gone.pem" in done.stderr
    assert "running" not in done.stdout + done.stderr


TENSORS = (
    MAKE
    + """
import struct
noise = float(os.environ.get("LC_NOISE", "0"))
values = [1.0 + noise, 2.0, 3.0, 4.0]
header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
body = struct.pack("<4f", *values)
name = out / "model.safetensors"
name.write_bytes(len(header).to_bytes(8, "little") + header + body)
(out / "x.txt").write_text(os.environ.get("LC_TEXT", "hello"))
"""
)


def with_tensors(workspace: Workspace, tolerance: str = "") -> None:
    """The stage writes one tensor, which depends a little on the surroundings."""
    bound = f"    meta: {{forebear: {{tolerance: {tolerance}}}}}\n" if tolerance else ""
    workspace.write("dvc.yaml", PIPELINE.replace("  use:\n", f"{bound}  use:\n"))
    workspace.write("make.py", TENSORS)
    workspace.repro("make")


@pytest.mark.parametrize(
    ("tolerance", "noise", "text", "verdict"),
    [
        ("", "0.001", "hello", "different"),
        ("{max_abs: 0.01}", "0.001", "hello", "within bound"),
        ("{max_abs: 0.01, relative_frobenius: 0.001, min_cosine: 0.9999}", "0.001", "hello",
         "within bound"),
        ("{max_abs: 0.0001}", "0.001", "hello", "different"),
        ("{relative_frobenius: 0.00001}", "0.001", "hello", "different"),
        ("{min_cosine: 0.9999}", "1", "hello", "different"),
        ("{max_abs: 0.01}", "0.001", "other", "different"),
        ("{max_abs: 0.01}", "0", "hello", "identical"),
    ],
)  # fmt: skip
def test_weights_are_within_a_bound_that_was_fixed_before_or_different(
    workspace: Workspace, tolerance: str, noise: str, text: str, verdict: str
) -> None:
    pytest.importorskip("numpy")
    with_tensors(workspace, tolerance)
    done = workspace.run(
        "forebear", "reproduce", "make", "--key", str(other_key(workspace)), "--out", "../said",
        "--json", LC_NOISE=noise, LC_TEXT=text,
    )  # fmt: skip
    assert done.returncode == (1 if verdict == "different" else 0), done.stdout + done.stderr
    (row,) = rows(done)
    assert row["verdict"] == verdict
    if verdict != "identical":
        assert row["comparison"]["first"]["tensor"] == "w"
        assert row["comparison"]["first"]["file"] == "out/tree/model.safetensors"
        assert row["comparison"]["weights"]["out/tree"]["max_abs"]["tensor"] == "w"


def test_a_bound_that_is_none_is_refused(workspace: Workspace) -> None:
    with_tensors(workspace, "{max_abs: small}")
    assert reproduce(workspace, "make").returncode == 2


# ── what is refused ────────────────────────────────────────────────────────────────────────────


def test_a_link_that_was_edited_is_not_reproduced(workspace: Workspace) -> None:
    file = workspace.root / "links/make.link"
    data = json.loads(file.read_bytes())
    data["signatures"][0]["sig"] = "A" * 86 + "=="
    file.unlink()
    file.write_bytes(json.dumps(data, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    assert reproduce(workspace, "make").returncode == 1


def test_a_link_of_an_unknown_recorder_needs_its_public_key(workspace: Workspace) -> None:
    keys = workspace.keys
    public = workspace.root.parent / "recorder.pub"
    public.write_bytes(key_files("recorder", keys)[1].read_bytes())
    for file in keys.glob("recorder*"):
        file.unlink()
    create_key("recorder", keys, None)
    assert reproduce(workspace, "make").returncode == 1
    assert reproduce(workspace, "make", "--recorder", str(public)).returncode == 0


def test_attest_is_not_reproduced(workspace: Workspace) -> None:
    original = Original(replace(workspace.link("make"), name="attest"), "0" * 64, "0" * 64)
    with pytest.raises(UsageError):
        run_again(original, root=workspace.root, workspace=load_workspace(workspace.root))


def test_a_stage_that_fails_in_the_clean_room_attests_nothing(workspace: Workspace) -> None:
    workspace.write("make.py", MAKE + "if os.environ.get('LC_FAIL'): raise SystemExit(3)\n")
    workspace.repro("make")
    done = workspace.run("forebear", "reproduce", "make", "--out", "../said", LC_FAIL="1")
    assert done.returncode == 1
    assert "exit code 3" in done.stderr
    assert not (workspace.root.parent / "said").exists()


def test_a_killed_reproduction_leaves_the_workspace_as_it_was(workspace: Workspace) -> None:
    wait = "if params['make']['text'] == 'wait':\n    import time\n    time.sleep(600)\n"
    workspace.write("make.py", MAKE + wait)
    workspace.repro()
    before = state(workspace.root)
    started = workspace.start("forebear", "reproduce", "make", "--set", "make.text=wait")
    child = wait_for_child(started)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert gone(child)
    assert state(workspace.root) == before


def state(root: Path) -> dict[str, bytes]:
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and ".dvc/tmp" not in file.as_posix() and ".git/" not in file.as_posix()
    }


def wait_for_child(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        for entry in process_table().values():
            line = Path(f"/proc/{entry.pid}/cmdline")
            if entry.parent == process.pid and line.exists() and b"make.py" in line.read_bytes():
                return entry.pid
        time.sleep(0.05)
    raise AssertionError("the stage did not start")


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        entry = process_table().get(pid)
        if entry is None or entry.state in "ZX":
            return True
        time.sleep(0.05)
    return False


# ── settings and the statement's form ──────────────────────────────────────────────────────────


def test_settings_are_json_or_text() -> None:
    assert parse_settings(["a.b=1.5", "c=true", "d=text", "e=1=2"]) == {
        "a.b": 1.5, "c": True, "d": "text", "e": "1=2",
    }  # fmt: skip
    for word in ("a", "=1"):
        with pytest.raises(UsageError):
            parse_settings([word])


def test_settings_replace_values_and_leave_the_original_alone() -> None:
    params = {"seed": 7, "a": {"b": 1}}
    assert with_settings(params, {"a.b": 2, "seed": 7, "z": 1}) == (
        {"seed": 7, "a": {"b": 2}},
        {"a.b": "2"},
    )
    assert params["a"] == {"b": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda predicate: predicate.update(verdict="same"),
        lambda predicate: predicate.update(verdict="different"),
        lambda predicate: predicate["reproduced"]["outs"].update({"metrics.json": "0" * 64}),
        lambda predicate: predicate["original"].pop("link"),
        lambda predicate: predicate["original"]["outs"].pop("metrics.json"),
        lambda predicate: predicate.update(hardware=[]),
    ],
)
def test_a_reproduction_of_another_form_is_refused(workspace: Workspace, change: Any) -> None:
    assert reproduce(workspace, "make").returncode == 0
    statement = said(workspace, "make")
    assert parse_reproduction(statement, where="x").stage == "make"
    predicate = json.loads(json.dumps(dict(statement.predicate)))
    change(predicate)
    with pytest.raises(FormatError):
        parse_reproduction(Statement(statement.subjects, REPRODUCTION, predicate), where="x")
