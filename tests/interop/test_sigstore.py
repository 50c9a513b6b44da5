"""Stock Sigstore tools on a release that an identity signed: they pass, and fail on a change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.loopback_sigstore import Loopback, serve
from tests.support.release import CHECKPOINT, WEIGHTS
from tests.support.sigstore_release import ME, Keyless, build_keyless_release

pytest.importorskip("sigstore")
pytest.importorskip("model_signing")
BINARIES = Path(sys.executable).parent
PROVENANCE = f"attestations/{CHECKPOINT}/provenance.sigstore.json"


@dataclass(frozen=True)
class Shop:
    """A copy of a packed release, and how to ask stock tools about it."""

    folder: Path
    keyless: Keyless

    def sigstore(
        self, bundle: str, file: str, *, identity: str = ME, issuer: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self._run(
            "sigstore", "--trust-config", str(self.keyless.trust_config), "verify", "identity",
            "--offline", "--bundle", bundle, "--cert-identity", identity,
            "--cert-oidc-issuer", issuer or self.keyless.me.issuer, file,
        )  # fmt: skip

    def model_signing(
        self, *, identity: str = ME, issuer: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self._run(
            "model_signing", "verify", "sigstore", CHECKPOINT,
            "--signature", f"attestations/{CHECKPOINT}/model.sig",
            "--trust_config", str(self.keyless.trust_config),
            "--identity", identity, "--identity_provider", issuer or self.keyless.me.issuer,
        )  # fmt: skip

    def _run(self, tool: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BINARIES / tool), *words],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor1", "rekor2"])
def keyless(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Keyless:
    with serve(Loopback()) as instance:
        folder = tmp_path_factory.mktemp("keyless")
        return build_keyless_release(folder, instance, request.param)


@pytest.fixture
def shop(keyless: Keyless, tmp_path: Path) -> Shop:
    shutil.copytree(keyless.built.packed, tmp_path / "release")
    return Shop(tmp_path / "release", keyless)


def test_sigstore_accepts_our_bundles_and_no_other_file_or_signer(shop: Shop) -> None:
    done = shop.sigstore(PROVENANCE, WEIGHTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.sigstore("release.sigstore.json", "SHA256SUMS").returncode == 0
    assert shop.sigstore(PROVENANCE, "SHA256SUMS").returncode != 0
    assert shop.sigstore(PROVENANCE, WEIGHTS, identity=ME[:-1]).returncode != 0
    assert shop.sigstore(PROVENANCE, WEIGHTS, issuer="https://example.org").returncode != 0


def test_sigstore_fails_on_one_changed_byte(shop: Shop) -> None:
    data = bytearray((shop.folder / WEIGHTS).read_bytes())
    data[50] ^= 1
    (shop.folder / WEIGHTS).write_bytes(data)
    assert shop.sigstore(PROVENANCE, WEIGHTS).returncode != 0


def test_model_signing_accepts_our_signature_and_no_other_signer(shop: Shop) -> None:
    done = shop.model_signing()
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.model_signing(identity="other@example.org").returncode != 0
    assert shop.model_signing(issuer="https://example.org").returncode != 0


def test_model_signing_fails_on_one_changed_byte(shop: Shop) -> None:
    data = bytearray((shop.folder / WEIGHTS).read_bytes())
    data[50] ^= 1
    (shop.folder / WEIGHTS).write_bytes(data)
    assert shop.model_signing().returncode != 0


def test_in_toto_verify_is_content_with_the_owners_key(shop: Shop) -> None:
    done = shop._run(
        "in-toto-verify", "--layout", "root.layout", "--verification-keys", "owner.pub",
        "--link-dir", "links", "--inspection-timeout", "60",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_stock_tools_pass_what_only_we_refuse(shop: Shop) -> None:
    """Why C1 and C8 look closer: a repeated key, and an index that nothing vouches for."""
    file = shop.folder / PROVENANCE
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"mediaType":', b'"mediaType":"x","mediaType":', 1))
    assert shop.sigstore(PROVENANCE, WEIGHTS).returncode == 0
    value = json.loads(data)
    if shop.keyless.rekor == 2:
        value["verificationMaterial"]["tlogEntries"][0]["logIndex"] = "999999"
        file.write_bytes(json.dumps(value).encode())
        assert shop.sigstore(PROVENANCE, WEIGHTS).returncode == 0


def test_our_command_passes_by_a_policy_that_names_the_identity_alone(shop: Shop) -> None:
    policy = shop.folder.with_name("policy.yaml")
    text = (
        f"identities:\n  - identity: {{}}\n    issuer: {shop.keyless.me.issuer}\n"
        f"trusted_root: {shop.keyless.trusted_root}\n"
    )
    policy.write_text(text.format(ME))
    done = shop._run("forebear", "verify", str(shop.folder), "--trust", str(policy))
    assert done.returncode == 0, done.stdout + done.stderr
    policy.write_text(text.format(f"x{ME}"))
    done = shop._run("forebear", "verify", str(shop.folder), "--trust", str(policy))
    assert done.returncode == 1
    assert ME in done.stdout + done.stderr
