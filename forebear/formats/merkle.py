"""Merkle trees of RFC 9162: root, inclusion proof, and the check of a proof.

Knows hashes only: what a leaf means is the business of ``forebear.ledger``. A root does not bind
the number of leaves: whoever needs a leaf's place must know the size from where the root is known.

Source: RFC 9162, sections 2.1.1 to 2.1.3; provenance page, section 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from forebear.errors import FormatError

EMPTY_ROOT = sha256(b"").digest()

# Who cannot hold all leaves holds the root of each so many instead: a power of two, so these are
# nodes of the tree, the last one rising as RFC 9162 splits, and ``root`` and ``levels`` over them
# give the upper part of the tree.
BLOCK = 512


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf: SHA-256 over ``00`` and the leaf data."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256 over ``01`` and both children."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, in order; SHA-256 of nothing for no leaves."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Sibling hashes from leaf ``index`` up to the root.

    Args:
        leaves: leaf hashes, in order.
        index: place of the leaf, from 0.

    Raises:
        FormatError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise FormatError(f"leaf {index} does not exist; the tree has {len(leaves)} leaves")
    return path(levels(leaves), index)


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Every level of the tree over leaf hashes, from the leaves to the root; kept for many paths.

    Raises:
        FormatError: there are no leaves.
    """
    if not leaves:
        raise FormatError("a tree without leaves has no levels")
    found = [list(leaves)]
    while len(found[-1]) > 1:
        found.append(_parents(found[-1]))
    return found


def path(found: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """Sibling hashes from place ``index`` of the lowest level up to the root."""
    proof: list[bytes] = []
    for level in found[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        index >>= 1
    return tuple(proof)


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> bool:
    """Whether ``proof`` leads from leaf hash ``leaf`` at ``index`` to the root of ``size`` leaves.

    Source: RFC 9162, section 2.1.3.2; the step numbers are its own.
    """
    # 1. The leaf must lie in the tree.
    if not 0 <= index < size:
        return False
    # 2., 3. Walk up: fn is the node's place in its level, sn that of the last node.
    fn, sn, node = index, size - 1, leaf
    # 4. One step per sibling.
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    # 5. The walk ends at the root, and nowhere else.
    return sn == 0 and node == expected_root


def _parents(level: list[bytes]) -> list[bytes]:
    """The level above. An odd last node rises unchanged, which is RFC 9162's split."""
    pairs = zip(level[::2], level[1::2], strict=False)
    parents = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        parents.append(level[-1])
    return parents
