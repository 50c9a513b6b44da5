"""Stages that reach beyond their declarations: each is stopped or caught, and told how to mend it.

Every attack has a twin that is declared and passes. One table row is one stage; the real recorder
runs it behind the real fence.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.refuse import refusing
from tests.support.terminal import run_on_terminal
from tests.support.workspace import Workspace, copy_template, make_template

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="the fence is Linux's")

READS = {
    "open": "open('data/extra.jsonl').read()",
    "mmap": (
        "import mmap\nf = open('data/extra.jsonl', 'rb')\n"
        "bytes(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ))"
    ),
    "safetensors": ("from safetensors.numpy import load_file\nload_file('data/extra.safetensors')"),
    "pyarrow": "import pyarrow.parquet\npyarrow.parquet.read_table('data/extra.parquet')",
    "sqlite": "import sqlite3\nsqlite3.connect('data/extra.sqlite').execute('select x from t')",
    "subprocess": "import subprocess\nsubprocess.run(['cat', 'data/extra.jsonl'], check=True)",
    "import": "import data.extra",
}
EXTRA = {
    "safetensors": "data/extra.safetensors",
    "pyarrow": "data/extra.parquet",
    "sqlite": "data/extra.sqlite",
    "import": "data/extra.py",
}
WRITES = {
    "open": "open('data/new.txt', 'w').write('x')",
    "append": "open('data/extra.jsonl', 'a').write('x')",
    "rename": "os.rename('out/done', 'data/new.txt')",
    "remove": "os.remove('data/extra.jsonl')",
    "truncate": "os.truncate('data/extra.jsonl', 0)",
    "subprocess": (
        "import subprocess\nsubprocess.run(['cp', 'out/done', 'data/new.txt'], check=True)"
    ),
}
WHERE = {"append": "data/extra.jsonl", "remove": "data/extra.jsonl", "truncate": "data/extra.jsonl"}
UNREACHABLE = "('192.0.2.1', 9)"  # an address that documentation may use and nobody has
NETWORK = {
    "tcp": f"import socket\nsocket.create_connection({UNREACHABLE}, timeout=5)",
    "udp": (
        "import socket\n"
        f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', {UNREACHABLE})"
    ),
}
DONE = "import os, pathlib\npathlib.Path('out/done').write_text('x')\n"
RECORD = ("forebear", "record", "s", "--", "python", "s.py")


def _stage(
    workspace: Workspace, code: str, *, deps: tuple[str, ...] = (), meta: str = "", cmd: str = ""
) -> None:
    workspace.write("s.py", DONE + code + "\n")
    lines = "".join(f"    - {dep}\n" for dep in ("s.py", *deps))
    options = f"    meta:\n      forebear:\n        {meta}\n" if meta else ""
    workspace.write(
        "dvc.yaml",
        f"stages:\n  s:\n    cmd: forebear record s -- {cmd or 'python s.py'}\n    deps:\n{lines}"
        f"    outs:\n    - out/done\n    - links/s.link\n{options}",
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    make_template(folder)
    return folder


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    return copy_template(template, tmp_path / "w")


@pytest.fixture
def place(workspace: Workspace) -> Workspace:
    """The workspace with files that no stage declares."""
    import pyarrow as pa
    from pyarrow import parquet

    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    workspace.write("data/extra.jsonl", '{"secret": 1}\n')
    workspace.write("data/extra.py", "VALUE = 1\n")
    save_file({"w": numpy.zeros(3)}, workspace.root / "data/extra.safetensors")
    parquet.write_table(pa.table({"x": [1]}), workspace.root / "data/extra.parquet")
    with contextlib.closing(sqlite3.connect(workspace.root / "data/extra.sqlite")) as base:
        base.execute("create table t (x)")
        base.commit()
    return workspace


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _signed(workspace: Workspace) -> bool:
    return (workspace.root / "links" / "s.link").exists()


def _confinement(workspace: Workspace) -> dict[str, object]:
    report: dict[str, object] = workspace.run_record("s")["confinement"]
    return report


# ── reads ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", READS)
def test_an_undeclared_read_is_stopped_and_named_with_its_mend(place: Workspace, way: str) -> None:
    _stage(place, READS[way])
    done = place.run(*RECORD)
    path = EXTRA.get(way, "data/extra.jsonl")
    assert done.returncode != 0
    assert f"stage 's' tried to read {path}, which dvc.yaml does not list under deps" in done.stderr
    assert "Add it, or remove the read." in done.stderr
    assert not _signed(place)


@pytest.mark.parametrize("way", READS)
def test_the_same_read_passes_when_it_is_declared(place: Workspace, way: str) -> None:
    _stage(place, READS[way], deps=(EXTRA.get(way, "data/extra.jsonl"),))
    done = place.run(*RECORD)
    assert done.returncode == 0, done.stderr
    report = _confinement(place)
    assert (report["level"], report["network"], report["denied"]) == ("enforced", "none", [])
    assert report["reason"] == ""


def test_a_declared_folder_opens_everything_in_it_and_nothing_else(place: Workspace) -> None:
    place.write("deep/a/b.txt", "b")
    _stage(place, "open('deep/a/b.txt').read()", deps=("deep",))
    assert place.run(*RECORD).returncode == 0
    _stage(place, "open('deep/a/b.txt').read()", deps=("data",))
    assert "tried to read deep/a/b.txt" in place.run(*RECORD).stderr


def test_a_read_that_the_stage_shrugs_off_is_stopped_and_stands_in_the_link(
    place: Workspace,
) -> None:
    _stage(place, "try:\n    open('data/extra.jsonl')\nexcept OSError:\n    pass")
    assert place.run(*RECORD).returncode == 0
    assert _confinement(place)["denied"] == ["data/extra.jsonl"]


def test_the_params_file_is_refused_with_the_way_to_the_params(place: Workspace) -> None:
    _stage(place, "open('params.yaml').read()")
    done = place.run(*RECORD)
    assert "tried to read params.yaml" in done.stderr
    assert "FOREBEAR_PARAMS" in done.stderr


def test_names_may_be_listed_without_any_file_being_read(place: Workspace) -> None:
    _stage(place, "assert 'extra.jsonl' in os.listdir('data')")
    assert place.run(*RECORD).returncode == 0


def test_the_recorders_key_git_and_environment_are_closed(place: Workspace) -> None:
    key = place.keys / "recorder.pem"
    for path in (str(key), ".git/HEAD", "/proc/{}/environ", "/proc/{}/mem"):
        _stage(place, f"open({path!r}.format(os.getppid()), 'rb').read(1)")
        done = place.run(*RECORD)
        assert done.returncode == 1, path
        assert "PermissionError" in done.stderr
    _stage(place, f"open({str(key)!r})")
    assert "lies outside the repository" in place.run(*RECORD).stderr


def test_home_caches_and_shared_memory_are_the_stages_own(place: Workspace) -> None:
    _stage(place, _lines(
        "home = pathlib.Path.home()",
        "assert home.parent == pathlib.Path(os.environ['TMPDIR']).parent, home",
        "(home / '.cache').mkdir()",
        "pathlib.Path(os.environ['HF_HOME'], 'x').parent.mkdir(parents=True, exist_ok=True)",
        "assert os.listdir('/dev/shm') == []",
        "pathlib.Path('/dev/shm/forebear-test').write_text('x')",
    ))  # fmt: skip
    done = place.run(*RECORD, XDG_CACHE_HOME="/nowhere")
    assert done.returncode == 0, done.stderr
    assert not Path("/dev/shm/forebear-test").exists()  # noqa: S108  # the place itself is tested


# ── writes ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WRITES)
def test_a_write_outside_the_outs_is_stopped_and_named_with_its_mend(
    place: Workspace, way: str
) -> None:
    before = place.read("data/extra.jsonl")
    _stage(place, WRITES[way])
    done = place.run(*RECORD)
    path = WHERE.get(way, "data/new.txt")
    assert done.returncode != 0
    assert f"stage 's' tried to write {path}, which dvc.yaml does not list" in done.stderr
    assert not (place.root / "data/new.txt").exists()
    assert place.read("data/extra.jsonl") == before
    assert not _signed(place)


def test_a_file_left_beside_an_out_is_caught(place: Workspace) -> None:
    _stage(place, "pathlib.Path('out/beside').write_text('x')")
    done = place.run(*RECORD)
    assert done.returncode == 1
    assert "out/beside: stage 's' wrote beside its outs" in done.stderr
    assert not _signed(place)


def test_a_step_on_the_way_to_an_out_may_lie_beside_it(place: Workspace) -> None:
    _stage(place, "os.rename('out/done', 'out/step')\nos.rename('out/step', 'out/done')")
    done = place.run(*RECORD)
    assert done.returncode == 0, done.stderr


def test_a_stage_that_changes_its_dep_is_stopped_or_caught(place: Workspace) -> None:
    _stage(place, "open('data/extra.jsonl', 'a')", deps=("data/extra.jsonl",))
    done = place.run(*RECORD)
    assert "tried to write data/extra.jsonl, which is one of its deps" in done.stderr
    for change in ("os.chmod('data/extra.jsonl', 0o600)", "os.utime('data/extra.jsonl')"):
        _stage(place, change, deps=("data/extra.jsonl",))  # no fence stops these two
        done = place.run(*RECORD)
        assert done.returncode == 1
        assert "data/extra.jsonl: a dep changed while the stage ran" in done.stderr
        assert not _signed(place)


def test_an_out_among_other_files_is_written_and_its_neighbours_are_closed(
    place: Workspace,
) -> None:
    declared = place.read("dvc.yaml")
    _stage(place, "pathlib.Path('data/mine.txt').write_text('x')")
    text = place.read("dvc.yaml").replace("out/done", "data/mine.txt")
    place.write("s.py", "import pathlib\npathlib.Path('data/mine.txt').write_text('x')\n")
    place.write("dvc.yaml", text)
    done = place.run(*RECORD)
    assert done.returncode == 0, done.stderr
    (place.root / "data/mine.txt").unlink()
    place.write("s.py", "pass\n")
    done = place.run(*RECORD)
    assert "data/mine.txt: the stage did not write what it declares" in done.stderr
    assert not (place.root / "data/mine.txt").exists()
    place.write("dvc.yaml", declared)


# ── network and processes ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", NETWORK)
def test_the_network_is_closed_and_the_option_is_named(place: Workspace, way: str) -> None:
    _stage(place, NETWORK[way])
    done = place.run(*RECORD)
    assert done.returncode == 1
    assert "stage 's' tried to reach 192.0.2.1:9" in done.stderr
    assert "network: true" in done.stderr


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """A port of this machine that takes every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_services_of_this_machine_are_closed_unless_the_network_is_declared(
    place: Workspace,
) -> None:
    with _server() as port:
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=5)"
        _stage(place, connect)
        assert "ConnectionRefusedError" in place.run(*RECORD).stderr
        _stage(place, connect, meta="network: true")
        done = place.run(*RECORD)
    assert done.returncode == 0, done.stderr
    assert _confinement(place)["network"] == "declared"
    assert _confinement(place)["level"] == "enforced"


def test_processes_of_one_stage_may_talk_over_loopback(place: Workspace) -> None:
    _stage(place, _lines(
        "import socket",
        "server = socket.create_server(('127.0.0.1', 0))",
        "client = socket.create_connection(server.getsockname(), timeout=5)",
        "server.accept()[0].sendall(b'x')",
        "assert client.recv(1) == b'x'",
    ))  # fmt: skip
    done = place.run(*RECORD)
    assert done.returncode == 0, done.stderr


def test_a_daemon_is_killed_and_named(place: Workspace) -> None:
    _stage(place, "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)")
    done = place.run(*RECORD)
    assert done.returncode == 0
    assert "stage 's' left processes running, which were killed: sleep" in done.stderr
    assert place.run_record("s")["survivors"] == ["sleep"]


def test_a_stage_cannot_signal_its_recorder(place: Workspace) -> None:
    _stage(place, "os.kill(os.getppid(), 9)")
    done = place.run(*RECORD)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


# ── stderr ─────────────────────────────────────────────────────────────────────────────────────


def test_stderr_comes_through_whole_and_on_a_terminal_it_stays_one(place: Workspace) -> None:
    code = "import sys\nsys.stderr.write('tty' * sys.stderr.isatty() + 'x' * 200_000 + '\\nend\\n')"
    _stage(place, code)
    done = place.run(*RECORD)
    assert "x" * 200_000 + "\nend\n" in done.stderr
    assert "tty" not in done.stderr
    _stage(place, code.replace("200_000", "20"))
    code_, shown = run_on_terminal(RECORD, (), env=place.env, cwd=place.root)
    assert code_ == 0
    assert "tty" + "x" * 20 in shown


# ── less than everything ───────────────────────────────────────────────────────────────────────

NO_LANDLOCK = "landlock_create_ruleset=ENOSYS"
NO_NAMESPACE = "unshare=EPERM"
NO_TRACE = "ptrace=EPERM"


def test_without_namespaces_tcp_is_denied_and_the_link_says_what_is_left(place: Workspace) -> None:
    _stage(place, "")
    done = place.run(*refusing(NO_NAMESPACE), *RECORD)
    assert done.returncode == 0, done.stderr
    report = _confinement(place)
    assert (report["level"], report["network"]) == ("enforced", "no TCP")
    assert "UDP was not stopped" in str(report["reason"])
    with _server() as port:
        _stage(place, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=5)")
        assert "PermissionError" in place.run(*refusing(NO_NAMESPACE), *RECORD).stderr


@pytest.mark.parametrize(
    ("refused", "mechanism"),
    [((NO_LANDLOCK,), "strace"), ((NO_LANDLOCK, NO_TRACE), "audit hook")],
)
def test_without_landlock_the_stage_is_observed_and_the_link_says_so(
    place: Workspace, refused: tuple[str, ...], mechanism: str
) -> None:
    if mechanism == "strace":
        _require_strace()
    _stage(place, "open('data/extra.jsonl').read()", deps=("data/extra.jsonl",))
    done = place.run(*refusing(*refused), *RECORD)
    assert done.returncode == 0, done.stderr
    assert "stage 's' ran observed, not enforced" in done.stderr
    report = _confinement(place)
    assert (report["level"], report["mechanism"], report["abi"]) == ("observed", mechanism, None)
    assert report["network"] == "none"
    assert "ENOSYS" in str(report["reason"])


def _require_strace() -> None:
    from forebear.recording.observe import tracer

    if not tracer(Path(os.devnull)):
        pytest.skip("strace does not work here")


@pytest.mark.parametrize("way", ["open", "subprocess", "safetensors"])
def test_an_undeclared_read_that_strace_saw_leaves_no_link(place: Workspace, way: str) -> None:
    _require_strace()
    _stage(place, READS[way])
    done = place.run(*refusing(NO_LANDLOCK), *RECORD)
    assert done.returncode == 1
    path = EXTRA.get(way, "data/extra.jsonl")
    assert f"tried to read {path}, which dvc.yaml does not list under deps" in done.stderr
    assert not _signed(place)


def test_an_undeclared_read_and_write_that_the_hook_saw_leave_no_link(place: Workspace) -> None:
    for code, words in ((READS["open"], "tried to read"), (WRITES["open"], "tried to write")):
        _stage(place, code)
        done = place.run(*refusing(NO_LANDLOCK, NO_TRACE), *RECORD)
        assert done.returncode == 1
        assert words in done.stderr
        assert not _signed(place)


def test_what_the_hook_cannot_watch_is_unchecked(place: Workspace) -> None:
    _stage(place, "", cmd="touch out/done")
    words = ("forebear", "record", "s", "--", "touch", "out/done")
    done = place.run(*refusing(NO_LANDLOCK, NO_TRACE), *words)
    assert done.returncode == 0, done.stderr
    assert _confinement(place)["level"] == "unchecked"
    assert "ran unchecked, not enforced" in done.stderr


def test_without_anything_the_level_is_what_happened(place: Workspace) -> None:
    _stage(place, "")
    done = place.run(*refusing(NO_LANDLOCK, NO_TRACE, NO_NAMESPACE), *RECORD)
    assert done.returncode == 0, done.stderr
    report = _confinement(place)
    assert (report["level"], report["network"]) == ("observed", "allowed")
    assert "the network stayed open" in str(report["reason"])


def test_an_address_that_was_not_closed_leaves_no_link(place: Workspace) -> None:
    _stage(place, f"try:\n    {NETWORK['tcp'].splitlines()[0]}\n"
                  f"    socket.create_connection({UNREACHABLE}, timeout=0.05)\n"
                  "except OSError:\n    pass")  # fmt: skip
    done = place.run(*refusing(NO_LANDLOCK, NO_TRACE, NO_NAMESPACE), *RECORD)
    assert done.returncode == 1
    assert "tried to reach 192.0.2.1:9" in done.stderr


def test_a_fence_that_is_refused_in_the_last_moment_is_not_claimed(place: Workspace) -> None:
    _stage(place, "")
    done = place.run(*refusing("landlock_restrict_self=EPERM"), *RECORD)
    assert done.returncode == 0, done.stderr
    report = _confinement(place)
    assert report["level"] == "observed"
    assert report["abi"] is None
    assert "EPERM" in str(report["reason"])


@pytest.mark.parametrize("how", ["meta", "environment", "call"])
def test_confinement_can_be_left_off_and_the_link_says_who_wanted_it(
    place: Workspace, how: str
) -> None:
    _stage(place, READS["open"], meta="confine: false" if how == "meta" else "")
    words = (*RECORD[:3], "--no-confine", *RECORD[3:]) if how == "call" else RECORD
    env = {"FOREBEAR_CONFINE": "off"} if how == "environment" else {}
    done = place.run(*words, **env)
    assert done.returncode == 0, done.stderr
    report = _confinement(place)
    assert (report["level"], report["mechanism"]) == ("unchecked", "none")
    assert report["network"] == "allowed"
    who = {"meta": "confine: false", "environment": "FOREBEAR_CONFINE", "call": "--no-confine"}
    assert who[how] in str(report["reason"])


# ── grants ─────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_outside_is_opened_by_name_and_the_link_shows_it(
    place: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x").write_text("x")
    code = f"open({str(tmp_path / 'far' / 'x')!r}).read()"
    _stage(place, code)
    assert "lies outside the repository" in place.run(*RECORD).stderr
    _stage(place, code, meta=f"reads: [{tmp_path / 'far'}]")
    done = place.run(*RECORD)
    assert done.returncode == 0, done.stderr
    assert _confinement(place)["grants"] == [str(tmp_path / "far")]


@pytest.mark.parametrize("grant", ["owner-key", "data/extra.jsonl", "everything"])
def test_a_grant_that_no_stage_may_have_is_refused_before_the_run(
    place: Workspace, grant: str
) -> None:
    _stage(place, "", meta=f"reads: [{grant}]")
    done = place.run(*RECORD)
    assert done.returncode == 2
    assert "meta.forebear.reads" in done.stderr
    assert not (place.root / "out").exists()


def test_a_grant_around_the_workspace_is_refused(place: Workspace) -> None:
    _stage(place, "", meta=f"reads: [{place.root.parent}]")
    done = place.run(*RECORD)
    assert done.returncode == 2
    assert "holds the workspace" in done.stderr


# ── suggestions ────────────────────────────────────────────────────────────────────────────────


def test_suggest_prints_the_missing_lines_and_leaves_the_workspace_alone(
    place: Workspace,
) -> None:
    _require_strace()
    code = _lines(READS["subprocess"], READS["safetensors"], "open('params.yaml').read()")
    _stage(place, code)
    before = sorted(path for path in place.root.rglob("*") if ".dvc" not in path.parts)
    done = place.run("forebear", "deps", "s", "--suggest")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "    - data/extra.jsonl\n    - data/extra.safetensors\n"
    assert "FOREBEAR_PARAMS" in done.stderr
    assert sorted(path for path in place.root.rglob("*") if ".dvc" not in path.parts) == before
    assert not _signed(place)
    _stage(place, code, deps=("data/extra.jsonl", "data/extra.safetensors", "params.yaml"))
    done = place.run("forebear", "deps", "s", "--suggest", "--json")
    assert '"missing": []' in done.stdout


def test_last_tells_what_the_last_run_wanted_without_running(place: Workspace) -> None:
    done = place.run("forebear", "deps", "nobody", "--last")
    assert done.returncode == 2
    _stage(place, READS["open"])
    assert place.run("forebear", "deps", "s", "--last").returncode == 4
    place.run(*RECORD)
    done = place.run("forebear", "deps", "s", "--last")
    assert done.stdout == "    - data/extra.jsonl\n"
    assert done.returncode == 1


def test_a_read_of_another_stages_out_suggests_the_out(place: Workspace) -> None:
    place.run("git", "checkout", "-q", "dvc.yaml")
    place.repro("make")
    text = place.read("dvc.yaml").replace("cp out/tree/x.txt", "cp out/tree/sub/y.txt")
    place.write("dvc.yaml", text.replace("    - out/tree\n    outs:", "    - make.py\n    outs:"))
    done = place.run("forebear", "deps", "use", "--suggest")
    assert "    - out/tree\n" in done.stdout
    assert "    - metrics.json" not in done.stdout


def test_doctor_says_what_confinement_there_is_and_why_not_more(place: Workspace) -> None:
    assert "enforced by landlock" in place.run("forebear", "doctor").stdout
    done = place.run(*refusing(NO_LANDLOCK, NO_NAMESPACE), "forebear", "doctor")
    assert "warn  confined" in done.stdout
    assert "ENOSYS" in done.stdout
    assert "EPERM" in done.stdout
