"""What hook and strace say, and what of it is undeclared."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear.pipeline import Out, Stage
from forebear.recording.explain import named_in, outside
from forebear.recording.observe import Seen, parse_hook, parse_trace, undeclared

ROOT = "/w"
STAGE = Stage(
    "s", "forebear record s -- x", deps=("code", "in.txt"), outs=(Out("out/a"), Out("links/s.link"))
)


@pytest.mark.parametrize(
    ("line", "reads", "writes"),
    [
        ('1 openat(AT_FDCWD</w/sub>, "../a b", O_RDONLY) = 3</w/a b>', {"a b"}, set()),
        ('1 openat(AT_FDCWD</w>, "d\\303\\274", O_RDONLY) = 3</w/d\\303\\274>', {"dü"}, set()),
        ('1 openat(AT_FDCWD</w>, "x", O_WRONLY|O_CREAT, 0666) = 3</w/x>', set(), {"x"}),
        ('1 openat(AT_FDCWD</w>, "x", O_RDWR) = 3</w/x>', set(), {"x"}),
        ('1 openat(AT_FDCWD</w>, "l", O_RDONLY) = 3</w/t>', {"l", "t"}, set()),
        ('1 openat(AT_FDCWD</w>, "d", O_RDONLY|O_DIRECTORY) = 3</w/d>', set(), set()),
        ('1 openat(AT_FDCWD</w>, "no", O_RDONLY) = -1 ENOENT (No such file)', set(), set()),
        ('1 openat(AT_FDCWD</w>, "/etc/x", O_RDONLY) = 3</etc/x>', set(), set()),
        ('1 openat(5</w/d>, "e", O_RDONLY) = 3</w/d/e>', {"d/e"}, set()),
        ('1 execve("/w/run.sh", ["/w/run.sh", "/w/arg"], 0x7 /* 9 vars */) = 0',
         {"run.sh"}, set()),
        ('1 renameat2(AT_FDCWD</w>, "a", AT_FDCWD</w>, "b", 0) = 0', set(), {"a", "b"}),
        ('1 linkat(AT_FDCWD</w>, "a", AT_FDCWD</w>, "b", 0) = 0', set(), {"b"}),
        ('1 unlink("/w/a") = 0', set(), {"a"}),
        ("1 +++ exited with 0 +++", set(), set()),
        ("nonsense", set(), set()),
    ],
)  # fmt: skip
def test_each_line_of_strace_is_a_read_a_write_or_neither(line, reads, writes):
    seen = parse_trace(line + "\n", [ROOT])
    assert (set(seen.reads), set(seen.writes)) == (reads, writes)


def test_lines_that_the_hook_does_not_write_are_left_out():
    seen = parse_hook("s\twatched\nr\ta b\nw\tx\nn\thost:1\nr\t\nz\ty\nbroken\n")
    assert seen == Seen(frozenset({"a b"}), frozenset({"x"}), frozenset({"host:1"}))


def test_deps_outs_parents_and_what_is_not_there_are_no_findings(tmp_path: Path):
    for path in ("code/a.py", "in.txt", "extra.txt", "out/a", "code/__pycache__/a.pyc"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    seen = Seen(
        frozenset({"code/a.py", "in.txt", "extra.txt", "gone.txt", "code", "out/a",
                   "code/__pycache__/a.pyc"}),
        frozenset({"out", "out/a", "in.txt", "new.txt", "tmp/x"}),
        frozenset({"host:1"}),
    )  # fmt: skip
    odd = undeclared(seen, STAGE, tmp_path, writable=["tmp"], cache_dir=tmp_path / ".dvc/cache")
    assert odd.reads == {"extra.txt"}
    assert odd.writes == {"in.txt", "new.txt"}
    assert odd.addresses == {"host:1"}


@pytest.mark.parametrize(
    ("said", "reads", "writes"),
    [
        ("FileNotFoundError: No such file or directory: extra.txt", {"extra.txt"}, set()),
        ("cat: d/b.txt: Permission denied", {"d/b.txt"}, set()),
        ("PermissionError: [Errno 13] Permission denied: 'd/a b.txt'", {"d/a b.txt"}, set()),
        ("sh: 1: cannot create d/new: Permission denied", set(), {"d/new"}),
        ("cp: cannot create regular file './d/new': Permission denied", set(), {"d/new"}),
        ("rm: cannot remove 'extra.txt': Permission denied", set(), {"extra.txt"}),
        ("cp: cannot open \u2018d/a b.txt\u2019: Permission denied", {"d/a b.txt"}, set()),
        ("see extra.txt for more", set(), set()),
        ("No such file or directory: nowhere.txt", set(), set()),
    ],
)
def test_a_path_in_stderr_counts_beside_words_of_refusal(tmp_path, said, reads, writes):
    (tmp_path / "d").mkdir()
    for path in ("extra.txt", "d/b.txt", "d/a b.txt"):
        (tmp_path / path).write_text("x")
    found = named_in(said, STAGE, tmp_path)
    assert (set(found.reads), set(found.writes)) == (reads, writes)


def test_a_refused_file_elsewhere_is_named_unless_it_was_open(tmp_path):
    (tmp_path / "w").mkdir()
    far = tmp_path / "far.txt"
    far.write_text("x")
    said = f"/bin/cat: {far}: Permission denied"
    assert outside(said, tmp_path / "w", [Path("/bin")]) == [str(far)]
    assert outside(said, tmp_path / "w", [Path("/bin"), tmp_path]) == []
    assert outside(f"cat: {far}: gone", tmp_path / "w", [Path("/bin")]) == []
