"""Signs a stage's link anew with the recorder's present key, after a rotation.

The payload stays as it is, byte for byte; only the signature becomes another. Refuses unless the
old signature is a known recorder's and everything that the link says is still so: command and
params as declared now, every dep and every out by its bytes on disk, read again. On any refusal or
failure the old link stays.

Rests on: provenance page, section 2, "Rotation".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forebear.errors import EnvironmentFailure, FormatError, PolicyError, RecordError
from forebear.formats import link, strictjson
from forebear.formats.dsse import Envelope, parse_envelope
from forebear.pipeline import Stage, inner_argv, link_path, load_workspace
from forebear.recording.artifacts import Hasher
from forebear.recording.sealing import load_recorder, write_link
from forebear.recording.workplace import occupy
from forebear.signing.keys import PublicKey
from forebear.signing.signer import sign_envelope, verify_envelope

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Resigned:
    """What was done.

    Attributes:
        link: path of the link, relative to the root.
        old: id of the key that had signed it.
        new: id of the key that signs it now; equal when nothing was to do.
    """

    link: str
    old: str
    new: str


def resign(stage_name: str, *, root: Path, keys: Path, recorders: Sequence[PublicKey]) -> Resigned:
    """Replaces the signature of the stage's link.

    Args:
        stage_name: as in ``dvc.yaml``.
        root: the DVC root.
        keys: folder of the recorder's key.
        recorders: keys that may have signed the link.

    Raises:
        ConfigError: the stage is not declared.
        FormatError: the link is malformed.
        PolicyError: its signer is no known recorder.
        SignatureError: its signature does not hold.
        RecordError: something is no longer as the link says.
        EnvironmentFailure: there is no link, no key, or another recorder of the stage.
    """
    root = root.absolute()
    workspace = load_workspace(root)
    stage = workspace.pipeline.stage(stage_name)
    path = link_path(stage)
    with occupy(root, stage_name):
        envelope = _read(root, path, recorders)
        signed = link.parse_link(envelope.payload, where=path)
        faults = [
            *_declaration_faults(signed, stage),
            *_disk_faults(signed, stage, Hasher(root, workspace.cache_dir, None)),
        ]
        if faults:
            raise RecordError(
                "is not signed anew, since it no longer says what is so\n"
                + "\n".join(f"  {fault}" for fault in _shortened(faults)),
                where=path,
                fix=f"run the stage again: dvc repro --single-item --force {stage_name}",
            )
        signer = load_recorder(keys)
        if signer.keyid not in {key.keyid for key in recorders}:
            raise PolicyError(
                f"the recorder's key {signer.keyid:.8} is not among the known ones", str(keys)
            )
        if signer.keyid != envelope.keyid:
            _write(root / path, sign_envelope(signer, envelope.payload, link.PAYLOAD_TYPE))
    return Resigned(path, envelope.keyid, signer.keyid)


def _read(root: Path, path: str, recorders: Sequence[PublicKey]) -> Envelope:
    try:
        data = (root / path).read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"there is no link to sign anew: {error.strerror}", where=path, fix="dvc checkout"
        ) from error
    envelope = parse_envelope(data, where=path)
    if envelope.payload_type != link.PAYLOAD_TYPE:
        raise FormatError("the payload is no link", path)
    for key in recorders:
        if key.keyid == envelope.keyid:
            verify_envelope(envelope, key)
            return envelope
    raise PolicyError(
        f"is signed by key {envelope.keyid:.8}, which is no known recorder",
        path,
        "put its public key into trust/recorders, if it is one of yours",
    )


def _declaration_faults(signed: link.Link, stage: Stage) -> Iterator[str]:
    if signed.name != stage.name:
        yield f"it is the link of stage {signed.name!r}"
    if signed.byproducts.get("return-value") != 0:
        yield f"the command returned {signed.byproducts.get('return-value')!r}"
    if signed.command != inner_argv(stage):
        yield "the command is not the one that dvc.yaml declares now"
    record = signed.byproducts.get("forebear")
    text = record.get("params_json") if isinstance(record, dict) else None
    if text != strictjson.canonical(dict(stage.params)).decode():
        yield "the params are not the ones that params.yaml holds now"


def _disk_faults(signed: link.Link, stage: Stage, hasher: Hasher) -> Iterator[str]:
    read = {
        **hasher.hash_deps(stage.deps).digests,
        f"{link.CMD}{stage.name}": link.command_digest(inner_argv(stage)),
        f"{link.PARAMS}{stage.name}": link.params_digest(stage.params),
    }
    own = link_path(stage)
    wrote = hasher.hash_outs([out.path for out in stage.outs if out.path != own]).digests
    for name in _differing(signed.materials, read):
        yield f"{name} is not what the stage read"
    for name in _differing(signed.products, wrote):
        yield f"{name} is not what the stage wrote"


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _shortened(faults: Sequence[str]) -> list[str]:
    more = len(faults) - _SHOWN
    return [*faults[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _write(file: Path, data: bytes) -> None:
    try:
        write_link(file, data)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be written, so the old link stays: {error.strerror}", where=str(file)
        ) from error
