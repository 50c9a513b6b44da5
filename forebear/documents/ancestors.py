"""Facts of the models that this one descends from: base, teachers, parents of a merge.

A checkpoint of this pipeline is told from others by its digest, which some link signs. What a
publisher states about the base comes from the table of base models, as reported.

Source: compliance page, sections 3.1 and 10.1.
"""

from __future__ import annotations

from forebear.documents.basemodels import find
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer
from forebear.documents.values import Row, Value, not_applicable, unknown

PRESENT = "present"
_OURS = not_applicable("a checkpoint of this pipeline")
_MERGE_BASE = "base of the merge"
_REPORTED = ("publisher", "url", "context_length", "params_total")


def collect_ancestors(evidence: Evidence, base: SignedFile | None) -> tuple[Row, ...]:
    """Rows of ``model.ancestors``: ``base``, ``teacher:STAGE``, ``merge:STAGE:NAME``."""
    rows = [] if base is None else [_base_row(evidence, base)]
    for stage in evidence.stages:
        figures = evidence.metrics(stage)
        if figures is None:
            continue
        if figures.get("/teacher/name") is not None:
            rows.append(_teacher_row(evidence, stage, figures))
        parents = figures.get("/inputs")
        rows += [
            _parent_row(evidence, stage, figures, name)
            for name in sorted(parents if isinstance(parents, dict) else {})
        ]
    return tuple(rows)


def _named(value: Value, word: str) -> Value:
    """A word of ours that stands where the value does."""
    if not value.evidence:
        return value
    return value.model_copy(update={"value": word, "method": f"named {word}", "unit": None})


def _base_row(evidence: Evidence, base: SignedFile) -> Row:
    name = base.value("/repo")
    stage = base.link.rpartition("/")[2].removesuffix(".link")
    trees = [tree for tree in evidence.trees(stage) if evidence.lists(stage, tree, "config.json")]
    cells = {
        "name": name,
        "relation": base.value("/relation"),
        "revision": base.value("/revision", reason="the source has no revision"),
        "licence": base.value("/licence"),
        "digest": evidence.link(stage).value(pointer("products", trees[0], "sha256"))
        if trees
        else unknown("its stage signs no folder with a configuration"),
        "use": _named(name, "finetune"),
        "own": not_applicable("the original model"),
        "architecture": base.value("/architecture"),
        **reported(str(name.value)),
    }
    return Row(key="base", cells=cells)


def reported(repo: str) -> dict[str, Value]:
    """What the table says of a repository; unknown where it has no row."""
    row = find(repo)
    if row is None:
        return dict.fromkeys(_REPORTED, unknown(f"{repo} is not in the table of base models"))
    return {
        "publisher": row.reported(row.publisher, what="publisher"),
        "url": row.reported(f"https://huggingface.co/{row.repo}", what="address"),
        "context_length": row.reported(row.context, unit="tokens", what="context length"),
        "params_total": row.reported(row.total, unit="parameters", what="parameter count"),
    }


def ownership(evidence: Evidence, digest: object) -> Value:
    """Whether a stage of this pipeline made a model; unknown where none did."""
    producer = evidence.tree_producer(digest) if isinstance(digest, str) else None
    if producer is None:
        return unknown("no stage here made it")
    found = evidence.link(producer[0]).value(pointer("products", producer[1], "sha256"))
    return found.model_copy(update={"value": True, "method": PRESENT})


def _teacher_row(evidence: Evidence, stage: str, figures: SignedFile) -> Row:
    terms = evidence.link(stage).value(
        pointer(*RUN, "params", stage, "teacher", "terms"), reason="not recorded"
    )
    recorded = figures.value("/teacher/licence", "/teacher/terms", reason="not recorded")
    name = figures.value("/teacher/model", "/teacher/name")
    own = ownership(evidence, figures.get("/teacher/tree"))
    said = dict.fromkeys(_REPORTED, _OURS) if own.value else reported(str(name.value))
    cells = {
        "name": name,
        "relation": figures.value("/method"),
        "revision": figures.value(
            "/teacher/tree", "/teacher/revision", "/teacher/accessed",
            reason="the teacher has none",
        ),
        "licence": recorded if recorded.value is not None else terms,
        "terms": terms,
        "digest": figures.value("/teacher/tree", reason="the model is not here to be hashed"),
        "use": _named(name, "teacher"),
        "own": own,
        "architecture": _OURS if own.value else unknown("not recorded"),
        **said,
    }  # fmt: skip
    return Row(key=f"teacher:{stage}", cells=cells)


def _parent_row(evidence: Evidence, stage: str, figures: SignedFile, name: str) -> Row:
    digest = figures.value(pointer("inputs", name))
    own = ownership(evidence, digest.value)
    producer = evidence.tree_producer(str(digest.value))
    key = digest.model_copy(update={"value": name, "method": "name of the key"})
    relation = figures.value("/method")
    cells = {
        "name": key if producer is None else evidence.link(producer[0]).value("/name"),
        "relation": _named(digest, _MERGE_BASE) if name == "base" else relation,
        "revision": digest,
        "licence": _OURS if own.value else unknown("no stage here made this parent"),
        "digest": digest,
        "use": _named(digest, "merge"),
        "own": own,
    }
    return Row(key=f"merge:{stage}:{name}", cells=cells)
