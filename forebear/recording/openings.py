"""Which paths stay open to a stage: deps, outs, the interpreter, the system, its own places.

A system folder that holds the workspace is opened around it, never as a whole. What a stage is
given beyond its declarations stands in ``dvc.yaml``, as ``meta: {forebear: {reads: […]}}``, and in
the link: the named grants ``owner-key`` (for ``attest`` alone), ``public-keys`` (of the user's key
folder) and ``repository`` (git, DVC and every file of the workspace), or absolute paths outside the
workspace. It refuses any other.

Rests on: provenance page, sections 5 and 6.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import site
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from forebear.errors import ConfigError, UsageError
from forebear.formats.layout import ATTEST
from forebear.pipeline import DVC_FILE, Stage
from forebear.recording.confine import Openings
from forebear.signing.keys import default_directory
from forebear.signing.token import is_remote, key_path

OWNER_KEY = "owner-key"
PUBLIC_KEYS = "public-keys"
REPOSITORY = "repository"
NAMED = (OWNER_KEY, PUBLIC_KEYS, REPOSITORY)
# Files that may be named there belong to the owner: keys, passphrases, tokens.
OWNER_FILES = (
    "FOREBEAR_OWNER_KEY",
    "FOREBEAR_OWNER_PUBLIC",
    "FOREBEAR_OWNER_PASSPHRASE_FILE",
    "FOREBEAR_IDENTITY_TOKEN_FILE",
    "FOREBEAR_TRUST_CONFIG",
    "PYKCS11LIB",
    "SOFTHSM2_CONF",
)
_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc", "/proc", "/sys",
    # where some distributions keep the whole system
    "/nix/store", "/gnu/store",
)  # fmt: skip
# /etc/resolv.conf leads there
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd")
# raw disks and memory, consoles, and what reaches other machines: doors around the fence; shared
# memory is opened by the fence itself
_CLOSED_DEVICES = re.compile(
    r"(shm|mem|kmem|port|kmsg|mapper|disk|block|bus|input|vsock|vhost.*|kvm|fuse|console|loop-control|"
    r"btrfs-control|userfaultfd|nvram|vcs.*|tty\d+|ttyS\d+)"
)
_PREFIX_PARTS = ("bin", "lib", "lib64", "libexec", "share", "include", "etc", "pyvenv.cfg")


def granted(stage: Stage) -> tuple[str, ...]:
    """What the stage's ``meta.forebear.reads`` names, in that order.

    Raises:
        ConfigError: it is no list, names something unknown, or gives the owner's key to a stage
            other than ``attest``.
    """
    where = f"{DVC_FILE}: {stage.name}.meta.forebear.reads"
    wanted = stage.options().get("reads", [])
    if not isinstance(wanted, list) or not all(isinstance(entry, str) for entry in wanted):
        raise ConfigError("must be a list of names or absolute paths", where=where)
    for entry in wanted:
        if entry == OWNER_KEY and stage.name != ATTEST:
            raise ConfigError(f"only the stage {ATTEST!r} may read the owner's key", where=where)
        if entry not in NAMED and not Path(entry).is_absolute():
            raise ConfigError(
                f"{entry[:80]!r} is none of {', '.join(NAMED)}, and no absolute path",
                where=where,
                fix="list files of the workspace under deps, where they are hashed",
            )
    return tuple(wanted)


def openings(  # noqa: PLR0913  # by name; each is one thing that a run has
    stage: Stage,
    *,
    root: Path,
    program: str,
    own: Iterable[Path],
    writable: Iterable[Path],
    cache_dir: Path,
) -> Openings:
    """Everything that stays open while ``stage`` runs.

    Args:
        stage: as declared.
        root: the DVC root.
        program: first word of the command.
        own: files of ours that the stage reads.
        writable: its outs, scratch and private folders.
        cache_dir: DVC's object cache, where deps may be links to.

    Raises:
        ConfigError: see :func:`granted`; a granted path holds the workspace or lies in it.
    """
    grants = granted(stage)
    wanted = bool(stage.options().get("network", False))
    read = [
        *own,
        *(file for dep in stage.deps for file in _dep(root / dep, cache_dir)),
        *around([Path(path) for path in _SYSTEM], root),
        *interpreter(root),
        *(home / "forebear" for home in _package_homes(root)),
        *_program(program, root),
        *(around([Path(path) for path in _RESOLVERS], root) if wanted else ()),
    ]
    write = [*writable, *_devices()]
    listed = [root, Path("/dev"), *_package_homes(root)]
    for entry in grants:
        if entry == OWNER_KEY:
            read += _owner_key(os.environ)
            write += _token_folder(os.environ)
            listed.append(default_directory())
        elif entry == PUBLIC_KEYS:
            read += default_directory().glob("*.pub")
            listed.append(default_directory())
        elif entry == REPOSITORY:
            read += [root, cache_dir, *_git(root), *_settings()]
            write += _dvc_state(root)
        else:
            read.append(_foreign_path(entry, root, stage))
    return Openings(
        read=tuple(read),
        listed=tuple(listed),
        write=tuple(write),
        network=wanted,
        memory=OWNER_KEY not in grants,  # a passphrase may lie there
        grants=grants,
    )


def system_openings(folder: Path) -> Openings:
    """The system and one folder to work in: what a trial needs."""
    read = (*(Path(path) for path in _SYSTEM), *interpreter(folder))
    return Openings(read=read, listed=(Path("/dev"),), write=(folder, *_devices()))


def viewer_openings(root: Path, folder: Path, program: str, stage: Stage) -> Openings:
    """The whole workspace for reading, and one folder to work in: for watching a stage."""
    system = system_openings(folder)
    return Openings(
        read=(*system.read, *_program(program, root), root),
        listed=system.listed,
        write=system.write,
        network=stage.options().get("network", False) is True,
    )


def around(paths: Sequence[Path], root: Path) -> Iterator[Path]:
    """The paths; one that holds the workspace is replaced by what lies beside the way there."""
    root = root.resolve()
    for path in paths:
        if root != path.resolve() and path.resolve() not in root.parents:
            yield path
        elif path.resolve() != root and path.is_dir():
            yield from around(sorted(path.iterdir()), root)


def interpreter(root: Path) -> Iterator[Path]:
    """Folders of the running Python and of its packages, those below the workspace included."""
    executable = Path(sys.executable)
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)}
    found |= {executable.parent, executable.resolve().parent}
    if site.ENABLE_USER_SITE:
        found.add(Path(site.getusersitepackages()))
    root = root.resolve()
    for folder in sorted(found):
        place = folder.resolve()
        if place == root or place in root.parents:
            # an environment around the workspace: its own parts only
            yield from around([folder / part for part in _PREFIX_PARTS], root)
        else:
            yield folder


def _package_homes(root: Path) -> Iterator[Path]:
    """Where this package lies if it was installed from a checkout, other than the workspace."""
    package = Path(__file__).resolve().parents[1]
    prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    if not {root.resolve(), *prefixes} & set(package.parents):
        yield package.parent


def _dep(place: Path, cache_dir: Path) -> Iterator[Path]:
    """The dep, and every object of DVC's cache that links below it lead to."""
    cache = cache_dir.resolve()
    if place.is_symlink():
        yield from _object(place, cache)
        return
    yield place
    if place.is_dir():
        for folder, _, names in os.walk(place):
            for entry in (Path(folder, name) for name in names):
                if entry.is_symlink():
                    yield from _object(entry, cache)


def _object(link: Path, cache: Path) -> Iterator[Path]:
    target = link.resolve()
    if cache in target.parents:
        yield target


def _program(program: str, root: Path) -> Iterator[Path]:
    """The program itself, wherever it is installed; one in the workspace has to be a dep."""
    found = shutil.which(program)
    if found is not None and root.resolve() not in Path(found).resolve().parents:
        yield Path(found)


def _devices() -> Iterator[Path]:
    for entry in sorted(Path("/dev").iterdir()):
        try:
            mode = entry.lstat().st_mode
        except OSError:
            continue
        closed = stat.S_ISBLK(mode) or stat.S_ISLNK(mode) or _CLOSED_DEVICES.fullmatch(entry.name)
        if not closed:
            yield entry


# ── named grants ───────────────────────────────────────────────────────────────────────────────


def _owner_key(env: Mapping[str, str]) -> list[Path]:
    """The owner's files; of the key folder everything but the recorder's private keys."""
    folder = default_directory()
    beside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        *(file for file in beside if file.name.startswith("owner") or file.suffix == ".pub"),
        *(file for name in OWNER_FILES if (file := _file_of(env.get(name, ""))).is_absolute()),
        Path("/run/pcscd"),
    ]


def _file_of(value: str) -> Path:
    """The file that a variable names; nowhere for the address of a token or key service."""
    with contextlib.suppress(UsageError):
        if not is_remote(value):
            return key_path(value)
    return Path()


def _token_folder(env: Mapping[str, str]) -> Iterator[Path]:
    """Where a software token keeps its objects, and locks them; nothing for hardware."""
    try:
        settings = Path(env["SOFTHSM2_CONF"]).read_text(encoding="utf-8")
    except (KeyError, OSError, UnicodeDecodeError):
        return
    found = re.search(r"^\s*directories\.tokendir\s*=\s*(/\S+)", settings, re.MULTILINE)
    if found:
        yield Path(found.group(1))


def _git(root: Path) -> Iterator[Path]:
    """Git's folder of the workspace, also when it lies higher up or is another work tree's."""
    for folder in (root, *root.parents):
        entry = folder / ".git"
        if entry.is_dir():
            yield entry
            return
        if entry.is_file():
            yield entry
            named = entry.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
            yield folder / named
            common = folder / named / "commondir"
            if common.is_file():
                yield common.parent / common.read_text(encoding="utf-8").strip()
            return


def _settings() -> list[Path]:
    """What git and DVC read of the user's settings."""
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [home / ".gitconfig", config / "git", config / "dvc"]


def _dvc_state(root: Path) -> Iterator[Path]:
    """Where DVC keeps its books; not the recorder's state beside them."""
    folder = root / ".dvc" / "tmp"
    if folder.is_dir():
        yield from (entry for entry in sorted(folder.iterdir()) if entry.name != "forebear")
    named = os.environ.get("DVC_SITE_CACHE_DIR")
    yield from [Path(named)] if named else [Path("/var/tmp/dvc"), Path("/var/cache/dvc")]  # noqa: S108  # DVC's own places


def _foreign_path(entry: str, root: Path, stage: Stage) -> Path:
    place, workspace = Path(entry).resolve(), root.resolve()
    if place == workspace or place in workspace.parents or workspace in place.parents:
        raise ConfigError(
            f"{entry!r} holds the workspace or lies in it",
            where=f"{DVC_FILE}: {stage.name}.meta.forebear.reads",
            fix="list files of the workspace under deps, where they are hashed",
        )
    return Path(entry)
