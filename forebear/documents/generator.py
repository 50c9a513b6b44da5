"""Which code wrote the documents: one digest over the modules and templates that shape them.

Documents are compared byte for byte with what this code makes of the same facts. Documents of
other code are not wrong for that, so the index names the code that wrote them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

MODULES = (
    "cards.py",
    "data.py",
    "evaluation.py",
    "evidence.py",
    "facts.py",
    "fields.py",
    "layout.py",
    "numbers.py",
    "render.py",
    "strictyaml.py",
    "values.py",
)


def generator_sha256() -> str:
    """SHA-256 over the manifest of the modules and templates."""
    folder = Path(__file__).parent
    files = [folder / name for name in MODULES]
    files += sorted((folder / "templates").glob("*.j2"))
    lines = (
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in files
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
