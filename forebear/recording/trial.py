"""Tries on an empty command what confinement this machine gives, and what it costs.

For ``doctor`` and the benchmark: nothing is recorded, nothing is read but the system's folders.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from forebear.recording.confine import Asked, ConfinementReport, Fence
from forebear.recording.observe import tracer
from forebear.recording.openings import system_openings

_PROGRAM = "/usr/bin/env"


def try_confinement(asked: Asked = "enforce") -> tuple[ConfinementReport, float]:
    """The report of a trial run, and the seconds from making the fence to the command's end.

    Raises:
        OSError: not even the trial command can be started.
    """
    with tempfile.TemporaryDirectory() as private:
        started = time.perf_counter()
        fence = Fence(system_openings(Path(private)), asked=asked)
        try:
            if not fence.enforced and asked != "off":
                fence.tracer = tracer(Path(private, "trace"))
            while True:
                fence.before_start()
                process = subprocess.Popen(
                    fence.words([_PROGRAM, "true"]),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    preexec_fn=fence.enter,  # noqa: PLW1509  # nothing is imported there
                )
                begun = fence.started()
                process.wait()
                if begun:
                    break
            # the hook needs nothing of the machine
            return fence.report(observed=asked != "off"), time.perf_counter() - started
        finally:
            fence.close()
