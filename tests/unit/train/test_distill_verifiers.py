"""Verifiers that run something: hostile programs are stopped, equal mathematics passes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure, FormatError
from forebear.train.distill import sandbox
from forebear.train.distill.sandbox import Fences, SandboxParams, raise_fences, run_tests
from forebear.train.distill.verifiers import VerifierSettings, code_of, load_verifier
from tests.support.refuse import refusing

_PARAMS = SandboxParams(cpu_s=1, wall_s=8, memory_mb=256, processes=4, file_mb=1)
_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def fences() -> Fences:
    try:
        return raise_fences(_PARAMS, weak_allowed=False)
    except EnvironmentFailure as error:
        pytest.skip(error.what)


def _run(source: str, fences: Fences, tests: str = "assert f(3) == 9") -> str:
    return run_tests(textwrap.dedent(source), textwrap.dedent(tests), _PARAMS, fences)


def test_right_program_passes_and_a_wrong_one_does_not(fences: Fences) -> None:
    assert _run("def f(x): return x * x", fences) == ""
    assert _run("def f(x): return x + x", fences) == "a test failed"
    assert _run("def g(x): return x * x", fences) == "the tests raised NameError"
    assert _run("def f(x) return", fences) == "the answer raised SyntaxError"


def test_plain_values_of_every_kind_cross_and_errors_keep_their_name(fences: Fences) -> None:
    source = """
        import math, re, collections
        def same(x): return x
        def fails(x): raise KeyError(x)
        def named(*, a): return collections.Counter([a])[a] + math.floor(1.5)
    """
    tests = """
        for value in (1, -2.5, float("inf"), "é", b"x", None, True, [1, (2, {3})], {"a": ("t", 1)},
                      {(1, 2): frozenset({4})}, 1j, ("s", "n"), []):
            assert same(value) == value and type(same(value)) is type(value)
        assert same(float("nan")) != same(float("nan"))
        assert named(a=1) == 2
        try:
            fails(1)
        except KeyError:
            pass
        else:
            raise AssertionError
    """
    assert _run(source, fences, tests) == ""


@pytest.mark.parametrize(
    "source",
    [
        "print('passed'); print('token', 'ok')",
        "import os; print('passed', flush=True); os._exit(0)",
        "import sys; sys.exit(0)",
        "import os\nfor n in range(64):\n try: os.write(n, b'token x\\n')\n except OSError: pass",
        # an object that equals everything
        "class A:\n  def __eq__(s, o): return True\ndef f(x): return A()",
        "class I(int):\n  def __eq__(s, o): return True\ndef f(x): return I(1)",
        # the names that tests rely on
        "def isinstance(*a): return True\ndef f(x): return 8",
        "import builtins\nbuiltins.AssertionError = ValueError\ndef f(x): return 8",
        # the token is nowhere in this process
        "import gc\ndef f(x):\n  return [o for o in gc.get_objects() if 'assert' in str(o)][:0]",
        # another process's memory and arguments
        "import os\ndef f(x): return os.listdir('/proc') and 9",
    ],
)
def test_program_that_only_claims_success_does_not_pass(fences: Fences, source: str) -> None:
    assert _run(source, fences) != ""


def test_tests_that_never_call_the_answer_prove_nothing(fences: Fences) -> None:
    assert _run("def f(x): return 9", fences, "assert True") == "the tests never called the answer"


@pytest.mark.parametrize("where", ["while running", "while called"])
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("while True: pass", "stopped at a limit"),
        ("bytearray(2**33)", "raised MemoryError"),
        ("import os\n while True: os.fork()", "raised BlockingIOError"),
        ("import threading\n while True: threading.Thread(target=input).start()", "raised"),
        ("open('big', 'wb').write(bytes(2**24))", "raised OSError"),
        ("import time; time.sleep(60)", "timed out"),
    ],
)
def test_bombs_and_loops_are_stopped(fences: Fences, where: str, body: str, outcome: str) -> None:
    source = f"if True:\n {body}" if where == "while running" else f"def f(x):\n {body}"
    short = SandboxParams(cpu_s=1, wall_s=3 if "sleep" in body else 20, memory_mb=256,
                          processes=4, file_mb=1)  # fmt: skip
    reason = run_tests(source, "assert f(3) == 9", short, fences)
    assert outcome in reason.replace("the tests ", "")


def test_many_small_files_are_stopped(fences: Fences) -> None:
    source = """
        n = 0
        while True:
            n += 1
            open(str(n), "wb").write(bytes(500_000))
    """
    assert _run(source, fences) in ("wrote too much", "stopped at a limit")


def test_program_starts_no_process_but_may_start_a_thread(fences: Fences) -> None:
    if "forks" not in fences.names:
        pytest.skip("no system call filter here")
    source = """
        import os, subprocess, threading
        def f(x):
            done = []
            for name, action in (
                ("fork", os.fork),
                ("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})),
                ("run", lambda: subprocess.run(["/bin/true"])),
            ):
                try:
                    action()
                    done.append(name)
                except OSError: pass
            thread = threading.Thread(target=done.append, args=["thread"])
            thread.start()
            thread.join()
            return done
    """
    assert _run(source, fences, "assert f(0) == ['thread']") == ""


def test_nothing_is_left_running_when_a_program_flees_its_group(fences: Fences) -> None:
    unfiltered = tuple(name for name in fences.names if name != "forks")
    fences = replace(fences, names=unfiltered)  # as where the kernel has no such filter
    mark = f"flee{os.getpid()}"
    source = f"""
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("{os.path.realpath(sys.executable)}",
                         ["python", "-I", "-S", "-c", "import time; time.sleep(300)", "{mark}"])
            os._exit(0)
        def f(x): return x * x
    """
    assert _run(source, fences) == ""
    commands = [_command(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    assert not [command for command in commands if mark in command]


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_network_is_closed_to_programs(fences: Fences) -> None:
    with socket.socket() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for opened in (listener, datagrams):
            opened.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0)
        datagrams.settimeout(0)
        tcp, udp = listener.getsockname()[1], datagrams.getsockname()[1]
        source = """
            import socket
            def f(tcp, udp):
                reached = []
                try:
                    socket.create_connection(("127.0.0.1", tcp), timeout=2)
                    reached.append("tcp")
                except OSError: pass
                try:
                    socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", udp))
                    reached.append("udp")
                except OSError: pass
                return reached
        """
        assert _run(source, fences, f"assert f({tcp}, {udp}) == []") == ""
        with pytest.raises(BlockingIOError):
            listener.accept()
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)


def test_files_outside_the_scratch_folder_are_closed(fences: Fences, tmp_path: Path) -> None:
    if fences.files != "closed":
        pytest.skip("no Landlock here")
    (tmp_path / "secret").write_text("s")
    source = """
        import os
        def f(outside):
            done = []
            for name, action in (
                ("read", lambda: open(outside + "/secret").read()),
                ("list", lambda: os.listdir(outside)),
                ("write", lambda: open(outside + "/new", "w")),
                ("passwd", lambda: open("/etc/passwd").read()),
                ("proc", lambda: open("/proc/1/environ", "rb").read()),
                ("library", lambda: open(os.__file__, "a")),
                ("own", lambda: open("mine", "w").write("x")),
            ):
                try:
                    action()
                    done.append(name)
                except OSError: pass
            return done
    """
    assert _run(source, fences, f"assert f({str(tmp_path)!r}) == ['own']") == ""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["secret"]


def test_weak_fences_are_refused_unless_allowed_and_labelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "_attempts", lambda: iter([("files",), ()]))
    with pytest.raises(EnvironmentFailure, match="network open") as caught:
        raise_fences(_PARAMS, weak_allowed=False)
    assert "distill.sandbox.fences" in caught.value.fix
    weak = raise_fences(_PARAMS, weak_allowed=True)
    assert weak.to_json()["level"] == "none"
    assert weak.to_json()["network"] == "open"


_REFUSED = """
import sys
from pathlib import Path
from forebear.errors import EnvironmentFailure
from forebear.train.distill.sandbox import SandboxParams
from forebear.train.distill.verifiers import VerifierSettings, load_verifier
settings = VerifierSettings(SandboxParams(cpu_s=1, wall_s=8, memory_mb=256, processes=4))
try:
    verify = load_verifier("code", where="here", settings=settings)
except EnvironmentFailure as refusal:
    raise SystemExit(f"refused: {refusal.what}")
verify(f"open({sys.argv[1]!r}, 'w')", {"id": "p", "answer": "", "tests": "pass"})
"""


def test_where_the_kernel_refuses_namespaces_no_code_is_run(fences: Fences, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    command = (sys.executable, "-c", _REFUSED, str(mark))
    stopped = subprocess.run(
        (*refusing("unshare=EPERM"), *command), cwd=_ROOT, capture_output=True, check=False
    )
    assert stopped.returncode == 1
    assert b"refused: answers that are code will not be run here: network open" in stopped.stderr
    assert not mark.exists()
    allowed = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    assert allowed.returncode == 0, allowed.stderr
    assert mark.exists() == (fences.files != "closed")


def test_without_file_rules_the_label_says_so(
    monkeypatch: pytest.MonkeyPatch, fences: Fences
) -> None:
    names = tuple(name for name in fences.names if name != "files")
    monkeypatch.setattr(sandbox, "_attempts", lambda: iter([names]))
    found = raise_fences(_PARAMS, weak_allowed=False)
    assert found.level == "partial"
    assert found.files == "open"
    assert run_tests("def f(x): return x * x", "assert f(3) == 9", _PARAMS, found) == ""


_NESTED = """
import json, os, sys, tempfile
from pathlib import Path
from forebear.recording import landlock, namespace
from forebear.recording.landlock import READ, WRITE, Ruleset
from forebear.train.distill.sandbox import SandboxParams, raise_fences, run_tests
namespace.leave_network(own_memory=True, every_id=sys.argv[3] == 'every id')
rules = Ruleset.of_files(landlock.abi())
system = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/dev", "/proc")
for path in (*system, sys.base_prefix, sys.argv[1]):
    rules.allow(Path(path), READ)
rules.allow(Path("/dev/null"), WRITE)
rules.allow(Path(sys.argv[2]), WRITE)
rules.restrict_self()
params = SandboxParams(cpu_s=1, wall_s=8, memory_mb=256, processes=4, file_mb=1)
fences = raise_fences(params, weak_allowed=False)
reasons = [
    run_tests(source, "assert f(1) == 1", params, fences)
    for source in ("f = int", "import os; f = lambda x: [os.fork() for _ in range(10**9)]")
]
print(json.dumps([fences.to_json(), reasons]))
"""


@pytest.mark.parametrize("ids", ["every id", "one id"])
def test_sandbox_stands_inside_the_recorders_own_fences(
    fences: Fences, tmp_path: Path, ids: str
) -> None:
    if fences.level != "full":
        pytest.skip("this machine grants less than everything")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _NESTED, str(_ROOT), str(tmp_path), ids],
        cwd=_ROOT, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    reasons = ["", "the tests raised BlockingIOError"]
    assert json.loads(done.stdout) == [fences.to_json(), reasons]


def test_code_verifier_reads_the_last_fenced_block_and_labels_its_sandbox(fences: Fences) -> None:
    verify = load_verifier("code", where="here", settings=VerifierSettings(_PARAMS))
    row = {"id": "p1", "answer": "", "tests": "assert f(3) == 9"}
    prose = "First try:\n```python\ndef f(x): return 1\n```\nBetter:\n```python\n{}\n```\nDone."
    right = verify(prose.format("def f(x):\n    return x * x"), row)
    assert right.verified
    assert right.detail == {"sandbox": fences.to_json()}
    wrong = verify(prose.format("def f(x):\n    return x"), row)
    assert (wrong.verified, wrong.reason) == (False, "a test failed")
    assert code_of("x = 1") == "x = 1"
    with pytest.raises(FormatError, match="no tests"):
        verify("x", {"id": "p1", "answer": "", "tests": " "})


@pytest.fixture(scope="module")
def mathematics() -> object:
    pytest.importorskip("math_verify")
    settings = VerifierSettings(SandboxParams(wall_s=4))
    return load_verifier("mathematics", where="here", settings=settings)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("1/2", r"So we get \boxed{\frac{1}{2}}"), ("1/2", "The answer is 0.5"),
        (r"\frac{1}{2}", "$0.5$"), ("x^2+2x+1", "$(x+1)^2$"), ("{1,2}", r"$\{2,1\}$"),
        (r"\sqrt{8}", r"$2\sqrt{2}$"), ("10%", "0.1"), ("4", "I think 3. No: 4"),
        ("(1,2)", "$(1, 2)$"),
    ],
)  # fmt: skip
def test_equal_mathematics_passes(mathematics: object, expected: str, given: str) -> None:
    assert mathematics(given, {"answer": expected}).verified  # type: ignore[operator]  # a verifier


@pytest.mark.parametrize(
    ("expected", "given", "reason"),
    [
        ("2", "3", "not equal"), ("x^2+2x+1", "1", "not equal"), ("1/2", "1/3", "not equal"),
        ("4", r"\boxed{3} or \boxed{4}", "not equal"), ("4", "passed", "no mathematical answer"),
        ("4", "", "no mathematical answer"), ("4", "9" * 200_000, "too long"),
        ("4", r"\boxed{9^{9^{9^{9}}}}", "timed out"), ("4", "5", "not equal"),
    ],
)  # fmt: skip
def test_other_mathematics_is_refuted_with_its_reason(
    mathematics: object, expected: str, given: str, reason: str
) -> None:
    verdict = mathematics(given, {"answer": expected})  # type: ignore[operator]  # a verifier
    assert (verdict.verified, verdict.reason) == (False, reason)
