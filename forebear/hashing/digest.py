"""Digests of files and folders: SHA-256, always over all bytes, always equal to ``sha256sum``.

The manifest of a folder is valid ``sha256sum -c`` input and its digest is the tree digest. One
thread per core, each one file at a time, largest first. Refuses everything but regular files, and
a file that changes while it is read.

Source: provenance page, section 1.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from forebear.errors import EnvironmentFailure, FormatError, PathError
from forebear.formats.pathrule import require_path, require_side_by_side
from forebear.hashing import mapped
from forebear.hashing.cache import DigestCache
from forebear.hashing.paths import (
    check_tree_paths,
    disk_path,
    missing,
    require_regular,
)

Files = Mapping[PurePosixPath, str] | Mapping[str, str]
"""Digests of files by path."""
Progress = Callable[[int, int], None]
"""Called in the caller's thread with bytes done and bytes in all, every half second."""

_BUFFER_BYTES = 1024 * 1024
# Below this, starting threads costs more than it saves.
_THREADS_FROM_BYTES = 8 * 1024 * 1024
_PROGRESS_S = 0.5
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Tree:
    """A hashed folder.

    Attributes:
        digest: tree digest.
        files: digest of each regular file, path relative to the folder, sorted by UTF-8 bytes.
        size_bytes: sum of the file sizes.
    """

    digest: str
    files: dict[PurePosixPath, str]
    size_bytes: int


def hash_file(file: Path) -> str:
    """SHA-256 of a regular file, lower-case hex.

    Raises:
        PathError: not a regular file; a symbolic link is none.
        EnvironmentFailure: the file cannot be read, or changed while it was read.
    """
    return hash_files([file])[0]


def hash_files(
    files: Sequence[Path],
    *,
    allow_symlinks_into: Path | None = None,
    cache: DigestCache | None = None,
    on_progress: Progress | None = None,
) -> list[str]:
    """SHA-256 of each file, in the order given.

    Args:
        files: regular files.
        allow_symlinks_into: DVC's cache folder, while recording; None refuses all links.
        cache: the recorder's digest cache; None reads every byte.
        on_progress: called with bytes done and bytes in all.

    Raises:
        PathError: one is not a regular file.
        EnvironmentFailure: one cannot be read, or changed while it was read.
    """
    started_ns = time.time_ns()
    statuses = [require_regular(file, allow_symlinks_into=allow_symlinks_into) for file in files]
    known = [cache.get(status) if cache else None for status in statuses]
    jobs = [
        _Job(index, files[index], status, follow=allow_symlinks_into is not None)
        for index, status in enumerate(statuses)
        if known[index] is None
    ]
    fresh = _Engine(jobs, on_progress).run()
    if cache:
        for index, digest in fresh.items():
            cache.put(statuses[index], digest, read_at_ns=started_ns)
        cache.commit()
    return [digest or fresh[index] for index, digest in enumerate(known)]


def hash_tree(
    root: Path,
    *,
    allow_symlinks_into: Path | None = None,
    cache: DigestCache | None = None,
    on_progress: Progress | None = None,
) -> Tree:
    """Digests of every file below ``root``, hidden ones included, and of the whole.

    Args:
        root: a folder, itself no symbolic link.
        allow_symlinks_into: DVC's cache folder, while recording; None refuses all links.
        cache: the recorder's digest cache; None reads every byte.
        on_progress: called with bytes done and bytes in all.

    Raises:
        PathError: an entry breaks the path rules or is neither folder nor regular file.
        EnvironmentFailure: an entry cannot be read, or changed while it was read.
    """
    paths = sorted(_walk(root), key=lambda path: str(path).encode())
    check_tree_paths(paths)
    files = [root / path for path in paths]
    digests = hash_files(
        files, allow_symlinks_into=allow_symlinks_into, cache=cache, on_progress=on_progress
    )
    tree = dict(zip(paths, digests, strict=True))
    try:
        size_bytes = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise missing(root, error) from error
    return Tree(digest=tree_digest(tree), files=tree, size_bytes=size_bytes)


def manifest(files: Files) -> bytes:
    r"""Manifest of a folder: ``<hex>  <path>\n`` per file, sorted by the paths' UTF-8 bytes.

    Args:
        files: digest of each regular file, path relative to the folder, as text or as a path.

    Raises:
        PathError: a path breaks the path rules, or two are equal after NFC and case folding.
        FormatError: a digest is not 64 lower-case hex digits.

    Source: provenance page, section 1.
    """
    require_side_by_side(map(str, files))
    lines = []
    for path, digest in files.items():
        name = str(path)
        require_path(name)
        if not _HEX.fullmatch(digest):
            raise FormatError("the digest must be 64 lower-case hex digits", name)
        lines.append((name.encode(), digest.encode()))
    return b"".join(b"%b  %b\n" % (digest, path) for path, digest in sorted(lines))


def tree_digest(files: Files) -> str:
    """Digest of a folder: SHA-256 over its manifest.

    Args:
        files: digest of each regular file, path relative to the folder, as text or as a path.

    Raises:
        PathError: a path breaks the path rules, or two are equal after NFC and case folding.
        FormatError: a digest is not 64 lower-case hex digits.

    Source: provenance page, section 1.
    """
    return hashlib.sha256(manifest(files)).hexdigest()


def _walk(root: Path) -> list[PurePosixPath]:
    """Every entry below ``root`` that is no folder, relative to it."""
    found: list[PurePosixPath] = []
    folders = [""]
    try:
        if not stat.S_ISDIR(os.lstat(root).st_mode):
            raise PathError("is not a folder, or is a symbolic link to one", str(root))
        while folders:
            folder = folders.pop()
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    relative = f"{folder}/{entry.name}" if folder else entry.name
                    path = disk_path(relative, root)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(relative)
                    else:
                        found.append(path)
    except OSError as error:
        raise missing(root, error) from error
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    index: int
    file: Path
    status: os.stat_result
    follow: bool


class _Hash(Protocol):
    def update(self, data: mmap.mmap, /) -> None: ...


class _Engine:
    """Hashes jobs in threads; ``hashlib`` and ``readinto`` both let go of the interpreter lock."""

    def __init__(self, jobs: list[_Job], on_progress: Progress | None) -> None:
        # Largest first, so that no thread is left alone with the last big file.
        self._jobs = deque(sorted(jobs, key=lambda job: -job.status.st_size))
        self._n_jobs = len(jobs)
        self._total_bytes = sum(job.status.st_size for job in jobs)
        self._done_bytes: list[int] = []
        self._digests: dict[int, str] = {}
        self._failures: list[BaseException] = []
        self._stop = threading.Event()
        self._on_progress = on_progress

    def run(self) -> dict[int, str]:
        """Digest of each job, by its index; the first failure stops the others."""
        n_threads = min(_n_cores(), self._n_jobs)
        if self._total_bytes < _THREADS_FROM_BYTES:
            n_threads = min(n_threads, 1)
        self._done_bytes = [0] * n_threads
        threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(n_threads)
        ]
        for thread in threads:
            thread.start()
        try:
            self._wait(threads)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]
        return self._digests

    def _wait(self, threads: list[threading.Thread]) -> None:
        """Reports progress until all have ended. No wake-up per file: ten thousand cost seconds."""
        reported = time.monotonic()
        for thread in threads:
            while thread.is_alive():
                thread.join(timeout=_PROGRESS_S)
                if self._on_progress and time.monotonic() - reported >= _PROGRESS_S:
                    reported = time.monotonic()
                    self._on_progress(sum(self._done_bytes), self._total_bytes)
        if self._on_progress and not self._failures:
            self._on_progress(self._total_bytes, self._total_bytes)

    def _work(self, number: int) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while not self._stop.is_set():
            try:
                job = self._jobs.popleft()
            except IndexError:
                return
            try:
                self._digests[job.index] = self._hash(job, buffer, number)
            except BaseException as error:  # noqa: BLE001  # raised again by ``run``
                self._failures.append(error)
                self._stop.set()

    def _hash(self, job: _Job, buffer: memoryview, number: int) -> str:
        digest = hashlib.sha256()
        # NONBLOCK: were the file swapped for a FIFO since ``lstat``, the open would hang.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            handle = os.open(job.file, flags if job.follow else flags | os.O_NOFOLLOW)
            with io.FileIO(handle, "rb") as raw:
                if job.status.st_size > _BUFFER_BYTES:
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                with mapped.lease(handle, job.status) as held:
                    _require_same(job, os.fstat(handle))
                    if held:
                        raw.seek(self._hash_mapped(job, handle, digest, number))
                    while (n_read := raw.readinto(buffer)) and not self._stop.is_set():
                        digest.update(buffer[:n_read])
                        self._done_bytes[number] += n_read
                _require_same(job, os.fstat(handle))
        except OSError as error:
            raise missing(job.file, error) from error
        return digest.hexdigest()

    def _hash_mapped(self, job: _Job, handle: int, digest: _Hash, number: int) -> int:
        """Hashes what needs no reading; returns where reading must go on."""
        done = 0
        for mapping in mapped.windows(handle, 0, job.status.st_size):
            if self._stop.is_set():
                break
            digest.update(mapping)
            done += len(mapping)
            self._done_bytes[number] += len(mapping)
        return done


def _require_same(job: _Job, now: os.stat_result) -> None:
    before = job.status
    if (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        now.st_dev,
        now.st_ino,
        now.st_size,
        now.st_mtime_ns,
        now.st_ctime_ns,
    ):
        raise EnvironmentFailure(
            "changed while it was being hashed", str(job.file), "let writers finish, then try again"
        )


def _n_cores() -> int:
    return len(os.sched_getaffinity(0))
