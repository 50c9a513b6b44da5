from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from forebear.errors import PathError
from forebear.hashing.paths import check_relative_path, check_tree_paths


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a/b.txt",
        ".git/x",
        ".hidden",
        "a b/c d",
        "x~",
        "x.pyc",
        "stage@0.1",
        "é",
        "...",
        "a..b",
    ],
)
def test_clean_paths_pass(text):
    assert check_relative_path(text) == PurePosixPath(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "/",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/./b",
        "../a",
        "a/../b",
        "a\\b",
        "a\nb",
        "a\x00",
        "a\x7f",
        "a\x85",
        "a ",
        "a /b",
        "e\u0301",
        "\ud800",
        "a\udcff",
        "a\n",
    ],
)
def test_other_paths_are_refused(text):
    with pytest.raises(PathError):
        check_relative_path(text)


@pytest.mark.parametrize(
    "paths",
    [
        ("config.json", "Config.json"),
        ("é", "e\u0301"),
        ("straße", "STRASSE"),
        ("a", "a/b"),
        ("A/b/c", "a/B"),
        ("a", "a"),
    ],
)
def test_twins_are_refused(paths):
    with pytest.raises(PathError):
        check_tree_paths([PurePosixPath(path) for path in paths])


def test_paths_side_by_side_pass():
    check_tree_paths([PurePosixPath(path) for path in ("a/b", "a/c", "ab", "a.b", "b/a")])
