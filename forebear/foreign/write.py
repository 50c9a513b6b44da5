"""Writes a changed ``dvc.yaml``: whole or not at all, and back as it was when DVC refuses it.

Refuses a file that was changed since it was read.

Rests on: provenance page, section 4.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from forebear.errors import EnvironmentFailure, ForebearError
from forebear.foreign.plan import Plan, read_text
from forebear.pipeline import DVC_FILE, load_pipeline


def write_plan(root: Path, plan: Plan) -> None:
    """Puts the text of a plan into place.

    Raises:
        ConfigError: DVC refuses the new pipeline; the former one is back.
        EnvironmentFailure: the file was changed meanwhile, or cannot be written.
    """
    if read_text(root) != plan.before:
        raise EnvironmentFailure(
            "was changed meanwhile, so nothing was written", where=DVC_FILE, fix="try again"
        )
    _replace(root / DVC_FILE, plan.after)
    try:
        load_pipeline(root)
    except ForebearError:
        _replace(root / DVC_FILE, plan.before)
        raise


def _replace(file: Path, text: str) -> None:
    target = file.resolve()  # a link stays one
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(target.stat().st_mode & 0o7777)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFailure(f"cannot be written: {error.strerror}", where=str(file)) from error
