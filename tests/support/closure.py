"""The code that a stage runs: its import closure inside this repository, found without importing.

``python -m tests.support.closure stages/sft.py`` prints the lines for the stage's ``deps``. Imports
inside functions count, imports for the type checker alone do not; the ``__init__`` of every package
on the way counts, since Python runs it. Data files that code opens are not seen.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("forebear", "stages")
REPOSITORY = Path(__file__).resolve().parents[2]


def closure(script: str, root: Path = REPOSITORY) -> tuple[str, ...]:
    """Paths of every module of ours that ``script`` may import, itself included, sorted.

    Args:
        script: path relative to the repository, such as ``stages/sft.py``.
        root: the repository.
    """
    seen: set[str] = set()
    waiting = [script, *_packages_of(script)]
    while waiting:
        path = waiting.pop()
        if path in seen or not (root / path).is_file():
            continue
        seen.add(path)
        for name in _imported(path, (root / path).read_bytes()):
            waiting.extend(_files_of(name, root))
    return tuple(sorted(seen))


def deps_lines(script: str, root: Path = REPOSITORY) -> str:
    """The closure as lines to paste into ``dvc.yaml``; empty ``__init__`` files included."""
    return "\n".join(f"    - {path}" for path in closure(script, root))


def _packages_of(path: str) -> list[str]:
    parents = [parent for parent in Path(path).parents if str(parent) != "."]
    return [str(parent / "__init__.py") for parent in parents]


def _files_of(name: str, root: Path) -> list[str]:
    """Files that ``import name`` runs; a name that is no module is an attribute of its parent."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return []
    base = "/".join(parts)
    for candidate in (f"{base}/__init__.py", f"{base}.py"):
        if (root / candidate).is_file():
            return [candidate, *_packages_of(candidate)]
    return _files_of(".".join(parts[:-1]), root) if len(parts) > 1 else []


def _imported(path: str, source: bytes) -> Iterator[str]:
    tree = ast.parse(source, filename=path)
    package = list(Path(path).parent.parts)
    for node in _walk_run_time(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}"
        elif _is_module_start(node):
            # ["-m", "forebear.train.x"] and importlib.import_module("forebear.train.x")
            yield node.value


def _is_module_start(node: ast.AST) -> bool:
    """Whether the node is a text that names a module of ours below the package."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    parts = node.value.split(".")
    return len(parts) > 1 and parts[0] in PACKAGES and all(part.isidentifier() for part in parts)


def _walk_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but the bodies of ``if TYPE_CHECKING:``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def main() -> None:
    """Prints the deps of each script named on the command line, all stages without one."""
    scripts = sys.argv[1:] or sorted(
        f"stages/{file.name}"
        for file in (REPOSITORY / "stages").glob("*.py")
        if not file.name.startswith("_")
    )
    for script in scripts:
        sys.stdout.write(f"{script}:\n{deps_lines(script)}\n")


if __name__ == "__main__":
    main()
