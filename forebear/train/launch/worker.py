"""One of the processes that train together: ``python -m forebear.train.launch.worker JOB``.

Started by a launcher, never by hand. It joins the others, trains, and leaves. What it refuses it
writes into the job's folder of errors, where the stage's own process finds it. It dies with its
launcher, so a killed stage leaves no process behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, ForebearError

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """SIGKILL arrives when the process that started this one ends. Linux only."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent == 1 or os.getppid() != parent:  # it ended before the call
        os._exit(137)


def main() -> int:
    """Runs the job that the first argument names; its exit code."""
    die_with_parent()
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_bytes())
    try:
        _train(job)
    except ForebearError as error:
        _tell(Path(job["errors"]), error)
        return error.exit_code
    except OSError as error:
        refusal = EnvironmentFailure(str(error.strerror or error), where=str(error.filename or ""))
        _tell(Path(job["errors"]), refusal)
        return refusal.exit_code
    return 0


def _train(job: dict[str, Any]) -> None:
    from forebear.train import world
    from forebear.train.cpt_params import CptParams
    from forebear.train.cpt_run import Places, train_process
    from forebear.train.runtime import configure

    configure(job["seed"])
    world.join()
    params = CptParams.model_validate_json(json.dumps(job["params"]))
    places = Places(**{name: Path(path) for name, path in job["places"].items() if path})
    train_process(params, places, scratch=Path(job["scratch"]), seed=job["seed"])
    world.leave()


def _tell(folder: Path, error: ForebearError) -> None:
    """Leaves the error for the stage's process, under this one's number."""
    told = {
        "type": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "fix": error.fix,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{int(os.environ.get('RANK', '0')):06d}.json"
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(told), encoding="utf-8")
    partial.rename(file)


if __name__ == "__main__":
    raise SystemExit(main())
