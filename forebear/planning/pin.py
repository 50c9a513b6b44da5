"""The commit that a branch or tag of a hub repository stands for now.

The one thing in planning that opens a connection, and only when a person asks for it.
"""

from __future__ import annotations

from forebear.errors import EnvironmentFailure, MissingExtra


def resolve_commit(repo: str, reference: str, *, endpoint: str | None = None) -> str:
    """40 hex digits of the commit.

    Args:
        repo: as ``organisation/name``.
        reference: branch, tag or commit.
        endpoint: address of another hub; the client's own default when left out.

    Raises:
        EnvironmentFailure: no network, no access, or no such repository or reference.
        MissingExtra: the hub's client is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise MissingExtra("train", "asking the hub") from None
    try:
        found = HfApi(endpoint=endpoint).model_info(repo, revision=reference).sha
    except (OSError, HFValidationError) as error:  # its HTTP errors are OSErrors
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EnvironmentFailure(
            f"the hub has no answer for {reference!r}: {first[:200]}",
            where=f"hub: {repo}",
            fix="check name and network; a gated repository needs HF_TOKEN",
        ) from error
    if not found:
        raise EnvironmentFailure("the hub names no commit", where=f"hub: {repo}")
    return found
