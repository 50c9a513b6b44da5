"""Statements added to a release after it was signed: an approval, a scan, a reproduction.

Each is one bundle in ``later/``, which no list of the release covers, so nothing signed breaks.
Refuses a statement that is about nothing in the release, and never replaces one. Whether its
signer counts for anything is for the verifier's trust policy to say.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from forebear.errors import EnvironmentFailure, FormatError, UsageError
from forebear.evidence.disk import FOLDER, kind_of, read_regular
from forebear.evidence.names import BUNDLE_SUFFIX, LATER, RELEASE_BUNDLE, is_later_name
from forebear.evidence.store import MAX_METADATA_BYTES, Evidence, open_evidence
from forebear.formats import strictjson
from forebear.formats.statement import (
    STATEMENT_TYPE,
    Statement,
    parse_bundle,
    parse_statement,
)
from forebear.release.statements import approval

Sign = Callable[[Statement], bytes]


def attach(release: Path, file: Path, sign: Sign, *, name: str | None = None) -> Path:
    """Adds the statement or the bundle in ``file`` to a packed release; returns the new file.

    Args:
        release: the folder.
        file: a statement, which is signed here, or a bundle, which is copied as it is.
        sign: makes the bundle of a statement; not called for a bundle.
        name: of the new file, without folder and suffix; from the predicate type when left out.

    Raises:
        UsageError: no packed release, a name that is taken or odd, a statement about nothing here.
        FormatError: ``file`` is neither a statement nor a bundle.
        EnvironmentFailure: a file cannot be read or written.
    """
    data = read_regular(file, where=str(file), max_bytes=MAX_METADATA_BYTES)
    value = strictjson.parse(data, where=str(file))
    with _open(release) as evidence:
        if isinstance(value, dict) and "dsseEnvelope" in value:
            statement = _statement_in(data, str(file))
            _require_about(evidence, statement, str(file))
            return _write(evidence, statement, data, name)
        if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
            raise FormatError(
                "is neither an in-toto Statement v1 nor a Sigstore bundle of one", str(file)
            )
        # as people and tools write it; what is signed is the canonical form
        statement = parse_statement(strictjson.dumps(value, where=str(file)), where=str(file))
        _require_about(evidence, statement, str(file))
        return _write(evidence, statement, sign(statement), name)


def approve(release: Path, sign: Sign, *, note: str = "", name: str | None = None) -> Path:
    """Adds an approval of the whole release; returns the new file. Raises as :func:`attach`.

    Raises:
        UsageError: the release is not as it was signed, so there is nothing to agree with.
    """
    with _open(release) as evidence:
        whole = _statement_in(evidence.read(RELEASE_BUNDLE), RELEASE_BUNDLE)
        for path, digest in whole.subjects:
            if not evidence.has(path) or evidence.digest(path) != digest:
                raise UsageError(
                    "is not the part that the release was signed with, so nothing was approved",
                    path,
                    f"forebear verify {release} --trust …",
                )
        statement = approval(evidence.digest(RELEASE_BUNDLE), note)
        return _write(evidence, statement, sign(statement), name)


def _open(release: Path) -> Evidence:
    if kind_of(release.absolute()) != FOLDER:
        raise UsageError(
            "is no folder", str(release), "unpack the archive, attach, and pack it again with tar"
        )
    evidence = open_evidence(release)
    if evidence.kind != "release" or not evidence.has(RELEASE_BUNDLE):
        raise UsageError(
            "is no packed release", str(release), "forebear pack FOLDER, then attach to that"
        )
    return evidence


def _statement_in(data: bytes, where: str) -> Statement:
    return parse_statement(parse_bundle(data, where=where).envelope.payload, where=where)


def _require_about(evidence: Evidence, statement: Statement, where: str) -> None:
    if any(evidence.names(*subject) for subject in statement.subjects):
        return
    name, digest = statement.subjects[0]
    raise UsageError(
        "is about nothing in this release: no subject has the name and digest of a part",
        where,
        f"it names {name[:80]!a} with digest {digest:.12}…; name `tree:OUT` or a released file",
    )


def _write(evidence: Evidence, statement: Statement, data: bytes, name: str | None) -> Path:
    if name is None:
        name = _free_name(evidence, statement)
    elif not is_later_name(name):
        raise UsageError("only letters, digits and . _ @ - may be in it", f"--name {name!a}")
    path = f"{LATER}{name}{BUNDLE_SUFFIX}"
    folder = evidence.folder / LATER
    if kind_of(folder) not in {None, FOLDER}:
        raise UsageError("is no folder", LATER, "move it away")
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(
            evidence.folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644
        )
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
    except FileExistsError as error:
        raise UsageError("is there already and is not replaced", path, "give --name") from error
    except OSError as error:
        raise EnvironmentFailure(f"cannot be written: {error.strerror}", where=path) from error
    return evidence.folder / path


def _free_name(evidence: Evidence, statement: Statement) -> str:
    """A free name after the predicate type: ``approval``, then ``approval-2``."""
    words = [word for word in statement.predicate_type.split("/") if word]
    if len(words) > 1 and words[-1].removeprefix("v").replace(".", "").isdigit():
        words.pop()
    kind = "".join(one if one.isascii() and one.isalnum() else "-" for one in words[-1][:60])
    kind = kind.strip("-") or "statement"
    taken = {path.removeprefix(LATER).removesuffix(BUNDLE_SUFFIX) for path in evidence.later}
    number = 1
    while (found := kind if number == 1 else f"{kind}-{number}") in taken:
        number += 1
    return found
