"""Releases signed by identities: they pass by Rekor v1 and v2, and each row of section 13 fails."""

from __future__ import annotations

import random
import re
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.errors import ForebearError
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.statement import Bundle, key_hint, parse_bundle, render_bundle
from forebear.signing.keys import create_key, load_public, load_signer
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import sign_envelope
from forebear.verify.result import CORE, Failed, Unchecked
from forebear.verify.trust import SignedBy, signer_of
from tests.support.loopback_sigstore import Loopback, serve
from tests.support.release import build_release
from tests.support.sigstore_release import Keyless, build_keyless_release
from tests.tamper.case import failed, status
from tests.tamper.rows_sigstore import (
    FORMS_AND_BUNDLES,
    GATE,
    PROVENANCE,
    RELEASE,
    ROWS,
    KeylessCase,
    SigstoreRow,
)

pytest.importorskip("sigstore")
N_FLIPS = 400
N_RELEASE_FLIPS = 40


@pytest.fixture(scope="session")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Keyless]:
    """A release for each version of the log, all by one instance, which runs no longer."""
    made = {}
    with serve(Loopback()) as instance:
        for rekor in (1, 2):
            folder = tmp_path_factory.mktemp(f"rekor{rekor}")
            made[rekor] = build_keyless_release(folder, instance, rekor)
    return made


@pytest.fixture
def case(keyless: dict[int, Keyless], tmp_path: Path, rekor: int) -> KeylessCase:
    folder = tmp_path / "packed"
    shutil.copytree(keyless[rekor].built.packed, folder)
    return KeylessCase(folder, keyless[rekor], keyless[rekor].policy)


@pytest.fixture(params=[1, 2], ids=["rekor1", "rekor2"])
def rekor(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("verification opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_sockets")
def test_a_release_of_an_identity_passes_offline_without_any_key(case: KeylessCase) -> None:
    report = case.verify()
    assert not failed(report), report.to_json()
    assert all(status(report, check) == "passed" for check in (*CORE, "C8", "C9"))


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize(
    ("row", "rekor"),
    [(row, rekor) for row in ROWS for rekor in row.rekor],
    ids=[f"{row.id}-{row.change.__name__}-rekor{rekor}" for row in ROWS for rekor in row.rekor],
)
def test_a_change_fails_c8(row: SigstoreRow, case: KeylessCase) -> None:
    row.change(case)
    report = case.verify(FORMS_AND_BUNDLES)
    assert status(report, "C1") == "passed", report.to_json()
    verdict = next(result.verdict for result in report.results if result.id == "C8")
    assert isinstance(verdict, Failed)
    assert not verdict.internal, report.to_json()
    if not row.id.startswith("54"):
        assert {finding.path for finding in verdict.findings} == {GATE}
    assert case.verify().exit_code() == 1


def test_signing_anew_by_the_same_identity_passes_c8(case: KeylessCase) -> None:
    """The twin of every row that forges: an honest second signature is as good as the first."""
    case.forge()
    assert status(case.verify(FORMS_AND_BUNDLES), "C8") == "passed"


@pytest.mark.parametrize("rekor", [1])
def test_a_second_source_of_time_passes_c8(case: KeylessCase) -> None:
    """The twin of the rows that add a foreign time stamp beside the log's promise."""
    from tests.tamper.rows_sigstore import signature, stamps

    stamps(case, case.instance.tsa.stamp(signature(case)))
    assert status(case.verify(FORMS_AND_BUNDLES), "C8") == "passed"


@pytest.mark.parametrize("path", [RELEASE, PROVENANCE])
def test_every_byte_of_a_bundle_counts(case: KeylessCase, path: str) -> None:
    """No flip of a bit leaves a bundle with a known signer; time stamps are judged by the next."""
    data = (case.folder / path).read_bytes()
    assert isinstance(signer_of(data, case.policy, where=path), SignedBy)
    stamp = re.search(rb'"signedTimestamp":"[^"]*"', data)
    inside = range(*stamp.span()) if stamp else range(0)
    draw = random.Random(case.keyless.rekor)  # noqa: S311  # to be repeated, not to be secret
    for _ in range(N_FLIPS):
        changed, at = flip_somewhere(data, draw)
        if at in inside:
            continue
        try:
            signer = signer_of(changed, case.policy, where=path)
        except ForebearError:
            continue
        assert not isinstance(signer, SignedBy), f"byte {at} is vouched for by nobody"


def test_no_random_byte_flip_passes(case: KeylessCase) -> None:
    draw = random.Random(20)  # noqa: S311  # as above
    files = [file for file in sorted(case.folder.rglob("*")) if file.is_file()]
    files = [file for file in files if file.stat().st_size]
    release = case.folder / RELEASE  # nothing but the link of attest covers it
    for turn in range(N_RELEASE_FLIPS):
        file = release if turn % 2 else draw.choice(files)
        data = file.read_bytes()
        changed, at = flip_somewhere(data, draw)
        file.write_bytes(changed)
        report = case.verify()
        assert failed(report), f"a flip at byte {at} of {file.name} passes"
        assert report.exit_code() == 1
        file.write_bytes(data)


def flip_somewhere(data: bytes, draw: random.Random) -> tuple[bytes, int]:
    """The bytes with one bit changed, and where."""
    at, bit = draw.randrange(len(data)), draw.randrange(8)
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed), at


# ── who is trusted ─────────────────────────────────────────────────────────────────────────────


def test_the_owners_key_alone_trusts_no_identity(case: KeylessCase) -> None:
    case.policy = TrustPolicy(owner_keys=(load_public(case.keyless.built.owner_pub),))
    report = case.verify()
    assert {"C8", "C9"} <= failed(report)
    assert status(report, "C2") == "passed"


def test_an_exchanged_owner_key_fails_c2(case: KeylessCase, tmp_path: Path) -> None:
    """The statement vouches for the key by its digest, not for whatever lies under its name."""
    private, public = create_key("owner", tmp_path / "evil", None)
    evil = load_signer(private)
    layout = case.folder / "root.layout"
    old = parse_envelope(layout.read_bytes(), where="layout")
    layout.write_bytes(sign_envelope(evil, old.payload, old.payload_type))
    (case.folder / "owner.pub").write_bytes(public.read_bytes())
    assert "C2" in failed(case.verify())


def test_only_a_release_statement_vouches_for_a_key(case: KeylessCase) -> None:
    value = case.read(RELEASE)
    payload = parse_bundle(strictjson.dumps(value), where=RELEASE).envelope.payload
    statement = strictjson.parse(payload, where=RELEASE)
    statement["predicateType"] = "https://example.org/other"
    case.forge_payload(RELEASE, strictjson.dumps(statement))
    report = case.verify()
    assert {"C2", "C8"} <= failed(report)


def test_a_release_statement_that_names_no_key_vouches_for_none(case: KeylessCase) -> None:
    payload = parse_bundle((case.folder / RELEASE).read_bytes(), where=RELEASE).envelope.payload
    statement = strictjson.parse(payload, where=RELEASE)
    statement["subject"] = [one for one in statement["subject"] if one["name"] != "owner.pub"]
    case.forge_payload(RELEASE, strictjson.dumps(statement))
    report = case.verify()
    assert "C2" in failed(report)
    assert "C8" not in failed(report)


def test_a_revoked_key_is_not_vouched_for(case: KeylessCase) -> None:
    owner = case.keyless.built.owner.keyid
    case.policy = replace(case.policy, revoked_keyids=frozenset({owner}))
    assert "C2" in failed(case.verify())


def test_a_statement_of_the_vouched_key_counts_unless_sigstore_is_required(
    case: KeylessCase,
) -> None:
    built = case.keyless.built
    payload = parse_bundle((case.folder / GATE).read_bytes(), where=GATE).envelope.payload
    envelope = sign_envelope(built.owner, payload, "application/vnd.in-toto+json")
    bundle = Bundle(parse_envelope(envelope, where=GATE), key_hint(built.owner.public.pem))
    (case.folder / GATE).write_bytes(render_bundle(bundle))
    assert status(case.verify(FORMS_AND_BUNDLES), "C8") == "passed"
    case.policy = replace(case.policy, require_sigstore=True)
    report = case.verify(FORMS_AND_BUNDLES)
    assert status(report, "C8") == "failed"
    assert GATE in str(report.to_json())


def test_requiring_sigstore_passes_where_all_is_signed_so_and_fails_by_a_key(
    case: KeylessCase, tmp_path: Path
) -> None:
    case.policy = replace(case.policy, require_sigstore=True)
    assert not failed(case.verify())
    built = build_release(tmp_path / "key")
    case.folder = built.packed
    case.policy = replace(case.policy, owner_keys=(load_public(built.owner_pub),))
    assert {"C8", "C9"} <= failed(case.verify())


def test_a_broken_trusted_root_fails_and_breaks_nothing_down(
    case: KeylessCase, tmp_path: Path
) -> None:
    for text in ("{}", "[", '{"mediaType":"x"}', "\xff"):
        (tmp_path / "root.json").write_text(text, encoding="latin-1")
        case.policy = replace(case.policy, trusted_root=tmp_path / "root.json")
        for result in case.verify().results:
            assert not getattr(result.verdict, "internal", False), (text, result)
            assert result.id not in {"C2", "C8", "C9"} or isinstance(result.verdict, Failed)
    (tmp_path / "root.json").unlink()
    assert {"C2", "C8", "C9"} <= failed(case.verify())


def test_without_the_library_nothing_is_believed_and_nothing_blamed(
    case: KeylessCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    report = case.verify()
    assert not failed(report), report.to_json()
    for result in report.results:
        if result.id in {"C2", "C8", "C9"}:
            assert isinstance(result.verdict, Unchecked)
            assert "sign" in result.verdict.reason
    case.change(lambda material: material["tlogEntries"][0]["inclusionProof"].pop("hashes"))
    assert "C1" in failed(case.verify())
