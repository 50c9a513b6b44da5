"""Upstream's signature: verified by whom the params name, or the stage stops."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.train.base import BaseParams, build_base
from forebear.train.base_signature import ABSENT, NAME, Signer, check_signature
from forebear.train.stage import validate_section
from tests.unit.train.tiny import write_checkpoint

ALLOW = [
    {"rule": "base-only", "reason": "the tiny tokenizer has a template", "by": "the tests"},
    {"rule": "upstream-signature", "reason": "nobody knows the key yet", "by": "the tests"},
]


def new_key(folder: Path) -> tuple[Path, Signer]:
    """A private key's file, and the signer that the params would name."""
    key = ec.generate_private_key(ec.SECP256R1())
    file = folder / "key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return file, Signer(public_key=public.decode())


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Signer]:
    """A tiny checkpoint signed by its publisher with the format's own library."""
    from model_signing import hashing, signing

    folder = write_checkpoint(tmp_path_factory.mktemp("signed") / "model")
    key, signer = new_key(folder.parent)
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(
        hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    ).sign(folder, folder.parent / NAME)
    shutil.move(folder.parent / NAME, folder / NAME)
    return folder, signer


@pytest.fixture
def model(signed: tuple[Path, Signer], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(signed[0], tmp_path / "model")


def check(folder: Path, signer: Signer | None, *, allowed: bool = False) -> str:
    return check_signature(folder, signer, allowed=allowed)


def build(folder: Path, source: Path, **more: Any) -> dict[str, Any]:
    section = {"source": {"path": str(source)}, "licence": "MIT", "repo": "us/model", **more}
    params = validate_section(BaseParams, "base", {"seed": 7, "base": section})
    assert isinstance(params, BaseParams)
    build_base(
        params, out=folder / "out", facts=folder / "base.json", metrics=folder / "metrics.json"
    )
    facts = strictjson.parse_canonical((folder / "base.json").read_bytes(), where="base.json")
    assert isinstance(facts, dict)
    return facts


def test_a_signature_by_the_named_key_is_verified_and_recorded(
    signed: tuple[Path, Signer], tmp_path: Path
) -> None:
    folder, signer = signed
    facts = build(tmp_path, folder, signer=signer.model_dump(exclude_none=True), allow=ALLOW[:1])
    assert facts["upstream_signature"] == f"verified by {signer}"
    assert str(signer).startswith("the key with PEM digest ")
    assert NAME in facts["files"]


def test_files_that_are_links_into_a_cache_are_verified_too(
    signed: tuple[Path, Signer], tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in signed[0].iterdir():
        (linked / file.name).symlink_to(file)
    assert check(linked, signed[1]).startswith("verified by")


@pytest.mark.parametrize("spoil", ["change", "remove", "add", "cut the signature"])
def test_a_model_that_is_not_what_was_signed_stops_the_stage(
    signed: tuple[Path, Signer], model: Path, spoil: str
) -> None:
    assert check(model, signed[1]).startswith("verified by")
    if spoil == "change":
        config = (model / "config.json").read_bytes()
        (model / "config.json").write_bytes(config.replace(b"32", b"33", 1))
    elif spoil == "remove":
        (model / "tokenizer_config.json").unlink()
    elif spoil == "add":
        (model / "modeling.py").write_text("raise SystemExit")
    else:
        (model / NAME).write_bytes((model / NAME).read_bytes()[:200])
    with pytest.raises(FormatError) as error:
        check(model, signed[1])
    assert error.value.what.startswith("failed: ")
    assert error.value.where == f"model/{NAME}"


def test_a_signature_by_another_key_stops_the_stage_and_leaves_no_checkpoint(
    signed: tuple[Path, Signer], tmp_path: Path
) -> None:
    _, other = new_key(tmp_path)
    with pytest.raises(FormatError) as error:
        build(tmp_path, signed[0], signer=other.model_dump(exclude_none=True), allow=ALLOW)
    assert error.value.what.startswith("failed: ")
    assert not (tmp_path / "out").exists()


def test_a_signature_that_nobody_is_named_for_needs_an_allowance(
    signed: tuple[Path, Signer], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        build(tmp_path, signed[0], allow=ALLOW[:1])
    assert error.value.where == "params.yaml: base.signer"
    assert build(tmp_path, signed[0], allow=ALLOW)["upstream_signature"] == "present, not verified"


def test_a_signature_that_was_left_out_is_noticed(signed: tuple[Path, Signer], model: Path) -> None:
    (model / NAME).unlink()
    assert check(model, None) == ABSENT
    with pytest.raises(FormatError):
        check(model, signed[1])


def test_an_identity_is_handed_to_the_librarys_sigstore_verifier(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_signing import verifying

    asked: list[Any] = []

    class Config:
        def use_sigstore_verifier(self, **options: str) -> Config:
            asked.append(options)
            return self

        def verify(self, folder: Path, signature: Path) -> None:
            asked.append((sorted(file.name for file in folder.iterdir()), signature))

    monkeypatch.setattr(verifying, "Config", Config)
    signer = Signer(identity="models@example.org", issuer="https://accounts.example.org")
    said = check(model, signer)
    assert said == "verified by models@example.org (https://accounts.example.org)"
    names = sorted(file.name for file in model.iterdir() if file.name != NAME)
    assert asked == [
        {"identity": "models@example.org", "oidc_issuer": "https://accounts.example.org"},
        (names, model / NAME),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"identity": "models@example.org"},
        {"public_key": "no key"},
        {"identity": "a@b.org", "issuer": "http://plain.example.org"},
    ],
)
def test_a_signer_is_a_key_or_an_identity_with_its_issuer(values: dict[str, str]) -> None:
    section = {"source": {"path": "x"}, "licence": "MIT", "repo": "us/model", "signer": values}
    with pytest.raises(ConfigError) as error:
        validate_section(BaseParams, "base", {"seed": 7, "base": section})
    assert "base.signer" in error.value.what
