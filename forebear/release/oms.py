"""Signatures in the OpenSSF model-signing format, made by that project's own library.

Files are digested one by one (never in shards, whose digests match nothing else) and nothing is
ignored, git's own files included. The library meets us here and nowhere else.

Rests on: provenance page, section 7, "OMS".
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, MissingExtra


def sign_model(folder: Path, key_file: Path, passphrase: bytes | None) -> bytes:
    """The signature file (a Sigstore bundle) over every file of a checkpoint.

    Args:
        folder: the checkpoint; it is not written to.
        key_file: the owner's private key.
        passphrase: of the key; None when it is not encrypted.

    Raises:
        MissingExtra: model-signing is not installed.
        EnvironmentFailure: the library refuses the folder or the key.
    """
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise MissingExtra("sign", "signing a checkpoint") from error
    files: Any = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    files = files.set_ignored_paths(paths=[], ignore_git_paths=False)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "model.sig"
        try:
            config = signing.Config().use_elliptic_key_signer(
                private_key=key_file, password=passphrase
            )
            config.set_hashing_config(files).sign(folder, target)
        except (ValueError, OSError, TypeError) as error:
            raise EnvironmentFailure(
                f"model-signing refuses it: {error}", where=str(folder)
            ) from error
        return target.read_bytes()
