"""Ledger of documents: what was trained on, provable document by document."""

from __future__ import annotations

from forebear.ledger.build import (
    SALT_BYTES,
    IntakeRow,
    LedgerRow,
    Proof,
    descriptor,
    document_key,
    inclusion_proof,
    key_of_digest,
    leaf_data,
    merge_copies,
    parse_intake,
    parse_kept,
    render_derived,
    render_rows,
    root,
    verify_inclusion,
)

__all__ = [
    "SALT_BYTES",
    "IntakeRow",
    "LedgerRow",
    "Proof",
    "descriptor",
    "document_key",
    "inclusion_proof",
    "key_of_digest",
    "leaf_data",
    "merge_copies",
    "parse_intake",
    "parse_kept",
    "render_derived",
    "render_rows",
    "root",
    "verify_inclusion",
]
