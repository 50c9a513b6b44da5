"""The tiny release of ``tests.support.release``, its statements signed by a loopback instance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forebear.release.attest import Terms, attest
from forebear.release.owner import KeyOwner
from forebear.release.owner_sigstore import SigstoreOwner
from forebear.signing.policy import Identity, TrustPolicy
from tests.support.loopback_sigstore import Loopback
from tests.support.release import Simulated, build_repository

ME = "release@example.org"


@dataclass(frozen=True)
class Keyless:
    """A release by an identity, and the instance that signed it.

    Attributes:
        built: the release; its owner's key signed the layout.
        instance: served no longer, but its keys are there.
        rekor: which log: 1 or 2.
        trusted_root: what an auditor has of the instance.
        trust_config: what a signer has of it.
    """

    built: Simulated
    instance: Loopback
    rekor: int
    trusted_root: Path
    trust_config: Path

    @property
    def me(self) -> Identity:
        """Who signed."""
        return Identity(ME, self.instance.issuer)

    @property
    def policy(self) -> TrustPolicy:
        """An auditor who knows the identity and no key."""
        return TrustPolicy(identities=(self.me,), trusted_root=self.trusted_root)


def write_trust(folder: Path, instance: Loopback, rekor: int) -> tuple[Path, Path]:
    """Files of the trusted root and of the client trust config."""
    folder.mkdir(parents=True, exist_ok=True)
    root, config = folder / "trusted_root.json", folder / "trust_config.json"
    root.write_text(json.dumps(instance.trusted_root()))
    config.write_text(json.dumps(instance.trust_config(rekor)))
    return root, config


def write_token(folder: Path, instance: Loopback, identity: str = ME, **claims: Any) -> Path:
    """A file with an identity token."""
    file = folder / "token"
    file.write_text(instance.token(identity, **claims))
    return file


def build_keyless_release(folder: Path, instance: Loopback, rekor: int) -> Keyless:
    """A repository in ``folder/repo`` and its release in ``folder/packed``."""
    built = build_repository(folder)
    root, config = write_trust(folder / "sigstore", instance, rekor)
    owner = SigstoreOwner(
        KeyOwner(built.owner, built.owner_file),
        trust_config=config,
        identity_token_file=write_token(folder / "sigstore", instance),
    )
    attest(
        built.repo,
        built.pipeline,
        owner,
        recorders=[built.recorder.public],
        gate="data/eval/verdict",
        documents="cards/documents",
        release="release",
        terms=Terms(),
        now=datetime.now(UTC),
    )
    built.record("attest")
    built.pack()
    return Keyless(built, instance, rekor, root, config)
