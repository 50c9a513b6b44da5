from __future__ import annotations

import pytest

from forebear.errors import FormatError
from forebear.formats import merkle

# Source: test vectors of certificate transparency (RFC 6962), provenance page, section 14.
DATA = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAVES = [merkle.leaf_hash(data) for data in DATA]
ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def by_definition(leaves):
    """RFC 9162, section 2.1.1, word for word: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return merkle.node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


def test_root_of_eight_leaves_is_the_published_one():
    assert merkle.root(LEAVES).hex() == ROOT


def test_root_of_nothing_is_the_digest_of_nothing():
    assert merkle.root([]).hex().startswith("e3b0c442")


@pytest.mark.parametrize("size", range(1, 34))
def test_every_leaf_of_every_small_tree_is_provable(size):
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(size)]
    root = merkle.root(leaves)
    assert root == by_definition(leaves)
    for index, leaf in enumerate(leaves):
        proof = merkle.inclusion_proof(leaves, index)
        assert merkle.verify_inclusion(leaf, index, size, proof, root)
        assert not merkle.verify_inclusion(leaf, index, size, (*proof, leaf), root)
        assert not merkle.verify_inclusion(leaf, index + size, size, proof, root)
        assert not merkle.verify_inclusion(merkle.leaf_hash(b"no"), index, size, proof, root)
        if proof:
            assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)


@pytest.mark.parametrize("index", [-1, 8, 9])
def test_a_leaf_that_does_not_exist_has_no_proof(index):
    with pytest.raises(FormatError):
        merkle.inclusion_proof(LEAVES, index)
