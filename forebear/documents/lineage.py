"""Facts of the lineage: who read whose outs, checkpoints on the way, files of each data set.

Edges are formed on path and digest in the signed links. A list of stages rests on the name in each
of their links.

Source: compliance page, sections 3.1 (ancestors), 8 (D8, D10) and 13.30.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents.compute import STAGES
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer
from forebear.documents.labels import EACH, edges, reach
from forebear.documents.values import Row, Tables, Value, Values, not_applicable, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CONFIG = "config.json"
_NOT_COUNTED = "not counted by the stage"
_DERIVED = "instruction"  # role of the rows that a stage writes from its own sources


def collect_lineage(values: Values, tables: Tables, evidence: Evidence) -> None:
    """Adds what the graph of links tells."""
    readers = edges(evidence.links())
    newest = max(evidence.stages, key=lambda stage: str(_ended(evidence, stage).value or ""))
    values["document.time"] = _ended(evidence, newest)
    for row in tables[STAGES]:
        before = [stage for stage in evidence.stages if row.key in readers[stage]]
        row.cells["takes"] = names_of(evidence, before, "it reads the outs of no stage")
    final = values["model.digest"]
    maker = _maker(final)
    values["model.stage"] = (
        evidence.link(maker).value("/name") if maker else unknown("no stage made it")
    )
    values["model.parents"] = (
        names_of(evidence, _parents(evidence, maker), "it was made of no checkpoint")
        if maker
        else unknown("no stage made it")
    )
    tables["model.checkpoints"] = tuple(_checkpoint_rows(evidence, str(final.value)))
    tables["data.files"] = tuple(_file_rows(evidence, tables))
    _add_takedown(values, evidence, readers)


def names_of(evidence: Evidence, stages: Iterable[str], reason: str) -> Value:
    """Names of stages as a list that rests on each link; not applicable when there are none."""
    listed = [stage for stage in evidence.stages if stage in set(stages)]
    if not listed:
        return not_applicable(reason)
    places = tuple(evidence.link(stage).ref("/name") for stage in listed)
    return Value(kind="computed", value=list(listed), method=EACH, evidence=places)


def _ended(evidence: Evidence, stage: str) -> Value:
    return evidence.link(stage).value(pointer(*RUN, "ended"), reason="not recorded in the link")


def _maker(digest: Value) -> str:
    if not digest.evidence:
        return ""
    return digest.evidence[0].link.rpartition("/")[2].removesuffix(".link")


def _holders(evidence: Evidence) -> dict[tuple[str, str], str]:
    """The stage that made each checkpoint, by name and digest of the folder."""
    found: dict[tuple[str, str], str] = {}
    for stage in evidence.stages:
        link = evidence.links()[stage]
        for name in evidence.trees(stage):
            if evidence.lists(stage, name, _CONFIG):
                found.setdefault((name, link.products[name]), stage)
    return found


def _parents(evidence: Evidence, stage: str) -> list[str]:
    holders = _holders(evidence)
    materials = evidence.links()[stage].materials
    return [holders[one] for one in materials.items() if one in holders]


def _checkpoint_rows(evidence: Evidence, final: str) -> list[Row]:
    """Each checkpoint that a stage made of another one, but for the released one."""
    rows = []
    for (tree, digest), stage in _holders(evidence).items():
        parents = _parents(evidence, stage)
        if digest == final or not parents:
            continue
        link, figures = evidence.link(stage), evidence.metrics(stage)
        sha256 = link.value(pointer("products", tree, "sha256"))
        lacking = unknown("the stage writes no figures")
        path = sha256.model_copy(
            update={"value": tree, "method": "name of the key",
                    "evidence": (link.ref(pointer("products", tree)),)}
        )  # fmt: skip
        cells = {
            "stage": link.value("/name"),
            "path": path,
            "digest": sha256,
            "method": lacking if figures is None else figures.value("/method"),
            "params_total": lacking if figures is None else figures.value(
                "/n_params", unit="parameters"
            ),
            "dtype": lacking if figures is None else figures.value("/dtype", "/precision"),
            "parents": names_of(evidence, parents, "it was made of no checkpoint"),
        }  # fmt: skip
        rows.append(Row(key=stage, cells=cells))
    return rows


# ── files of the data sets ─────────────────────────────────────────────────────────────────────


def _file_rows(evidence: Evidence, tables: Tables) -> list[Row]:
    """The files that hold each set, with digests from the links and sizes from the figures."""
    rows: dict[str, Row] = {}
    for one in tables["data.sets"]:
        stage, _, name = one.key.partition(":")
        role = str(one.cells["role"].value)
        for path in evidence.products(stage):
            folder, _, file = path.rpartition("/")
            stem = file.removesuffix(".jsonl")
            if stem == file or not _holds(folder, stem, name, role, one):
                continue
            row = Row(
                key=f"{one.key}:{file}",
                cells=_file_cells(evidence.link(stage), evidence.metrics(stage), path, one),
            )
            rows[row.key] = row
        read = _read_file(evidence, stage, name, one)
        if read is not None:
            rows[read.key] = read
    return list(rows.values())


def _read_file(evidence: Evidence, stage: str, name: str, row: Row) -> Row | None:
    """The file of a source that a stage reads where it lies, with the digest in its link."""
    link = evidence.link(stage)
    at = pointer(*RUN, "params", stage, "sources")
    listed = link.get(at)
    for number, source in enumerate(listed if isinstance(listed, list) else []):
        path = source.get("path") if isinstance(source, dict) else None
        if path is None or source.get("id") != name:
            continue
        sha256 = link.value(pointer("materials", path, "sha256"), reason="a folder of files")
        cells = {
            "set": row.cells["id"],
            "path": link.value(f"{at}/{number}/path"),
            "sha256": sha256,
            **_counted(evidence.metrics(stage), (pointer("files", f"source:{name}"),)),
        }
        return Row(key=f"{row.key}:{str(path).rpartition('/')[2]}", cells=cells)
    return None


def _holds(folder: str, stem: str, name: str, role: str, row: Row) -> bool:
    """Whether a file of the set's stage holds rows of the set."""
    last = folder.rpartition("/")[2]
    if name == "golden":
        return last == "golden"
    if name == "trajectories":
        return last == "trajectories" and stem == "kept"
    if name == "pairs":
        return stem == "pairs"
    derived = row.cells["derived"].value
    return last == "corpus" and (stem == role or (stem == _DERIVED and bool(derived)))


def _file_cells(
    link: SignedFile, figures: SignedFile | None, path: str, row: Row
) -> dict[str, Value]:
    sha256 = link.value(pointer("products", path, "sha256"))
    *_, folder, file = path.split("/")
    return {
        "set": row.cells["id"],
        "path": sha256.model_copy(
            update={"value": path, "method": "name of the key",
                    "evidence": (link.ref(pointer("products", path)),)}
        ),
        "sha256": sha256,
        **_counted(figures, (pointer("files", file), pointer("files", f"{folder}/{file}"))),
    }  # fmt: skip


def _counted(figures: SignedFile | None, places: Iterable[str]) -> dict[str, Value]:
    """Size, rows and keys of a file, as its stage counted them."""
    units = {"size_bytes": "bytes", "rows": "rows", "fields": None}
    if figures is None:
        return dict.fromkeys(units, unknown(_NOT_COUNTED))
    return {
        name: figures.value(*(f"{at}/{name}" for at in places), unit=unit, reason=_NOT_COUNTED)
        for name, unit in units.items()
    }


# ── takedown ───────────────────────────────────────────────────────────────────────────────────


def _add_takedown(
    values: Values, evidence: Evidence, readers: Mapping[str, frozenset[str]]
) -> None:
    """The stages, and the checkpoints, that what the takedown list touches could reach."""
    start = ""
    for stage in evidence.stages:
        figures = evidence.metrics(stage)
        if figures is not None and figures.get("/takedown") is not None:
            start = stage
    reached = reach(readers, start) if start else frozenset()
    values["data.takedown.stages"] = names_of(evidence, reached, "no stage has a takedown list")
    makers = set(_holders(evidence).values()) & reached
    values["data.takedown.checkpoints"] = names_of(
        evidence, makers, "no checkpoint was made of these data"
    )
