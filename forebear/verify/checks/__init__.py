"""The checks in their order; each module holds one and says what it refuses.

A check takes evidence and trust policy and gives a verdict. It names the checks without whose pass
it says nothing.
"""

from __future__ import annotations

from forebear.verify.checks.c01_forms import check_forms
from forebear.verify.checks.c02_layout import check_layout
from forebear.verify.checks.c03_intoto import check_in_toto
from forebear.verify.checks.c04_disk import check_disk
from forebear.verify.checks.c05_trees import check_trees
from forebear.verify.checks.c06_semantics import check_semantics
from forebear.verify.checks.c07_confinement import check_confinement
from forebear.verify.checks.c08_bundles import check_bundles
from forebear.verify.checks.c09_oms import check_oms
from forebear.verify.checks.c10_statements import check_statements
from forebear.verify.checks.c11_release import check_release
from forebear.verify.checks.c12_ledger import check_ledger
from forebear.verify.checks.c13_gate import check_gate
from forebear.verify.checks.c14_documents import check_documents
from forebear.verify.checks.c15_repository import check_repository
from forebear.verify.checks.c16_recompute import check_recomputed, recompute
from forebear.verify.result import Check

CHECKS: tuple[Check, ...] = (
    Check("C1", "forms, paths and sizes", check_forms),
    Check("C2", "layout of the owner", check_layout),
    Check("C3", "in-toto's rules for every step", check_in_toto, ("C2",)),
    Check("C4", "files on disk", check_disk),
    Check("C5", "tree digests", check_trees),
    Check("C6", "what the links say", check_semantics),
    Check("C7", "confinement of stages", check_confinement, ("C3",)),
    Check("C8", "statements of the owner", check_bundles),
    Check("C9", "model-signing signatures", check_oms),
    Check("C10", "statements and links tell the same story", check_statements),
    Check("C11", "the release as a whole", check_release, ("C8",)),
    Check("C12", "ledger of documents", check_ledger, ("C3",)),
    Check("C13", "gate verdict", check_gate),
    Check("C14", "figures in the documents", check_documents),
    Check("C15", "repository as attested", check_repository, ("C3",)),
    Check("C16", "stages recomputed", check_recomputed, ("C3", "C6"), recompute=recompute),
)
