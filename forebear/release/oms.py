"""Signatures in the OpenSSF model-signing format over the files of a checkpoint.

That project's own library walks and digests the files; what it would sign is signed here by
whatever holds the owner's key, which the library's own signers (a key file, one kind of token)
could not. Files are digested one by one (never in shards, whose digests match nothing else) and
nothing is ignored, git's own files included. The library meets us here and nowhere else.

Rests on: OpenSSF model-signing v1.0; provenance page, section 7, "OMS".
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, MissingExtra
from forebear.formats.statement import Statement

PREDICATE = "https://model_signing/signature/v1.0"


def model_statement(folder: Path) -> Statement:
    """What a model signature claims: name and SHA-256 of every file of a checkpoint.

    The subject's digest is that of the files' digests in order; it is not our tree digest.

    Args:
        folder: the checkpoint; it is not written to.

    Raises:
        MissingExtra: model-signing is not installed.
        EnvironmentFailure: the library refuses the folder.
    """
    hashing = _import("hashing")
    try:
        # links lead into DVC's cache, as attest has made sure; a packed release has none
        manifest = _every_file(hashing).set_allow_symlinks(True).hash(folder)
    except (ValueError, OSError, TypeError) as error:
        raise EnvironmentFailure(f"model-signing refuses it: {error}", where=str(folder)) from error
    digests = hashlib.sha256()
    resources = []
    for resource in manifest.resource_descriptors():
        digests.update(resource.digest.digest_value)
        resources.append(
            {
                "algorithm": resource.digest.algorithm,
                "digest": resource.digest.digest_hex,
                "name": resource.identifier,
            }
        )
    return Statement(
        subjects=((manifest.model_name, digests.hexdigest()),),
        predicate_type=PREDICATE,
        predicate={
            "resources": resources,
            "serialization": {**manifest.serialization_type, "allow_symlinks": False},
        },
    )


def sign_with(folder: Path, configure: Callable[[Any], Any]) -> bytes:
    """A signature made by a signer of the library itself.

    Args:
        folder: the checkpoint; it is not written to.
        configure: takes the library's ``signing.Config`` and returns it with a signer.

    Raises:
        MissingExtra: model-signing is not installed.
        EnvironmentFailure: the library refuses the folder or the signer.
    """
    signing, hashing = _import("signing"), _import("hashing")
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "model.sig"
        try:
            config = configure(signing.Config())
            config.set_hashing_config(_every_file(hashing)).sign(folder, target)
        except (ValueError, OSError, TypeError) as error:
            raise EnvironmentFailure(
                f"model-signing refuses it: {error}", where=str(folder)
            ) from error
        return target.read_bytes()


def _every_file(hashing: Any) -> Any:
    """The library's settings for one SHA-256 per file, no file left out."""
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)


def _import(name: str) -> Any:
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise MissingExtra("sign", "signing a checkpoint") from error
    return {"hashing": hashing, "signing": signing}[name]
