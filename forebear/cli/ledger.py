"""``forebear ledger``: was my document used? Answers with proof, and what follows from it."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forebear.cli.ledgertext import (
    SCHEMAS,
    impact_json,
    impact_lines,
    report_json,
    report_lines,
    root_lines,
    show,
)

if TYPE_CHECKING:
    from forebear.formats.link import Link
    from forebear.ledger.check import Anchor

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_salt_option = click.option(
    "--salt-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="32 secret bytes, raw or as 64 hex digits, for a ledger with salted keys.",
)  # fmt: skip
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
_doc_argument = click.argument("doc", metavar="DOC")
_place_argument = click.argument(
    "place", type=click.Path(path_type=Path), default=Path(), metavar="[PLACE]"
)
_ledger_option = click.option(
    "--ledger", "chosen", metavar="PATH", help="Which ledger of PLACE, when it has several."
)


@click.group(name="ledger", epilog="Example: forebear ledger prove letter.txt RELEASE")
def command() -> None:
    """Was my document used? DOC is a file with its exact bytes, `-`, or sha256:HEX.

    PLACE is a ledger folder, a repository, a release or an archive of one (default: here).
    """


@command.command(epilog="Example: forebear ledger build corpus.jsonl ledger --license CC0-1.0")
@click.argument("documents", type=click.Path(path_type=Path), metavar="DOCUMENTS")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--license", "licence", default="NOASSERTION", show_default=True,
              help="SPDX identifier, for documents whose row names none.")  # fmt: skip
@click.option("--source", help="Name of the source [default: the name of DOCUMENTS].")
@click.option("--split", default="train", show_default=True)
@click.option("--field", default="text", show_default=True, help="Field of a JSON row.")
@_salt_option
@_json_option
def build(
    *, documents: Path, out: Path, licence: str, source: str | None, split: str, field: str,
    salt_file: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Write the ledger folder OUT: a row and a leaf for each of DOCUMENTS, all of them kept.

    DOCUMENTS is a folder (every file below it) or a .jsonl file; read one by one, so size is no
    matter. A JSON row may carry license, source and split of its own.
    """
    from forebear.ledger.build import IntakeRow, LedgerRow, document_key
    from forebear.ledger.documents import Labels, read_documents
    from forebear.ledger.writer import LedgerWriter

    salt = _salt(salt_file)
    labels = Labels(licence, source or documents.stem, split)
    with LedgerWriter(out, salted=salt is not None) as writer:
        for one in read_documents(documents, labels, field=field):
            key, size, its = document_key(one.data, salt), len(one.data), one.labels
            writer.add("kept", LedgerRow(key, size, its.license, its.source, its.split))
            writer.add("intake", IntakeRow(key, size, f"kept:{key}", its.source))
        described = writer.finish()
    show(as_json, {"schema": SCHEMAS["build"], "folder": str(out), "ledger": described},
           [f"wrote {out}", *root_lines(described)])  # fmt: skip
    return 0


@command.command(epilog="Example: forebear ledger root data/curate/ledger")
@_place_argument
@_ledger_option
@_json_option
def root(*, place: Path, chosen: str | None, as_json: bool) -> int:
    """Print roots and counts, computed anew where the rows are here."""
    from forebear.ledger.prove import open_ledger, read_root
    from forebear.ledger.rowfile import TREES

    with _ledger_folder(place, chosen) as folder:
        complete = all((folder / f"{tree}.jsonl").is_file() for tree in TREES)
        if complete:
            open_ledger(folder).__exit__(None, None, None)
        value = dict(read_root(folder).value)
    how = "computed from the rows" if complete else "as root.json says; the rows are not here"
    body = {"schema": SCHEMAS["root"], "ledger": value, "recomputed": complete}
    show(as_json, body, [*root_lines(value), how])
    return 0


@command.command(epilog="Example: forebear ledger prove letter.txt RELEASE --out proof.json")
@_doc_argument
@_place_argument
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the proof here; anyone can check it without the rows.")  # fmt: skip
@_ledger_option
@_salt_option
@_json_option
def prove(
    *, doc: str, place: Path, out: Path | None, chosen: str | None, salt_file: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Say of DOC: never seen, read and dropped (by which filter), or kept; with proof.

    The proof rests on the rows of PLACE as they lie there; `forebear ledger check` holds it
    against a signed root.
    """
    from forebear.formats import strictjson
    from forebear.ledger.build import key_of_digest
    from forebear.ledger.derived import derived_keys
    from forebear.ledger.prove import hints, open_ledger, prove_key, require_salt
    from forebear.ledger.words import answer, verdict

    data, digest = _document(doc)
    salt = _salt(salt_file)
    with _ledger_folder(place, chosen) as folder, open_ledger(folder) as ledger:
        require_salt(ledger.descriptor, salt)
        proof = prove_key(ledger, key_of_digest(digest, salt))
        near = hints(ledger, data, salt) if data is not None else []
        made = sorted(derived_keys(folder, {proof.key}))
    if out is not None:
        _write(out, strictjson.dumps(proof.to_json()))
    said = verdict(proof)
    body = {
        "schema": SCHEMAS["prove"],
        "verdict": said,
        "says": answer(proof),
        "hints": near if said == "never seen" else [],
        "made_from_it": made,
        "proof": proof.to_json(),
    }
    lines = [f"{said}: {doc}", *(f"  {one}" for one in body["says"])]
    lines += [f"  hint, no proof: {one}" for one in body["hints"]]
    if made:
        lines.append(f"  note, no proof: {len(made)} kept texts were made from it")
    lines.append(f"proof written to {out}" if out else "write the proof with --out FILE")
    show(as_json, body, lines)
    return 0


@command.command(epilog="Example: forebear ledger check proof.json --release R --trust owner.pub")
@click.argument("proof", type=click.Path(path_type=Path, dir_okay=False), metavar="PROOF")
@click.option("--root", "roots", multiple=True, metavar="HEX_OR_FILE",
              help="A root that you know to be right, or a root.json.")  # fmt: skip
@click.option("--leaves", type=click.IntRange(2), multiple=True, metavar="N",
              help="Leaves of the tree of each --root HEX, in the same order.")  # fmt: skip
@click.option("--release", type=click.Path(path_type=Path), metavar="PLACE",
              help="A release that is verified, and must name the proof's root.json.")  # fmt: skip
@click.option("--trust", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="With --release: the owner's public key or a trust policy.")  # fmt: skip
@click.option("--document", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The proof must be about these bytes.")  # fmt: skip
@_salt_option
@_json_option
def check(
    *, proof: Path, roots: tuple[str, ...], leaves: tuple[int, ...], release: Path | None,
    trust: Path | None, document: Path | None, salt_file: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Hold PROOF against a root: offline, without rows.

    Exit codes: 0 every claim is proved; 1 a claim does not hold, or the release does not verify;
    3 a claim stayed unchecked.
    """
    from forebear.errors import UsageError
    from forebear.ledger.check import check_proof

    if bool(roots) == (release is not None) or (release is None) != (trust is None):
        raise UsageError("give --root, or --release with --trust", fix="see --help")
    data = _read(proof)
    if release is not None and trust is not None:
        anchor, said = _anchor_in_release(data, proof, release, trust)
    else:
        anchor, said = _anchor(roots, leaves), "the root given"
    report = check_proof(
        data, anchor, document=None if document is None else _read(document),
        salt=_salt(salt_file), where=str(proof),
    )  # fmt: skip
    show(as_json, report_json(report, said), list(report_lines(report, said)))
    return 0 if report.holds else 1 if report.failed else 3


@command.command(epilog="Example: forebear ledger impact letter.txt")
@_doc_argument
@_place_argument
@_salt_option
@_json_option
def impact(*, doc: str, place: Path, salt_file: Path | None, as_json: bool) -> int:
    """Name the checkpoints that saw DOC, and all that was made from them.

    Rests on the links of PLACE and on the outs that lie there; `forebear verify` checks both.
    """
    from forebear.ledger.impact import impact as find_impact

    _, digest = _document(doc)
    with _opened(place) as (folder, links, models):
        found = find_impact(digest, links, folder, salt=_salt(salt_file), models=models)
    show(as_json, impact_json(found), list(impact_lines(doc, found)))
    return 0


# ── places and files ───────────────────────────────────────────────────────────────────────────


@contextmanager
def _opened(place: Path) -> Iterator[tuple[Path, Mapping[str, Link], Collection[str]]]:
    """Where outs lie, the links by stage, and the outs that are checkpoints."""
    from forebear.errors import ForebearError
    from forebear.evidence.store import open_evidence

    if (place / ".dvc").is_dir() and not (place / "root.layout").exists():
        # what lies here now, which may be younger than the last release
        yield place, _repository_links(place), ()
        return
    with open_evidence(place) as evidence:
        models: set[str] = set()
        with suppress(ForebearError):
            models = {
                out.path
                for stage in evidence.pipeline.stages
                for out in stage.outs
                if out.kind == "model"
            }
        links = {name: signed.link for name, signed in evidence.links.items()}
        yield evidence.root, links, models


def _repository_links(place: Path) -> dict[str, Link]:
    from forebear.formats.dsse import parse_envelope
    from forebear.formats.link import parse_link

    links = {}
    for file in sorted((place / "links").glob("*.link")):
        link = parse_link(parse_envelope(_read(file), where=str(file)).payload, where=str(file))
        links[link.name] = link
    return links


@contextmanager
def _ledger_folder(place: Path, chosen: str | None) -> Iterator[Path]:
    """The one ledger folder that PLACE is or holds."""
    from forebear.errors import UsageError
    from forebear.ledger.outs import ledger_roots

    if (place / "root.json").is_file():
        yield place
        return
    with _opened(place) as (folder, links, _):
        known = [path.removesuffix("/root.json") for _, path, _ in ledger_roots(links)]
        here = [path for path in known if (folder / path / "root.json").is_file()]
        wanted = [path for path in here if chosen in {None, path}]
        if len(wanted) != 1:
            raise UsageError(
                "there is no ledger here" if not wanted else "there are several ledgers here",
                str(place),
                f"choose one with --ledger: {', '.join(here)}" if here
                else "a release ships its ledger only when its owner wants to: ask for a proof, "
                "and check it with `forebear ledger check`",
            )  # fmt: skip
        yield folder / wanted[0]


def _document(doc: str) -> tuple[bytes | None, bytes]:
    """The document's bytes, when they are here, and its SHA-256."""
    match = _DIGEST.fullmatch(doc)
    if match is not None and not Path(doc).exists():
        return None, bytes.fromhex(match[1])
    data = sys.stdin.buffer.read() if doc == "-" else _read(Path(doc))
    return data, hashlib.sha256(data).digest()


def _read(file: Path) -> bytes:
    from forebear.errors import EnvironmentFailure

    try:
        return file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"cannot be read: {error.strerror}", str(file)) from error


def _write(file: Path, data: bytes) -> None:
    from forebear.errors import EnvironmentFailure

    try:
        file.write_bytes(data)
    except OSError as error:
        raise EnvironmentFailure(f"cannot be written: {error.strerror}", str(file)) from error


def _salt(file: Path | None) -> bytes | None:
    from forebear.ledger.prove import read_salt

    return None if file is None else read_salt(file)


def _anchor(roots: tuple[str, ...], leaves: tuple[int, ...]) -> Anchor:
    from forebear.errors import UsageError
    from forebear.ledger.check import Anchor
    from forebear.ledger.proof import parse_descriptor

    sizes: dict[str, int | None] = {}
    for word in roots:
        if re.fullmatch(r"[0-9a-f]{64}", word):
            sizes[word] = None
        elif len(roots) == 1 and not leaves:
            return Anchor.of(parse_descriptor(_read(Path(word)), where=word))
        else:
            raise UsageError("is no root of 64 lower-case hex digits", word)
    if leaves:
        if len(leaves) != len(sizes):
            raise UsageError("give as many --leaves as --root")
        sizes = dict(zip(sizes, leaves, strict=True))
    return Anchor(sizes)


def _anchor_in_release(data: bytes, file: Path, place: Path, trust: Path) -> tuple[Anchor, str]:
    """The proof's own root.json, once a verified release is found to name it."""
    from forebear.errors import PolicyError, UsageError
    from forebear.evidence.store import open_evidence
    from forebear.ledger.check import Anchor, descriptor_digest
    from forebear.ledger.outs import ledger_roots
    from forebear.ledger.proof import parse_proof
    from forebear.signing.policy import load_policy
    from forebear.verify.run import verify

    proof = parse_proof(data, where=str(file))
    with open_evidence(place) as evidence:
        if trust.resolve().is_relative_to(evidence.folder.resolve()):
            raise UsageError("the trust comes from the release itself", str(trust))
        code = verify(evidence, load_policy(trust), trust=str(trust)).exit_code()
        links = {name: signed.link for name, signed in evidence.links.items()}
    if code:
        raise PolicyError(
            "the release does not verify, so its root proves nothing", str(place),
            f"see `forebear verify {place} --trust {trust}`",
        )  # fmt: skip
    wanted = descriptor_digest(proof)
    for stage, path, digest in ledger_roots(links):
        if digest == wanted:
            said = f"{path}, which stage {stage!r} produced in the verified release {place}"
            return Anchor.of(proof.descriptor), said
    raise PolicyError("no link of this release names the ledger of this proof", str(place))
