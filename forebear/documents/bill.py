"""What a release consists of: models, data sets, libraries and files, as both bills list them.

Read from the facts once, so that the CycloneDX and the SPDX file name the same parts under the
same references. A part always has a version: one without takes ``sha256-`` and twelve digits of its
own digest, or of the evidence that names it.

Source: compliance page, section 8, D8 and D9.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from forebear.documents.bill_sets import read_sets, undisclosed
from forebear.documents.naming import NO_VERSION, digest_of, lines_of, version_of
from forebear.documents.parts import (
    FINAL,
    Bill,
    DataSet,
    FilePart,
    Library,
    Lines,
    Model,
    Role,
    reference,
)
from forebear.documents.reading import Cells, Reader, web_address
from forebear.documents.spdxlicence import library_licence
from forebear.documents.values import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.values import Facts

_RULES = "rules"  # kind of a judge that is no model
_FROM_ELSEWHERE = ("base", "teacher", "judge")
_SELF_SUPERVISED = re.compile(r"(?i)\b(?:cpt|pre-?training)\b")
_SUPERVISED = re.compile(r"(?i)\b(?:sft|full|lora|qlora|distill\w*|dpo|orpo|kto|ipo|simpo)\b")
_REINFORCED = re.compile(r"(?i)\b(?:grpo|ppo|rloo)\b")


def read_bill(facts: Facts, language: str = "en") -> Bill:
    """The parts that the facts name."""
    reader = Reader(facts, language)
    sets = read_sets(reader)
    made = {row.text("digest"): row.key for row in reader.rows("model.checkpoints")}
    training = tuple(part.ref for part in sets if part.trains)
    ancestors = _ancestors(reader, {digest for digest in made if digest is not None}, training)
    known = {model.ref for model in ancestors}
    checkpoints = [
        _checkpoint(reader, row, sets, known | {reference("model", k) for k in made.values()})
        for row in reader.rows("model.checkpoints")
    ]
    rows = reader.rows("eval.judges")
    judges = [_judge(reader, row) for row in rows if row.text("kind") != _RULES]
    written = [_rules(reader, row) for row in rows if row.text("kind") == _RULES]
    others = (*ancestors, *checkpoints, *judges)
    final = _final(reader, tuple(m.ref for m in (*ancestors, *checkpoints)), training)
    return Bill(
        final=final,
        others=others,
        sets=sets,
        undisclosed=tuple(undisclosed(m) for m in others if m.role in _FROM_ELSEWHERE),
        libraries=(*(_library(reader, row) for row in reader.rows("use.software")), *written),
        files=tuple(_file(reader, row) for row in reader.rows("model.files")),
    )


def _final(reader: Reader, others: tuple[str, ...], training: tuple[str, ...]) -> Model:
    release = reader.release
    named = {reference("model", parent) for parent in release.texts("model.parents")}
    shown = (
        "model.name", "model.version", "model.digest", "model.licence", "model.params_total",
        "model.params_active", "model.context_length", "model.vocab_size", "model.dtype",
        "model.architecture",
    )  # fmt: skip
    return Model(
        ref=FINAL,
        name=release.text("model.name") or "unnamed model",
        version=version_of(release.value("model.version"), digest_of(release, "model.digest")),
        licence=release.text("model.licence"),
        licence_url=web_address(release.text("model.licence_url")),
        digest=digest_of(release, "model.digest"),
        supplier=release.text("provider.legal_name"),
        url=None,
        cells=release,
        lines=(*_figures(release, shown), *lines_of(reader, release, shown)),
        role="final",
        parents=tuple(ref for ref in others if ref in named) or others[:1],
        sets=training,
        approach=_approach([row.text("method", "name") for row in reader.rows("train.stages")]),
        architecture=release.text("model.architecture"),
        family=release.text("model.architecture_family"),
    )


def _figures(release: Cells, shown: Sequence[str]) -> Lines:
    """The numbers themselves, for which a component has no field."""
    return tuple(
        (f"forebear:{name}", f"{text} {release.value(name).unit or ''}".strip())
        for name in shown
        if release.number(name) is not None and (text := release.text(name)) is not None
    )


def _ancestor(reader: Reader, row: Cells, training: tuple[str, ...] | None) -> Model:
    """A model from elsewhere; a checkpoint of ours where its training sets are given."""
    own = training is not None
    digest = digest_of(row, "digest")
    role: Role = "base" if row.key == "base" else "checkpoint" if own else "teacher"
    prefix = "teacher" if role == "teacher" else "model"
    ref = reference(prefix, row.key)
    release = reader.release
    return Model(
        ref=ref,
        name=row.text("name") or f"unnamed {role}",
        version=version_of(row.value("revision"), digest, row),
        licence=row.text("licence", "terms") or (release.text("model.licence") if own else None),
        licence_url=web_address(row.text("licence_url", "terms_url")),
        digest=digest,
        supplier=row.text("publisher", "provider")
        or (release.text("provider.legal_name") if own else None),
        url=web_address(row.text("url", "source_url")),
        cells=row,
        lines=lines_of(reader, row),
        role=role,
        remote=digest is None,
        sets=training or (reference("data", f"undisclosed:{row.key}"),),
        approach="self-supervised" if role == "base" else None,
        architecture=row.text("architecture") or _shape(reader, role, "model.architecture"),
        family=row.text("architecture_family") or _shape(reader, role, "model.architecture_family"),
    )


def _shape(reader: Reader, role: Role, fact: str) -> str | None:
    """Training changes weights, not the architecture: all but teachers have the final model's."""
    return None if role == "teacher" else reader.release.text(fact)


def _checkpoint(reader: Reader, row: Cells, sets: Sequence[DataSet], known: set[str]) -> Model:
    digest = digest_of(row, "digest")
    used, told = _used(reader, row, sets)
    parents = [reference("model", parent) for parent in row.texts("parents")]
    return Model(
        ref=reference("model", row.key),
        name=f"{reader.release.text('model.name') or 'unnamed model'}, after {row.key}",
        version=version_of(unknown("a checkpoint is named by its digest"), digest, row),
        licence=reader.release.text("model.licence"),
        licence_url=web_address(reader.release.text("model.licence_url")),
        digest=digest,
        supplier=reader.release.text("provider.legal_name"),
        url=None,
        cells=row,
        lines=(*lines_of(reader, row), *told),
        parents=tuple(ref for ref in parents if ref in known),
        sets=used,
        approach=_approach([row.text("method"), row.key]),
        architecture=row.text("architecture") or reader.release.text("model.architecture"),
        family=reader.release.text("model.architecture_family"),
    )


def _used(reader: Reader, row: Cells, sets: Sequence[DataSet]) -> tuple[tuple[str, ...], Lines]:
    """Sets that a checkpoint was trained on, itself or before it became what it is.

    Where nobody recorded them, every source may have been used, and of the sets that a stage made
    those of the stages that came before.
    """
    named = set(row.texts("sets"))
    if named:
        return tuple(part.ref for part in sets if part.cells.key in named), ()
    parents = {one.key: one.texts("parents") for one in reader.rows("model.checkpoints")}
    before, waiting = {row.key}, [row.key]
    while waiting:
        fresh = [stage for stage in parents.get(waiting.pop(), []) if stage not in before]
        before.update(fresh)
        waiting += fresh
    found = tuple(
        part.ref
        for part in sets
        if part.trains and (not part.made_of or part.cells.key.partition(":")[0] in before)
    )
    return found, (("forebear:data-sets", "all up to this stage; not told apart"),)


def _judge(reader: Reader, row: Cells) -> Model:
    digest = digest_of(row, "digest")
    return Model(
        ref=reference("judge", row.key),
        name=row.text("model", "name") or "unnamed judge",
        version=version_of(row.value("revision", "accessed", "api_date"), digest, row),
        licence=row.text("licence", "terms"),
        licence_url=None,
        digest=digest,
        supplier=row.text("provider"),
        url=None,
        cells=row,
        lines=lines_of(reader, row),
        role="judge",
        remote=digest is None,
        sets=(reference("data", f"undisclosed:judge:{row.key}"),),
    )


def _rules(reader: Reader, row: Cells) -> Library:
    """A judge that is no model but written rules: code of this pipeline."""
    digest = digest_of(row, "digest")
    return Library(
        ref=reference("judge", row.key),
        name=f"judge by written rules: {row.text('name') or row.key}",
        version=version_of(row.value("revision"), digest, row),
        licence=row.text("licence"),
        licence_url=None,
        digest=digest,
        supplier=row.text("provider"),
        url=None,
        cells=row,
        lines=lines_of(reader, row),
    )


def _library(reader: Reader, row: Cells) -> Library:
    name, version = row.text("name") or row.key, row.text("version") or ""
    normal = re.sub(r"[-_.]+", "-", name).lower()
    found = version if version.lower() not in NO_VERSION else version_of(unknown("x"), None, row)
    told = (None, ()) if row.text("licence") else library_licence(normal)
    return Library(
        ref=reference("library", f"{normal}@{found}"),
        name=name,
        version=found,
        licence=row.text("licence") or told[0],
        licence_url=None,
        digest=digest_of(row, "sha256"),
        supplier=None,
        url=None,
        cells=row,
        lines=(*lines_of(reader, row), *told[1]),
        purl=row.text("purl") or f"pkg:pypi/{quote(normal)}@{quote(found)}",
    )


def _file(reader: Reader, row: Cells) -> FilePart:
    path, digest = row.text("path") or row.key, digest_of(row, "sha256")
    size = row.number("size_bytes", "size")
    return FilePart(
        ref=reference("file", path),
        name=path,
        version=version_of(unknown("a file is named by its digest"), digest, row),
        licence=reader.release.text("model.licence"),
        licence_url=web_address(reader.release.text("model.licence_url")),
        digest=digest,
        supplier=None,
        url=None,
        cells=row,
        lines=lines_of(reader, row),
        size_bytes=None if size is None else int(size),
    )


def _ancestors(reader: Reader, made: set[str], training: tuple[str, ...]) -> list[Model]:
    """Models from elsewhere, and own ones that no checkpoint lists; each digest once."""
    found: list[Model] = []
    seen = set(made)
    for row in reader.rows("model.ancestors"):
        digests = {text for name in ("digest", "revision") if (text := digest_of(row, name))}
        if digests & seen:
            continue
        seen |= digests
        is_merged = row.text("use") == "merge"
        if made and (is_merged or row.value("own").value is True):
            continue  # a checkpoint of ours whose digest nobody recorded
        own = is_merged or row.value("own").value is True
        found.append(_ancestor(reader, row, training if own else None))
    return found


def _approach(words: Sequence[str | None]) -> str | None:
    """How the last stage that says so trained, in CycloneDX's words."""
    for word in reversed([word for word in words if word]):
        if _REINFORCED.search(word):
            return "reinforcement-learning"
        if _SUPERVISED.search(word):
            return "supervised"
        if _SELF_SUPERVISED.search(word):
            return "self-supervised"
    return None
