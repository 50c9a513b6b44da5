"""Facts of a release with every kind of part that a bill lists, made without a pipeline."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from forebear.documents.values import (
    Declarer,
    EvidenceFile,
    EvidenceRef,
    Facts,
    Interval,
    Row,
    Value,
)

if TYPE_CHECKING:
    from pathlib import Path

PERSON = Declarer(name="Erika Mustermann", role="Head of Compliance", date="2026-11-24")
DECLARATIONS = "d" * 64
LINKS = {f"links/{stage}.link": digest * 64 for stage, digest in
         (("base", "1"), ("curate", "2"), ("sft", "3"), ("merge", "4"), ("eval", "5"))}  # fmt: skip
FINAL, SFT, BASE = "f" * 64, "a" * 64, "b" * 64

CORPUS = [
    {"id": f"icd:{n}", "text": f"Text number {n}", "source": "icd", "licence": "LicenseRef-PD-US"}
    for n in range(20)
]


def measured(value: Any, pointer: str = "/figure", *, link: str = "links/eval.link",
             **more: Any) -> Value:  # fmt: skip
    """A computed value with one place behind it."""
    ref = EvidenceRef(
        path="data/metrics.json", sha256="e" * 64, pointer=pointer, link=link,
        link_sha256=LINKS[link],
    )  # fmt: skip
    return Value(kind="computed", value=value, evidence=(ref,), **more)


def declared(value: Any) -> Value:
    """A value that a person states."""
    return Value(kind="declared", value=value, by=PERSON, declarations_sha256=DECLARATIONS)


def row(key: str, **cells: Any) -> Row:
    """A row of computed cells; a value of another kind stands as it is."""
    return Row(
        key=key,
        cells={
            name: cell if isinstance(cell, Value) else measured(cell, f"/{key}/{name}")
            for name, cell in cells.items()
        },
    )


def score(suite: str, value: float, *, metric: str = "acc", delta: float = 0.1) -> Row:
    """One line of the evaluation."""
    interval = Interval(low=value - 0.05, high=value + 0.05, level=0.95, method="wilson")
    return row(
        f"{suite}:{metric}:base",
        task=suite, metric=metric, reference="base", n=200, delta=delta,
        candidate_score=measured(value, f"/{suite}/{metric}", interval=interval),
        reference_score=measured(value - delta, f"/{suite}/{metric}/base"),
    )  # fmt: skip


VALUES: dict[str, Value] = {
    "model.name": measured("acme-icd-135m", link="links/merge.link"),
    "model.version": measured("1.2.0", link="links/merge.link"),
    "model.digest": measured(FINAL, link="links/merge.link"),
    "model.architecture": measured("LlamaForCausalLM"),
    "model.architecture_family": measured("decoder-only transformer"),
    "model.params_total": measured(134515008, unit="parameters"),
    "model.modalities_in": measured(["text"]),
    "model.modalities_out": measured(["text"]),
    "model.parents": measured(["sft"]),
    "model.licence": declared("Apache-2.0"),
    "model.licence_url": declared("https://www.apache.org/licenses/LICENSE-2.0"),
    "model.release_date": declared("2026-11-24"),
    "model.languages": declared(["en"]),
    "provider.legal_name": declared("Example Health Software GmbH"),
    "provider.contact": declared("legal@example.org"),
    "use.summary": declared("Suggests codes for titles of diagnoses."),
    "use.intended": declared(["Suggesting codes to a coder"]),
    "use.out_of_scope": declared(["Diagnosis"]),
    "use.users": declared(["Coders"]),
    "use.autonomy": declared("low"),
    "use.sectors": declared(["Health administration"]),
    "data.selection": declared("Two public sources."),
    "data.pii.method": declared("The sources hold none."),
    "data.unsuitability_measures": declared("Each source was read in samples."),
    "limit.known": declared(["It often names wrong codes."]),
    "release.changes": measured(["first release"], link="links/merge.link"),
    "train.forgetting": measured(0.08),
    "train.flop_modification": measured(37417770745344, unit="FLOP", estimate=True, method="sum"),
    "data.ledger.kept": measured("c" * 64, link="links/curate.link"),
}
_SET = {
    "publisher": "Example Agency", "modality": "text", "collected_from": "2024-10",
    "collected_to": "2025-09", "documents": 20, "tokens": 4000, "languages": ["en"],
    "origin": "public",
}  # fmt: skip
TABLES: dict[str, tuple[Row, ...]] = {
    "model.ancestors": (
        row("base", name="Example/Base-135M", relation="finetune", revision="0.1.2",
            licence="Apache-2.0", digest=BASE),
        row("teacher:distill", name="Example Teacher", relation="distil", revision="2026-05-01",
            licence="Example API terms", provider="Example AI Inc."),
        row("teacher:own", name="sft", relation="self-distillation", revision=SFT, licence="x"),
    ),
    "model.checkpoints": (
        row("sft", stage="sft", digest=SFT, method="lora", parents=["base"], sets=["curate:icd"]),
    ),
    "model.files": (
        row("config.json", path="data/merge/checkpoint/config.json", sha256="6" * 64),
        row("model", path="data/merge/checkpoint/model.safetensors", sha256="7" * 64,
            size_bytes=1234),
    ),
    "data.sets": (
        row("curate:icd", id="icd", role="domain", licence="LicenseRef-PD-US", version="1.5.0",
            source_url=declared("https://example.org/icd"), sensitive=declared("no"),
            known_bias=declared(["English titles only"]), **_SET),
        row("curate:exam", id="exam", role="eval", licence="MIT", **_SET),
    ),
    "data.files": (
        row("icd", set="curate:icd", path="data/corpus/icd.jsonl", sha256="8" * 64,
            size_bytes=999, fields=["id", "text", "source", "licence"]),
    ),
    "data.filters": (row("curate:quality", filter="quality", dropped=3),),
    "use.software": (
        row("torch", name="torch", version="2.13.0", licence="BSD-3-Clause"),
        row("forebear", name="forebear", version="0.1.0", licence="Apache-2.0"),
        row("odd", name="odd_lib", version="1.0"),
    ),
    "train.stages": (
        row("curate", name="curate", ended="2026-11-24T10:01:50Z"),
        row("sft", name="sft", method="lora", steps=40, tokens=20000,
            ended="2026-11-24T10:03:50Z", params={"lr": 0.0005}),
    ),
    "eval.results": (score("mc4", 0.7), score("bbq", 0.4, metric="bias", delta=-0.05)),
    "risk.items": (
        row("0", name=declared("Wrong code"), mitigation=declared("A person checks it")),
    ),
    "risk.fairness": (row("0", group=declared("Patients"), harms=declared("Wrong bills")),),
}  # fmt: skip


def facts(
    values: dict[str, Value] | None = None,
    tables: dict[str, tuple[Row, ...]] | None = None,
    without: tuple[str, ...] = (),
) -> Facts:
    """The facts, with these values and tables put in or taken out."""
    listed = [
        EvidenceFile(path=link, sha256=digest, link=link, link_sha256=digest)
        for link, digest in LINKS.items()
    ]
    merged = {**VALUES, **(values or {})}
    rows = {**TABLES, **(tables or {})}
    return Facts(
        document_time="2026-11-24T10:06:50Z",
        evidence_root="9" * 64,
        declarations_sha256=DECLARATIONS,
        evidence=tuple(listed),
        values={name: value for name, value in merged.items() if name not in without},
        tables={name: part for name, part in rows.items() if name not in without},
    )


def write_corpus(folder: Path) -> tuple[Row, ...]:
    """Writes the corpus below the folder and gives its ``data.files`` table."""
    file = folder / "data" / "corpus" / "icd.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in CORPUS), encoding="utf-8")
    data = file.read_bytes()
    return (
        row("icd", set="curate:icd", path="data/corpus/icd.jsonl", size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(), fields=list(CORPUS[0])),
    )  # fmt: skip
