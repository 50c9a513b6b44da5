"""Laws of tree digests: order does not matter, everything else does."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path, PurePosixPath

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forebear.errors import PathError
from forebear.hashing.digest import hash_tree, manifest, tree_digest
from forebear.hashing.paths import check_relative_path, check_tree_paths

SEGMENTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
    min_size=1,
    max_size=6,
)
HEXES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def path_texts(draw):
    text = "/".join(draw(st.lists(SEGMENTS, min_size=1, max_size=3)))
    try:
        return check_relative_path(text)
    except PathError:
        assume(condition=False)


@st.composite
def trees(draw, values=HEXES):
    files = draw(st.dictionaries(path_texts(), values, max_size=8))
    try:
        check_tree_paths(files)
    except PathError:
        assume(condition=False)
    return files


@given(trees(), st.randoms())
def test_order_does_not_matter(files, random):
    """ "sorted by UTF-8 bytes": the digest is one of the set of files."""
    shuffled = list(files.items())
    random.shuffle(shuffled)
    assert tree_digest(dict(shuffled)) == tree_digest(files)


@given(trees(), trees())
def test_different_trees_have_different_digests(one, other):
    assert (tree_digest(one) == tree_digest(other)) == (one == other)


@given(trees())
def test_the_manifest_is_one_sorted_line_per_file(files):
    lines = manifest(files).splitlines(keepends=True)
    assert len(lines) == len(files)
    assert [line[66:-1] for line in lines] == sorted(str(path).encode() for path in files)


@given(trees(values=st.binary(max_size=50)))
@settings(max_examples=40, deadline=None)
def test_the_disk_gives_the_same_digest(files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        hashed = hash_tree(root)
    expected = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    assert hashed.files == expected
    assert hashed.digest == tree_digest(expected)
    assert hashed.size_bytes == sum(map(len, files.values()))


@given(st.lists(SEGMENTS.map(PurePosixPath), max_size=6))
def test_twins_are_refused_in_any_order(paths):
    def refused(some):
        try:
            check_tree_paths(some)
        except PathError:
            return True
        return False

    assert refused(paths) == refused(list(reversed(paths)))
    assert not paths or refused([*paths, paths[0]])
