from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from forebear.errors import EnvironmentFailure, FormatError, PathError
from forebear.hashing import digest
from forebear.hashing.digest import hash_file, hash_files, hash_tree, manifest, tree_digest

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# Vector of the provenance page, section 1.
FILES = {"config.json": b"{}\n", "model.safetensors": b"w" * 100, "sub/a.txt": b""}
VECTOR = "074db9d5771ffc97b2738fc79af087c757e0c05235621abdb992c2fb72727a2b"


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


@pytest.fixture
def tree(tmp_path):
    return write(tmp_path / "tree", FILES)


def test_tree_digest_is_the_vector(tree):
    hashed = hash_tree(tree)
    assert hashed.digest == VECTOR
    assert hashed.size_bytes == 103
    assert [str(path) for path in hashed.files] == sorted(FILES)
    assert hashed.files[PurePosixPath("sub/a.txt")] == EMPTY


def test_an_empty_folder_has_the_digest_of_nothing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert hash_tree(tmp_path).digest == EMPTY


def test_manifest_is_sorted_by_utf8_bytes():
    # U+FF5E sorts before U+1F600 in UTF-8, after it in UTF-16.
    files = {PurePosixPath(name): EMPTY for name in ("\U0001f600", "\uff5e", "b", "a/b", "a.b")}
    paths = [line.split("  ")[1] for line in manifest(files).decode().splitlines()]
    assert paths == ["a.b", "a/b", "b", "\uff5e", "\U0001f600"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_manifest_is_input_for_sha256sum(tree):
    write(tree, {" leading and inner space": b"x", "*star": b"y", "é": b"z"})
    (tree.parent / "manifest").write_bytes(manifest(hash_tree(tree).files))
    subprocess.run(["sha256sum", "--check", "--strict", "../manifest"], cwd=tree, check=True)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"../a": EMPTY}, PathError),
        ({"/a": EMPTY}, PathError),
        ({"a\nb": EMPTY}, PathError),
        ({"a": EMPTY, "A": EMPTY}, PathError),
        ({"a": EMPTY.upper()}, FormatError),
        ({"a": ""}, FormatError),
    ],
)
def test_malformed_manifests_are_not_written(files, error):
    with pytest.raises(error):
        tree_digest({PurePosixPath(path): hexed for path, hexed in files.items()})


def test_hidden_and_odd_files_count(tree):
    for name in (".git/x", "x.pyc", "x~", "x.link.bin", ".hidden"):
        before = hash_tree(tree).digest
        write(tree, {name: b""})
        assert hash_tree(tree).digest != before


def test_order_of_files_given_is_order_of_digests(tmp_path):
    sizes = [0, 1, 3_000_000, 5, 6_000_001, 1_048_576]
    blobs = [os.urandom(size) for size in sizes]
    files = [tmp_path / str(number) for number in range(len(sizes))]
    for file, blob in zip(files, blobs, strict=True):
        file.write_bytes(blob)
    expected = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    assert hash_files(files) == expected
    assert [hash_file(file) for file in files] == expected
    assert hash_files([]) == []


def test_progress_ends_at_the_whole(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"x" * 10)
    seen = []
    hash_files([file], on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)


def make_fifo(file):
    os.mkfifo(file)


def make_socket(file):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(file))


def make_dangling(file):
    file.symlink_to("nowhere")


def make_link_to_equal_content(file):
    file.symlink_to("config.json")


def make_link_to_folder(file):
    file.symlink_to("sub", target_is_directory=True)


def make_link_to_device(file):
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "make",
    [
        make_fifo,
        make_socket,
        make_dangling,
        make_link_to_equal_content,
        make_link_to_folder,
        make_link_to_device,
    ],
)
def test_other_entries_are_refused_and_nothing_hangs(tree, make):
    make(tree / "odd")
    with pytest.raises(PathError) as refused:
        hash_tree(tree)
    assert refused.value.where == str(tree / "odd")
    with pytest.raises(PathError):
        hash_file(tree / "odd")


def test_a_device_is_refused_unopened():
    with pytest.raises(PathError):
        hash_file(Path("/dev/zero"))


def test_a_linked_root_is_refused(tree):
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(PathError):
        hash_tree(link)
    with pytest.raises(PathError):
        hash_tree(tree / "config.json")


def test_a_symlink_into_the_cache_is_taken_while_recording(tree):
    cache = write(tree.parent / "cache", {"ab/cdef": b"{}\n"})
    (tree / "config.json").unlink()
    (tree / "config.json").symlink_to(cache / "ab" / "cdef")
    hashed = hash_tree(tree, allow_symlinks_into=cache)
    assert hashed.digest == VECTOR
    assert hashed.size_bytes == 103
    with pytest.raises(PathError):
        hash_tree(tree)


@pytest.mark.parametrize(
    "target", ["../outside", "cache/../../outside", "cache-twin/x", "cache/ab"]
)
def test_a_symlink_that_leaves_the_cache_is_refused(tree, target):
    top = tree.parent
    write(top, {"outside": b"", "cache/ab/x": b"", "cache-twin/x": b""})
    (top / "cache" / "escape").symlink_to(top / "outside")
    (tree / "config.json").unlink()
    (tree / "config.json").symlink_to(top / target)
    with pytest.raises((PathError, EnvironmentFailure)):
        hash_tree(tree, allow_symlinks_into=top / "cache")
    (tree / "config.json").unlink()
    (tree / "config.json").symlink_to(top / "cache" / "escape")
    with pytest.raises(PathError):
        hash_tree(tree, allow_symlinks_into=top / "cache")


def test_names_that_break_the_rules_are_refused(tree):
    for name in (b"a\nb", b"a\\b", b"\xff", b"a ", "e\u0301".encode()):
        file = os.fsencode(tree) + b"/" + name
        Path(os.fsdecode(file)).write_bytes(b"")
        with pytest.raises(PathError):
            hash_tree(tree)
        Path(os.fsdecode(file)).unlink()
    assert hash_tree(tree).digest == VECTOR


def test_twins_are_refused(tree):
    write(tree, {"Config.json": b"{}\n"})
    with pytest.raises(PathError):
        hash_tree(tree)


def test_hard_links_and_times_do_not_matter(tree):
    os.link(tree / "sub" / "a.txt", tree.parent / "other")
    os.utime(tree / "config.json", (1, 1))
    assert hash_tree(tree).digest == VECTOR


def test_missing_files_are_the_environments_fault(tmp_path):
    for call in (hash_file, hash_tree):
        with pytest.raises(EnvironmentFailure) as refused:
            call(tmp_path / "absent")
        assert refused.value.where == str(tmp_path / "absent")


def test_a_name_with_nul_is_a_path_error():
    with pytest.raises(PathError):
        hash_file(Path("a\x00b"))


def test_a_file_that_changes_under_the_read_is_refused(tree, monkeypatch):
    real = digest.require_regular

    def stale(file, *, allow_symlinks_into):
        status = real(file, allow_symlinks_into=allow_symlinks_into)
        if file.name == "model.safetensors":
            file.write_bytes(b"v" * 101)
        return status

    monkeypatch.setattr(digest, "require_regular", stale)
    with pytest.raises(EnvironmentFailure, match="changed"):
        hash_tree(tree)


def test_a_file_swapped_for_a_fifo_is_refused_without_hanging(tree, monkeypatch):
    real = digest.require_regular

    def swap(file, *, allow_symlinks_into):
        status = real(file, allow_symlinks_into=allow_symlinks_into)
        file.unlink()
        os.mkfifo(file)
        return status

    monkeypatch.setattr(digest, "require_regular", swap)
    with pytest.raises(EnvironmentFailure):
        hash_file(tree / "config.json")


def test_one_failure_ends_all_threads(tmp_path):
    for number in range(6):
        (tmp_path / str(number)).write_bytes(bytes(4_000_000))
    files = sorted(tmp_path.iterdir())
    statuses = [os.lstat(file) for file in files]
    files[3].write_bytes(b"changed")
    jobs = [
        digest._Job(number, file, statuses[number], follow=False)
        for number, file in enumerate(files)
    ]
    with pytest.raises(EnvironmentFailure):
        digest._Engine(jobs, None).run()
