"""Facts made by hand, for what a reader is shown; no pipeline, no signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.fields import FIELDS_BY_ID
from forebear.documents.values import (
    Declarer,
    EvidenceRef,
    Facts,
    Interval,
    Missing,
    Row,
    Source,
    Value,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BY = Declarer(name="A. Person", role="model owner", date="2026-11-24")
DECLARATIONS = "d" * 64


def computed(value: Any, *, at: str = "/figure", file: str = "a" * 64, **more: Any) -> Value:
    """A figure of a signed file."""
    place = EvidenceRef(
        path="data/sft/metrics.json", sha256=file, pointer=at, link="links/sft.link",
        link_sha256="b" * 64,
    )  # fmt: skip
    return Value(kind="computed", value=value, evidence=(place,), **more)


def declared(value: Any, **more: Any) -> Value:
    """A statement of a person."""
    return Value(kind="declared", value=value, by=BY, declarations_sha256=DECLARATIONS, **more)


def reported(value: Any, **more: Any) -> Value:
    """What a third party published."""
    source = Source(title="A model card", url="https://example.org/card", retrieved="2026-11-01")
    return Value(kind="reported", value=value, source=source, **more)


def score(value: float, low: float, high: float) -> Value:
    """A share with its interval."""
    interval = Interval(low=low, high=high, level=0.95, method="wilson")
    return computed(value, interval=interval)


def row(key: str, **cells: Value) -> Row:
    """A row; values of other kinds than given stay out."""
    return Row(key=key, cells=cells)


def data_set(key: str, **cells: Any) -> Row:
    """A public text set, with what a test changes."""
    known = {
        "id": key, "role": "pretraining", "origin": "public", "modality": "text",
        "source_url": f"https://example.org/{key}", "publisher": "Somebody",
        "licence": "CC0-1.0", "content_types": "short texts about everything",
        "collected_from": "2024-01", "collected_to": "2025-03", "tokens": 1000,
    }  # fmt: skip
    return Row(key=key, cells={name: computed(one) for name, one in (known | cells).items()})


def facts(
    values: Mapping[str, Value] | None = None,
    tables: Mapping[str, Sequence[Row]] | None = None,
    *,
    missing: Sequence[str] = (),
) -> Facts:
    """Facts of a small release; fields named by ``missing`` are not declared."""
    known = {
        "model.name": computed("acme-icd", at="/document/name"),
        "model.version": computed("1.0.0", at="/document/version"),
        "model.digest": computed("c" * 64, at="/products/checkpoint"),
        "provider.legal_name": declared("Acme GmbH"),
        "provider.contact": declared("contact@example.org"),
        "provider.size": declared("large"),
        "model.eu_market_date": declared("not_placed"),
        "data.continuous": declared(value=False),
        "data.latest_collection": computed("2025-03"),
        "model.modalities_out": computed(["text"]),
    }
    known |= {f"data.answers.{name}": computed(value=name == "public") for name in (
        "public", "licensed", "third_party", "crawled", "user_model", "user_other", "synthetic",
        "other")}  # fmt: skip
    known |= values or {}
    lacking = tuple(
        Missing(
            code="C101", field=name, label=FIELDS_BY_ID[name].label,
            supplier=FIELDS_BY_ID[name].supplier,
        )
        for name in missing
    )  # fmt: skip
    for name in missing:
        known[name] = unknown("not declared")
    return Facts(
        document_time="2026-11-25T04:19:38Z",
        evidence_root="e" * 64,
        declarations_sha256=DECLARATIONS,
        evidence=(),
        values=known,
        tables={name: tuple(rows) for name, rows in (tables or {}).items()},
        missing=lacking,
    )
