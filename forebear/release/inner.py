"""The attest stage's own process: everything that the owner's key meets, from params to release.

Our pipeline starts it as ``stages.attest``; a foreign repository, which has no ``stages``, as
``python -I -m forebear attest --inner``. Terms come from section ``attest`` of the params that the
recorder hands over, so the values used are the values signed. Refuses unknown and malformed keys,
all faults in one message.

Rests on: provenance page, sections 4 and 7.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.formats import strictjson
from forebear.pipeline import load_workspace
from forebear.release.attest import Terms, attest
from forebear.release.owner import load_owner_from_environment
from forebear.signing.keyring import load_recorders
from forebear.signing.keys import default_directory

PARAMS_ENV = "FOREBEAR_PARAMS"
SECTION = "attest"
# The one key of a section that is no term: rules set aside, read by the documents.
_NO_TERM = "allow"


def attest_workspace(
    root: Path, terms: Terms, *, gate: str | None, documents: str | None, release: str
) -> None:
    """Signs the release of the repository at ``root`` with the user's owner key.

    Args:
        root: the DVC root.
        terms: what the owner decides.
        gate: folder of ``gate.json``, relative to the root; None for a pipeline without a gate.
        documents: folder of ``documents.json``, relative to the root; None when there are none.
        release: folder to write, relative to the root.

    Raises:
        ForebearError: see ``attest`` and ``load_owner_from_environment``.
    """
    workspace = load_workspace(root)
    attest(
        root,
        workspace.pipeline,
        load_owner_from_environment(),
        recorders=load_recorders(root, default_directory()),
        gate=gate,
        documents=documents,
        release=release,
        terms=terms,
        cache_dir=workspace.cache_dir,
    )


def read_terms() -> Terms:
    """Terms in the params that the recorder hands over; the defaults when it hands over none.

    Raises:
        EnvironmentFailure: the file cannot be read.
        ConfigError: the section does not hold; one line for each fault.
        FormatError: the file is no JSON.
    """
    named = os.environ.get(PARAMS_ENV)
    if not named:
        return Terms()
    try:
        data = Path(named).read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"cannot be read: {error.strerror}", where=named) from error
    value = strictjson.parse(data, where=PARAMS_ENV)
    section = value.get(SECTION, {}) if isinstance(value, dict) else None
    if not isinstance(section, dict):
        raise ConfigError("must be a mapping", where=f"params.yaml: {SECTION}")
    return parse_terms(section)


def parse_terms(section: Mapping[str, Any]) -> Terms:
    """Terms in a section of the params.

    Raises:
        ConfigError: an unknown key or a value that cannot be; one line for each fault.
    """
    from pydantic import ValidationError  # 80 ms

    from forebear.release.termsfile import WrittenTerms

    try:
        written = WrittenTerms.model_validate(
            {key: value for key, value in section.items() if key != _NO_TERM}
        )
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError(
            "\n".join([f"{len(lines)} fault(s)", *lines]), where=f"params.yaml: {SECTION}"
        ) from error
    return written.terms()
