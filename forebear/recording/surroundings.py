"""The environment of a stage's command: offline, deterministic, without keys and credentials.

Home, temporary folder and caches are the stage's own, so that nothing comes in or stays behind by
way of them. What belongs to the owner is handed to ``attest`` alone. Variables that are not named
here pass.

Rests on: provenance page, sections 4 and 5.
"""

from __future__ import annotations

import os
import site
from collections.abc import Mapping, Sequence
from pathlib import Path

from forebear.formats.layout import ATTEST
from forebear.recording.runrecord import THREADS_ENV
from forebear.recording.workplace import Workplace

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
# What a person may set for a stage. The first alters bits and is therefore in the link.
PASSED_ON = frozenset({THREADS_ENV, "FOREBEAR_SAVE_EVERY_S"})
OWNERS = frozenset(
    {
        "FOREBEAR_OWNER_KEY",
        "FOREBEAR_OWNER_PUBLIC",
        "FOREBEAR_OWNER_PASSPHRASE_FILE",
        "FOREBEAR_SIGN",
        "FOREBEAR_IDENTITY_TOKEN_FILE",
        "FOREBEAR_TRUST_CONFIG",
    }
)
# With these a build service vouches for who asks: credentials of the owner.
CREDENTIALS = frozenset(
    {
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_RUNTIME_TOKEN",
        "SIGSTORE_ID_TOKEN",
    }
)
# They name places outside the stage's own home, where it can neither read nor write.
_ELSEWHERE = (
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
    "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ASSETS_CACHE", "HF_XET_CACHE", "HF_MODULES_CACHE",
    "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME", "TORCH_EXTENSIONS_DIR",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR",
    "PYTHONPYCACHEPREFIX", "TEMP", "TMP",
)  # fmt: skip


def stage_environment(  # noqa: PLR0913  # by name; each is one thing that a run has
    inherited: Mapping[str, str],
    *,
    stage_name: str,
    place: Workplace,
    scratch: Path,
    params_file: Path,
    search: Sequence[Path],
    network: bool,
    own_home: bool,
    settings: Path | None = None,
) -> dict[str, str]:
    """The whole environment of the command.

    Args:
        inherited: the recorder's.
        stage_name: as declared.
        place: private folders of the run.
        scratch: resume folder.
        params_file: the params in clear.
        search: folders of ``PYTHONPATH``.
        network: the stage declares that it needs the network.
        own_home: the stage gets a home of its own; False for one that reads the user's settings.
        settings: ``XDG_CONFIG_HOME`` for a stage with a home of its own that reads keys.
    """
    owner = stage_name == ATTEST
    dropped = set(CREDENTIALS if not owner else ()) | set(_ELSEWHERE if own_home else ())
    passed = PASSED_ON | (OWNERS if owner else frozenset())
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in dropped and (not name.startswith("FOREBEAR_") or name in passed)
    }
    home = {"HOME": str(place.home)} if own_home else {}
    if own_home and settings is not None:
        home["XDG_CONFIG_HOME"] = str(settings)
    if own_home and site.ENABLE_USER_SITE:
        home["PYTHONUSERBASE"] = site.getuserbase()
    return {
        **kept,
        **home,
        **({} if network else OFFLINE),
        "FOREBEAR_PARAMS": str(params_file),
        "FOREBEAR_SCRATCH": str(scratch),
        "TMPDIR": str(place.tmp),
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(map(str, search)),
    }
