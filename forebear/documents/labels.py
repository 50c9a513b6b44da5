"""Labels that travel with the data: what a checkpoint carries, whence, and through which stages.

A label is a duty of a licence, personal or sensitive data, a territory, or text that a model wrote.
It starts at the stage that brought the source in and follows the edges of the signed links (a
product of one stage, read by another under the same path and digest) to the released checkpoint.
Sets that are only measured on give no label to the weights.

Source: compliance page, sections 9 and 10; provenance page, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebear.documents.licencetable import find, find_terms
from forebear.documents.values import Row, Tables, Value, Values, leaf_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebear.documents.evidence import Evidence
    from forebear.formats.link import Link

TABLE = "model.labels"
EACH = "each"  # a list of what several places say


@dataclass(frozen=True, slots=True)
class Label:
    """One label at its source.

    Attributes:
        kind: ``licence``, ``personal_data``, ``jurisdiction`` or ``synthetic``.
        text: the label itself, as a person asks for it.
        source: what carries it.
        stage: that brought it in.
        inputs: ids of the facts that say so.
    """

    kind: str
    text: str
    source: str
    stage: str
    inputs: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names the label's row."""
        return f"{self.kind}:{self.text}:{self.source}"

    def cells(self) -> dict[str, Value]:
        """The label as values that a rule gives."""
        said = {"kind": self.kind, "label": self.text, "source": self.source, "stage": self.stage}
        return {
            name: Value(kind="computed", value=value, method="rule label", inputs=self.inputs)
            for name, value in said.items()
        }


def edges(links: Mapping[str, Link]) -> dict[str, frozenset[str]]:
    """For each stage, the stages that read a file which it wrote."""
    made: dict[tuple[str, str], list[str]] = {}
    for stage, link in links.items():
        for artifact in link.products.items():
            made.setdefault(artifact, []).append(stage)
    readers: dict[str, set[str]] = {stage: set() for stage in links}
    for stage, link in links.items():
        for artifact in link.materials.items():
            for producer in made.get(artifact, ()):
                if producer != stage:
                    readers[producer].add(stage)
    return {stage: frozenset(found) for stage, found in readers.items()}


def between(readers: Mapping[str, frozenset[str]], start: str, end: str) -> frozenset[str]:
    """Every stage on a way from ``start`` to ``end``, both included; empty when there is none."""
    forward = reach(readers, start)
    if end not in forward:
        return frozenset()
    written: dict[str, set[str]] = {stage: set() for stage in readers}
    for stage, found in readers.items():
        for reader in found:
            written.setdefault(reader, set()).add(stage)
    return forward & reach({stage: frozenset(f) for stage, f in written.items()}, end)


def reach(edges_of: Mapping[str, frozenset[str]], start: str) -> frozenset[str]:
    """Every stage that the edges lead to from ``start``, itself included."""
    seen, waiting = {start}, [start]
    while waiting:
        for stage in edges_of.get(waiting.pop(), ()):
            if stage not in seen:
                seen.add(stage)
                waiting.append(stage)
    return frozenset(seen)


def collect_labels(values: Values, tables: Tables, evidence: Evidence) -> None:
    """Adds ``model.labels``: each label that reaches the released checkpoint, with its way."""
    final = values["model.digest"]
    if not final.evidence:
        tables[TABLE] = ()
        return
    end = final.evidence[0].link.rpartition("/")[2].removesuffix(".link")
    readers = edges(evidence.links())
    rows: dict[str, Row] = {}
    for label in sources(values, tables):
        way = between(readers, label.stage, end) if label.stage in readers else frozenset()
        if not way:
            continue
        through = [stage for stage in evidence.stages if stage in way]
        places = tuple(evidence.link(stage).ref("/name") for stage in through)
        said = Value(kind="computed", value=list(through), method=EACH, evidence=places)
        rows[label.key] = Row(key=label.key, cells={**label.cells(), "through": said})
    tables[TABLE] = tuple(rows[key] for key in sorted(rows))


def refresh(values: Values, tables: Tables) -> None:
    """Writes anew what the labels say, all but their way, which only links can tell."""
    known = {label.key: label for label in sources(values, tables)}
    tables[TABLE] = tuple(
        Row(key=row.key, cells={**known[row.key].cells(), "through": row.cells["through"]})
        for row in tables.get(TABLE, ())
        if row.key in known
    )


def sources(values: Values, tables: Tables) -> list[Label]:
    """Every label where it starts."""
    return [*_base_labels(values), *_set_labels(tables), *_generator_labels(tables)]


def _base_labels(values: Values) -> list[Label]:
    licence = values["model.base.licence"]
    if licence.value is None or not licence.evidence:
        return []
    stage = licence.evidence[0].link.rpartition("/")[2].removesuffix(".link")
    name = str(values["model.base.name"].value)
    inputs = ("model.base.licence", "model.base.name")
    labels = [Label("licence", str(licence.value), name, stage, inputs)]
    entry = find(str(licence.value))
    if entry is not None and entry.territory is not None:
        labels.append(Label("jurisdiction", "not for persons in the European Union", name, stage,
                            inputs))  # fmt: skip
    return labels


def _set_labels(tables: Tables) -> list[Label]:
    labels = []
    for row in tables.get("data.sets", ()):
        cells, stage = row.cells, row.key.partition(":")[0]
        if cells["documents"].kind == "not_applicable":
            continue
        name = str(cells["id"].value)

        def ids(*columns: str, key: str = row.key) -> tuple[str, ...]:
            return tuple(leaf_id("data.sets", key, column) for column in columns)

        if cells["licence"].value is not None:
            labels.append(Label("licence", str(cells["licence"].value), name, stage,
                                ids("licence", "id")))  # fmt: skip
        if cells["sensitive"].value == "yes":
            labels.append(Label("personal_data", "sensitive personal data", name, stage,
                                ids("sensitive", "id")))  # fmt: skip
        if cells["origin"].value in ("user_model", "user_other"):
            labels.append(Label("personal_data", "data of users", name, stage,
                                ids("origin", "id")))  # fmt: skip
        if cells["origin"].value == "synthetic":
            labels.append(Label("synthetic", "text made by a model", name, stage,
                                ids("origin", "id")))  # fmt: skip
    return labels


def _generator_labels(tables: Tables) -> list[Label]:
    """Terms on the answers of outside models that trained this one."""
    labels = []
    for row in tables.get("data.generators", ()):
        name, terms = str(row.cells["model"].value), row.cells["terms"].value
        if row.cells["own"].value is True or terms is None:
            continue
        inputs = tuple(leaf_id("data.generators", row.key, c) for c in ("model", "terms"))
        entry = find_terms(name, str(terms))
        labels.append(Label("licence", entry.id if entry else str(terms), name, row.key, inputs))
    return labels
