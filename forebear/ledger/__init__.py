"""Ledger of documents: what was trained on, provable document by document."""

from __future__ import annotations

from forebear.ledger.build import (
    IntakeRow,
    LedgerRow,
    Proof,
    descriptor,
    document_key,
    inclusion_proof,
    leaf_data,
    merge_copies,
    parse_intake,
    parse_kept,
    render_rows,
    root,
    verify_inclusion,
)

__all__ = [
    "IntakeRow",
    "LedgerRow",
    "Proof",
    "descriptor",
    "document_key",
    "inclusion_proof",
    "leaf_data",
    "merge_copies",
    "parse_intake",
    "parse_kept",
    "render_rows",
    "root",
    "verify_inclusion",
]
