"""Every parser of untrusted bytes, as a function of the bytes alone.

A target returns when the bytes parse or when the parser refuses them with one of our own errors;
anything else that it raises is a finding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from forebear.errors import ForebearError
from forebear.evidence.archive import unpack
from forebear.evidence.sums import parse_sums
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.layout import parse_layout
from forebear.formats.link import parse_link
from forebear.formats.pathrule import require_path
from forebear.formats.statement import parse_bundle, parse_statement
from forebear.gate.waiver import parse_waiver
from forebear.ledger import parse_intake, parse_kept
from forebear.ledger.proof import parse_descriptor, parse_proof
from forebear.ledger.prove import open_ledger, prove
from forebear.ledger.rowfile import Index
from forebear.pipeline import Pipeline
from forebear.signing.keys import parse_public
from forebear.signing.policyfile import parse_policy
from tests.support.full_release import LEDGER, add_waiver, build_full_release
from tests.support.release import Simulated

Parser = Callable[[bytes], object]

_NOWHERE = Path("/nonexistent")


def _link(data: bytes) -> object:
    return parse_link(parse_envelope(data, where="link").payload, where="link")


def _layout(data: bytes) -> object:
    return parse_layout(parse_envelope(data, where="layout").payload, where="layout")


def _bundle(data: bytes) -> object:
    bundle = parse_bundle(data, where="bundle")
    return parse_statement(bundle.envelope.payload, where="bundle")


def _archive(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        archive, target = Path(folder, "release.tar"), Path(folder, "release")
        archive.write_bytes(data)
        target.mkdir()
        return unpack(archive, target)


def _pipeline(data: bytes) -> object:
    return Pipeline.from_json(strictjson.parse_canonical(data, where="pipeline"), where="pipeline")


TARGETS: dict[str, Parser] = {
    "json": lambda data: strictjson.parse(data, where="file"),
    "envelope": lambda data: parse_envelope(data, where="envelope"),
    "link": _link,
    "link-payload": lambda data: parse_link(data, where="link"),
    "layout": _layout,
    "layout-payload": lambda data: parse_layout(data, where="layout"),
    "bundle": _bundle,
    "statement": lambda data: parse_statement(data, where="statement"),
    "pipeline": _pipeline,
    "manifest": lambda data: parse_sums(data, where="SHA256SUMS"),
    "path": lambda data: require_path(data.decode("utf-8", "surrogateescape")),
    "ledger-kept": lambda data: parse_kept(data, where="kept"),
    "ledger-intake": lambda data: parse_intake(data, where="intake"),
    "ledger-index": lambda data: Index.from_bytes(data, where="index"),
    "ledger-proof": lambda data: parse_proof(data, where="proof"),
    "ledger-root": lambda data: parse_descriptor(data, where="root"),
    "waiver": lambda data: parse_waiver(data, where="mc4.dsse"),
    "public-key": lambda data: parse_public(data, where="owner.pub"),
    "policy": lambda data: parse_policy(data, where="policy.yaml", folder=_NOWHERE),
    "archive": _archive,
}


def accept(name: str, data: bytes) -> bool:
    """Whether the target takes the bytes; False when it refuses them as it should."""
    try:
        TARGETS[name](data)
    except ForebearError:
        return False
    return True


def waived_release(folder: Path) -> Simulated:
    """A release of every kind of file: documents, ledger, results, and a waiver."""
    hard = {"required": {"mc4": {"vs": "base", "min_gain": 0.9}}}  # not reached
    return build_full_release(
        folder,
        params={"eval": hard},
        edit={"eval": add_waiver},
        now=datetime(2026, 1, 20, tzinfo=UTC),
    )


def seeds(built: Simulated) -> Iterator[tuple[str, bytes]]:
    """Valid inputs from a real release, as (target, bytes), for the fuzzer to start from."""
    folder = built.packed
    for file in sorted(folder.glob("links/*.link")):
        data = file.read_bytes()
        payload = parse_envelope(data, where="link").payload
        yield from (("json", data), ("envelope", data), ("link", data), ("link-payload", payload))
    layout = (folder / "root.layout").read_bytes()
    yield "layout", layout
    yield "layout-payload", parse_envelope(layout, where="layout").payload
    for file in sorted(folder.rglob("*.sigstore.json")):
        data = file.read_bytes()
        yield "bundle", data
        yield "statement", parse_bundle(data, where="bundle").envelope.payload
    yield "pipeline", (folder / "pipeline.json").read_bytes()
    yield "manifest", (folder / "SHA256SUMS").read_bytes()
    for path in ("data/sft/checkpoint", "links/measure@base.link", "e\u0301", "a\\b", "../x"):
        yield "path", path.encode()
    ledger = folder / LEDGER
    yield "ledger-kept", (ledger / "kept.jsonl").read_bytes()
    yield "ledger-intake", (ledger / "intake.jsonl").read_bytes()
    yield "ledger-root", (ledger / "root.json").read_bytes()
    with open_ledger(ledger) as opened:
        yield "ledger-index", opened.rows["kept"].index.to_bytes()
        for document in (b"too short\n", b"never seen"):
            yield "ledger-proof", strictjson.dumps(prove(opened, document).to_json())
    for file in folder.rglob("*.dsse"):
        yield "waiver", file.read_bytes()
    public = built.owner_pub.read_bytes()
    yield "public-key", public
    yield "policy", b"owner_keys:\n- |\n  " + public.replace(b"\n", b"\n  ") + b"\nmin_serial: 1\n"
    yield "archive", _small_archive()


def _small_archive() -> bytes:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("SHA256SUMS", "data/é.txt", "x" * 120):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return stream.getvalue()
