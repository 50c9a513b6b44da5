"""Upstream's own signature over a model's files, in the OpenSSF model-signing format.

A signature says something only together with who must have made it, so the params name the signer.
A repository that carries ``model.sig`` while nobody is named is refused, and so is one that lacks
it while somebody is: else an attacker could leave out what does not verify.

Rests on: OpenSSF model-signing v1.0, through its own library.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forebear.errors import ConfigError, FormatError, MissingExtra
from forebear.train.stage import scratch_dir

NAME = "model.sig"
ABSENT = "absent"
RULE = "upstream-signature"


class Signer(BaseModel):
    """Who must have signed the model: a key, or an identity with the issuer that vouches for it.

    Attributes:
        public_key: PEM text of an elliptic-curve key.
        identity: as a Sigstore certificate names it, such as an e-mail address.
        issuer: the OpenID Connect issuer of that identity.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    public_key: str | None = Field(default=None, pattern="-----BEGIN PUBLIC KEY-----")
    identity: str | None = Field(default=None, min_length=3)
    issuer: str | None = Field(default=None, pattern="^https://")

    @model_validator(mode="after")
    def _one_kind(self) -> Signer:
        by_name = self.identity is not None and self.issuer is not None
        if (self.public_key is None) == (not by_name) or (self.identity is None) != (
            self.issuer is None
        ):
            raise ValueError("needs either public_key, or identity and issuer")
        return self

    def __str__(self) -> str:
        if self.public_key is not None:
            digest = hashlib.sha256(self.public_key.strip().encode()).hexdigest()
            return f"the key with PEM digest {digest[:16]}"
        return f"{self.identity} ({self.issuer})"


def check_signature(folder: Path, signer: Signer | None, *, allowed: bool) -> str:
    """What is known of the signature over ``folder``: absent, verified by whom, or not verified.

    Args:
        folder: the model's files as they came, every one of them.
        signer: who must have signed; None when the params name nobody.
        allowed: the params set aside that somebody must be named.
    Raises:
        ConfigError: there is a signature and nobody is named.
        FormatError: the signature does not hold, or is missing.
        MissingExtra: model-signing is not installed.
    """
    if not (folder / NAME).is_file():
        if signer is None:
            return ABSENT
        raise FormatError(
            f"carries no {NAME}, but the params say that {signer} signed it",
            where=folder.name,
            fix="fetch it from where it is signed, or remove base.signer",
        )
    if signer is None:
        if allowed:
            return "present, not verified"
        raise ConfigError(
            f"the model carries {NAME}, but nobody is named who must have signed it",
            where="params.yaml: base.signer",
            fix=f"name the publisher's key or identity, or add to base.allow: "
            f"{{rule: {RULE}, reason: …, by: …}}",
        )
    with tempfile.TemporaryDirectory(dir=scratch_dir("base")) as view:
        _link_files(folder, Path(view))
        _verify(Path(view), folder / NAME, signer)
    return f"verified by {signer}"


def _verify(view: Path, signature: Path, signer: Signer) -> None:
    try:
        from model_signing import verifying
    except ImportError as error:
        raise MissingExtra("sign", "verifying upstream's signature") from error
    with tempfile.TemporaryDirectory() as keys:
        try:
            _configured(verifying.Config(), signer, Path(keys)).verify(view, signature)
        except Exception as error:  # the library passes on whatever its parsers raise
            raise FormatError(
                f"failed: upstream's signature does not hold: {_first(error)}",
                where=f"{signature.parent.name}/{NAME}",
                fix="fetch the model again; if it still fails, ask its publisher",
            ) from error


def _configured(config: Any, signer: Signer, folder: Path) -> Any:
    if signer.public_key is None:
        return config.use_sigstore_verifier(identity=signer.identity, oidc_issuer=signer.issuer)
    file = folder / "upstream.pem"
    file.write_text(signer.public_key, encoding="utf-8")
    return config.use_elliptic_key_verifier(public_key=file)


def _link_files(folder: Path, view: Path) -> None:
    """The files below ``folder`` as plain files: links into a cache are refused by the library."""
    for file in folder.rglob("*"):
        if not file.is_file() or file == folder / NAME:
            continue
        target = view / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:  # another device
            shutil.copyfile(file, target)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200] or type(error).__name__
