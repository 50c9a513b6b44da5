"""The recorder under real DVC: what a link holds, and when there is none."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure
from forebear.formats.link import command_digest, params_digest
from forebear.recording import recorder
from forebear.recording.child import process_table
from forebear.recording.sealing import write_link
from tests.support.workspace import MAKE, PIPELINE, Workspace

RECORD_MAKE = ("forebear", "record", "make", "--", "python", "make.py", "out/tree")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _gone(pid: int, timeout_s: float = 15) -> bool:
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        entry = process_table().get(pid)
        if entry is None or entry.state in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_link_holds_what_the_stage_read_ran_and_wrote(workspace: Workspace) -> None:
    workspace.repro()
    link = workspace.link("make")
    params = {
        "seed": 7,
        "make": {"lr": 1e-5, "text": "hello", "allow": [{"rule": "odd", "by": "me"}]},
    }
    assert link.command == ("python", "make.py", "out/tree")
    assert link.materials == {
        "make.py": _sha256(MAKE),
        "cmd:make": command_digest(link.command),
        "params:make": params_digest(params),
    }
    manifest = f"{_sha256('7')}  sub/y.txt\n{_sha256('hello')}  x.txt\n"
    assert link.products == {
        "tree:out/tree": _sha256(manifest),
        "out/tree/x.txt": _sha256("hello"),
        "out/tree/sub/y.txt": _sha256("7"),
        "metrics.json": _sha256('{"n": 2}'),
    }
    used = workspace.link("use")
    for name in ("tree:out/tree", "out/tree/x.txt", "out/tree/sub/y.txt"):
        assert used.materials[name] == link.products[name]


def test_link_holds_the_run_record_and_no_secrets_of_the_host(workspace: Workspace) -> None:
    workspace.repro()
    link = workspace.link("make")
    record = link.byproducts["forebear"]
    assert link.byproducts["return-value"] == 0
    assert record["schema"] == "forebear.run/v1"
    assert record["params"]["make"]["lr"] == "0.00001"
    assert _sha256(record["params_json"]) == link.materials["params:make"]
    assert record["allowances"] == [{"at": "make.allow", "rule": "odd", "by": "me"}]
    assert record["recorder"] == {"version": version("forebear")}
    assert record["confinement"].keys() == {
        "level", "mechanism", "abi", "network", "denied", "reason", "grants"
    }  # fmt: skip
    assert record["energy"] == {"method": "unknown"}
    assert record["survivors"] == []
    assert record["max_rss_bytes"] > 1_000_000
    assert record["cpu_s"] >= 0
    head = workspace.run("git", "rev-parse", "HEAD").stdout.strip()
    assert record["git"] == {"commit": head, "dirty": False, "changed": []}
    assert workspace.run_record("use")["dvc"]["deps_md5"].keys() == {"out/tree"}
    text = workspace.envelope("make").payload.decode()
    assert str(workspace.root) not in text
    assert os.uname().nodename not in text


def test_stock_in_toto_reads_the_link(workspace: Workspace) -> None:
    from in_toto.models.metadata import Metadata

    workspace.repro("make")
    payload = Metadata.load(str(workspace.root / "links/make.link")).get_payload()
    assert payload.name == "make"
    assert payload.command == ["python", "make.py", "out/tree"]
    assert payload.byproducts["return-value"] == 0


def test_stage_sees_its_params_and_scratch_and_no_key(workspace: Workspace) -> None:
    workspace.write("make.py", MAKE + (
        "scratch = pathlib.Path(os.environ['FOREBEAR_SCRATCH'])\n"
        "assert scratch.is_dir() and scratch.parent.name == 'make' and len(scratch.name) == 16\n"
        "names = ['TMPDIR', 'HF_HOME', 'HF_HUB_OFFLINE', 'PYTHONHASHSEED', 'PYTHONPATH']\n"
        "pathlib.Path('metrics.json').write_text(json.dumps({n: os.environ[n] for n in names}))\n"
        "mode = pathlib.Path(os.environ['TMPDIR']).parent.stat().st_mode & 0o777\n"
        "assert mode == 0o700, mode\n"
        "assert 'FOREBEAR_SECRET' not in os.environ\n"
        "assert sys.stdin.read() == ''\n"
        "assert [int(n) for n in os.listdir('/proc/self/fd')][:3] == [0, 1, 2]\n"
        "assert len(os.listdir('/proc/self/fd')) == 4\n"
    ))  # fmt: skip
    done = workspace.run("dvc", "repro", "make", FOREBEAR_SECRET="x")
    assert done.returncode == 0, done.stderr
    seen = json.loads(workspace.read("metrics.json"))
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["PYTHONPATH"].split(":")[-1] == str(workspace.root)
    assert not Path(seen["TMPDIR"]).exists()
    assert not Path(seen["HF_HOME"]).exists()


def test_dirty_flag_ignores_outs_and_lock_but_not_code(workspace: Workspace) -> None:
    workspace.repro()
    workspace.run("git", "add", "-A")
    workspace.run("git", "commit", "-qm", "ran")
    workspace.write("params.yaml", workspace.read("params.yaml").replace("seed: 7", "seed: 8"))
    workspace.repro()
    assert workspace.run_record("make")["git"]["changed"] == ["params.yaml"]
    assert workspace.run_record("use")["git"]["dirty"] is True


def test_undeclared_link_is_refused_with_the_line_to_paste(workspace: Workspace) -> None:
    workspace.write("dvc.yaml", PIPELINE.replace("    - links/make.link\n", ""))
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 2
    assert "    - links/make.link" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workspace.root / "out").exists()


def test_uncached_link_is_refused(workspace: Workspace) -> None:
    uncached = "    - links/make.link:\n        cache: false\n"
    workspace.write("dvc.yaml", PIPELINE.replace("    - links/make.link\n", uncached))
    assert "cached out" in workspace.run(*RECORD_MAKE).stderr


def test_undeclared_stage_name_is_refused_with_the_nearest_one(workspace: Workspace) -> None:
    done = workspace.run("forebear", "record", "mak", "--", "python", "make.py", "out/tree")
    assert done.returncode == 2
    assert "did you mean 'make'" in done.stderr


def test_name_other_than_dvcs_is_refused(workspace: Workspace) -> None:
    done = workspace.run(*RECORD_MAKE, DVC_STAGE="use")
    assert done.returncode == 2
    assert "asked to record 'make', but DVC is running 'use'" in done.stderr


def test_command_other_than_declared_is_refused(workspace: Workspace) -> None:
    done = workspace.run("forebear", "record", "make", "--", "python", "other.py", "out/tree")
    assert done.returncode == 2
    assert "word 2 is 'other.py', declared is 'make.py'" in done.stderr
    assert not (workspace.root / "links").exists()


def test_shell_operator_in_cmd_is_refused(workspace: Workspace) -> None:
    workspace.write(
        "dvc.yaml", PIPELINE.replace("make.py out/tree\n", "make.py out/tree && true\n")
    )
    done = workspace.run("dvc", "repro", "make")
    assert "differs from the declared one" in done.stderr


def test_failing_command_leaves_no_link_and_its_own_exit_code(workspace: Workspace) -> None:
    workspace.write("make.py", "raise SystemExit(3)")
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 3
    assert done.stderr == "error: stage 'make' ended with exit code 3; no link was signed\n"
    assert not (workspace.root / "links" / "make.link").exists()


def test_missing_program_is_named(workspace: Workspace) -> None:
    workspace.write("dvc.yaml", PIPELINE.replace("-- python ", "-- no-such-program "))
    done = workspace.run(*RECORD_MAKE[:4], "no-such-program", *RECORD_MAKE[5:])
    assert done.returncode == 4
    assert "no-such-program: the command cannot be started" in done.stderr


def test_out_that_was_not_written_is_an_error(workspace: Workspace) -> None:
    workspace.write("make.py", "pass")
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 1
    assert "metrics.json, out/tree: the stage did not write what it declares" in done.stderr
    assert not (workspace.root / "links" / "make.link").exists()


def test_dep_changed_by_the_stage_is_an_error_even_with_its_time_restored(
    workspace: Workspace,
) -> None:
    workspace.write("make.py", MAKE + (
        "before = os.stat('make.py')\n"
        "pathlib.Path('make.py').write_bytes(pathlib.Path('make.py').read_bytes())\n"
        "os.utime('make.py', ns=(before.st_atime_ns, before.st_mtime_ns))\n"
    ))  # fmt: skip
    done = workspace.run(*RECORD_MAKE, FOREBEAR_CONFINE="off")
    assert done.returncode == 1
    assert "make.py: a dep changed while the stage ran" in done.stderr
    assert not (workspace.root / "links" / "make.link").exists()


def test_symlink_in_an_out_is_refused(workspace: Workspace) -> None:
    workspace.write("make.py", MAKE + "os.symlink('/etc/hostname', out / 'z')\n")
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 2
    assert "symbolic link" in done.stderr
    assert not (workspace.root / "links" / "make.link").exists()


def test_cache_of_symlinks_is_accepted(workspace: Workspace) -> None:
    workspace.run("dvc", "config", "cache.type", "symlink")
    workspace.repro()
    assert (workspace.root / "out/tree/x.txt").is_symlink()
    assert workspace.link("use").materials["out/tree/x.txt"] == _sha256("hello")


def test_key_that_others_may_read_stops_before_the_stage_runs(workspace: Workspace) -> None:
    (workspace.keys / "recorder.pem").chmod(0o644)
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 4
    assert "others may read the key (mode 0644)" in done.stderr
    assert "chmod 600" in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (workspace.root / "out").exists()


def test_missing_key_names_the_command_that_makes_one(workspace: Workspace) -> None:
    (workspace.keys / "recorder.pem").unlink()
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 4
    assert "forebear keys new recorder" in done.stderr
    assert not (workspace.root / "out").exists()


def test_no_git_repository_is_one_clear_error(workspace: Workspace) -> None:
    (workspace.root / ".git").rename(workspace.root / "gone")
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 4
    assert done.stderr.count("error:") == 1
    assert "git init" in done.stderr


def test_no_dvc_repository_is_one_clear_error(workspace: Workspace) -> None:
    (workspace.root / ".dvc").rename(workspace.root / "gone")
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 4
    assert "no DVC repository" in done.stderr


def test_unborn_branch_has_no_commit(workspace: Workspace) -> None:
    workspace.run("git", "update-ref", "-d", "HEAD")
    workspace.repro("make")
    assert workspace.run_record("make")["git"]["commit"] is None


def test_require_clean_refuses_changed_code(workspace: Workspace) -> None:
    workspace.write("make.py", MAKE + "\n")
    done = workspace.run(
        "forebear", "record", "make", "--require-clean", "--", "python", "make.py", "out/tree"
    )
    assert done.returncode == 1
    assert "tracked files differ from the commit: make.py" in done.stderr


def test_run_cache_restores_the_same_valid_link(workspace: Workspace) -> None:
    workspace.repro()
    first = (workspace.root / "links/make.link").read_bytes()
    workspace.write("params.yaml", workspace.read("params.yaml").replace("seed: 7", "seed: 8"))
    workspace.repro()
    assert (workspace.root / "links/make.link").read_bytes() != first
    workspace.write("params.yaml", workspace.read("params.yaml").replace("seed: 8", "seed: 7"))
    done = workspace.repro()
    assert "cached" in done.stdout
    assert (workspace.root / "links/make.link").read_bytes() == first
    assert workspace.link("make").products["out/tree/sub/y.txt"] == _sha256("7")


def test_forced_run_changes_the_link_but_nothing_downstream_runs(workspace: Workspace) -> None:
    workspace.repro()
    use = (workspace.root / "links/use.link").read_bytes()
    workspace.repro("--force", "-s", "make")
    workspace.repro()
    assert (workspace.root / "links/use.link").read_bytes() == use


def test_foreach_stage_is_recorded_under_its_full_name(workspace: Workspace) -> None:
    workspace.write("dvc.yaml", PIPELINE + (
        "  copy:\n    foreach:\n    - one\n    - two\n    do:\n"
        "      cmd: forebear record copy@${item} -- cp make.py ${item}.txt\n"
        "      deps:\n      - make.py\n"
        "      outs:\n      - ${item}.txt\n      - links/copy@${item}.link\n"
        "      meta:\n        forebear:\n          network: true\n"
    ))  # fmt: skip
    workspace.repro("copy")
    link = workspace.link("copy@two")
    assert link.name == "copy@two"
    assert link.products == {"two.txt": _sha256(MAKE)}
    assert "cmd:copy@two" in link.materials
    assert workspace.run_record("copy@two")["confinement"]["network"] == "declared"


def test_param_without_canonical_form_stops_before_the_run(workspace: Workspace) -> None:
    workspace.write("params.yaml", workspace.read("params.yaml").replace("1e-5", ".nan"))
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 2
    assert "lr" in done.stderr
    assert not (workspace.root / "out").exists()


def test_survivors_are_killed_and_named(workspace: Workspace) -> None:
    workspace.write("make.py", MAKE + (
        "import subprocess\n"
        "p = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "pathlib.Path('metrics.json').write_text(str(p.pid))\n"
    ))  # fmt: skip
    workspace.repro("make")
    assert workspace.run_record("make")["survivors"] == ["sleep"]
    assert _gone(int(workspace.read("metrics.json")))


SLOW = """
import os, pathlib, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen(['sleep', '300'])
state = pathlib.Path(os.environ['FOREBEAR_SCRATCH'], 'state')
state.write_text('done so far')
new = state.with_name('pids.new')
new.write_text(f'{os.getpid()} {helper.pid} {os.getppid()}')
new.rename(state.with_name('pids'))
time.sleep(300)
"""


def _wait_for_pids(workspace: Workspace) -> list[int]:
    give_up_at = time.monotonic() + 30
    while not (found := list(workspace.root.glob(".dvc/tmp/forebear/scratch/make/*/pids"))):
        assert time.monotonic() < give_up_at, "the stage did not start"
        time.sleep(0.02)
    return [int(pid) for pid in found[0].read_text().split()]


def test_kill_of_dvc_takes_the_whole_tree_down(workspace: Workspace) -> None:
    workspace.write("make.py", SLOW)
    dvc = workspace.start("dvc", "repro", "make")
    pids = _wait_for_pids(workspace)
    dvc.kill()
    dvc.wait()
    for pid in pids:
        assert _gone(pid), process_table().get(pid)
    assert not (workspace.root / "links/make.link").exists()
    scratch = workspace.root / ".dvc/tmp/forebear/scratch/make"
    assert len(list(scratch.glob("*/state"))) == 1


def test_kill_then_repro_ends_as_if_nothing_had_happened(workspace: Workspace) -> None:
    mark = "os.environ['FOREBEAR_SCRATCH'] + '/pids'"
    slow_once = f"import os, sys\nif not os.path.exists({mark}):\n    " + SLOW.strip().replace(
        "\n", "\n    "
    )
    workspace.write("make.py", slow_once + "\n" + MAKE)
    dvc = workspace.start("dvc", "repro", "make")
    os.kill(_wait_for_pids(workspace)[2], signal.SIGTERM)
    assert dvc.wait(timeout=60) != 0
    workspace.repro("make")
    assert workspace.link("make").products["out/tree/x.txt"] == _sha256("hello")
    assert not (workspace.root / ".dvc/tmp/forebear/scratch/make").exists()


def test_second_recorder_of_a_stage_gives_up_and_names_the_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forebear.recording import workplace

    monkeypatch.setattr(workplace, "LOCK_TIMEOUT_S", 0.2)
    with (
        workplace.occupy(workspace.root, "make"),
        pytest.raises(EnvironmentFailure, match=f"process {os.getpid()}"),
        workplace.occupy(workspace.root, "make"),
    ):
        pass
    with workplace.occupy(workspace.root, "make"):
        pass


def test_scratch_of_other_inputs_is_dropped(workspace: Workspace) -> None:
    from forebear.recording.workplace import occupy

    with occupy(workspace.root, "make") as place:
        old = place.scratch("a" * 16)
        (old / "state").write_text("x")
        assert place.scratch("a" * 16).joinpath("state").exists()
        place.scratch("b" * 16)
        assert not old.exists()


def test_full_disk_while_writing_the_link_is_one_message_and_no_link(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(EnvironmentFailure, match="disk is full"),
        recorder._full_disk_explained("make"),
    ):
        write_link(workspace.root / "links" / "make.link", b"{}\n")
    assert list((workspace.root / "links").iterdir()) == []


def test_damaged_digest_cache_says_how_to_go_on(workspace: Workspace) -> None:
    workspace.write(".dvc/tmp/forebear/digests.sqlite", "not a database, but long enough to look")
    done = workspace.run(*RECORD_MAKE)
    assert done.returncode == 4
    assert "--no-digest-cache" in done.stderr
