"""Room for outs: what is opened as a whole, what is made empty, and what is found afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebear.pipeline import Out, Stage
from forebear.recording.outs import Room, make_room


def _stage(*outs: str, deps: tuple[str, ...] = (), is_dir: bool | None = None) -> Stage:
    every = [*(Out(path, is_dir) for path in outs), Out("links/s.link")]
    return Stage("s", "forebear record s -- x", deps=deps, outs=tuple(every))


def _room(root: Path, *outs: str, others: tuple[str, ...] = (), **more) -> Room:
    return make_room(root, _stage(*outs, **more), others, fenced=True)


def test_a_folder_of_outs_only_is_opened_whole_and_nothing_is_made_in_it(tmp_path):
    room = _room(tmp_path, "data/s/model", "data/s/metrics.json")
    assert room.folders == ("data/s",)
    assert list((tmp_path / "data" / "s").iterdir()) == []


@pytest.mark.parametrize(
    ("outs", "others", "deps"),
    [
        (("x.json",), (), ()),
        (("data/x.json",), ("data/y",), ()),
        (("data/x.json",), (), ("data/in.txt",)),
        (("data/x.json",), (), ("data",)),
    ],
)
def test_a_shared_folder_is_not_opened_and_the_out_is_made(tmp_path, outs, others, deps):
    room = _room(tmp_path, *outs, others=others, deps=deps)
    assert room.folders == ()
    assert (tmp_path / outs[0]).read_bytes() == b""


def test_a_folder_with_an_undeclared_file_is_not_opened(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "left").write_text("x")
    assert _room(tmp_path, "data/x.json").folders == ()
    (tmp_path / "data" / "left").rename(tmp_path / "data" / ".gitignore")
    (tmp_path / "data" / "x.json").unlink()
    assert _room(tmp_path, "data/x.json").folders == ("data",)


@pytest.mark.parametrize("again", [1, 2])
def test_what_a_killed_run_had_half_written_is_put_aside_and_not_lost(tmp_path, again):
    for number in range(again):
        half = tmp_path / "data" / "s" / "model.partial"
        half.mkdir(parents=True)
        (half / "w").write_text(str(number))
        assert _room(tmp_path, "data/s/model").folders == ("data/s",)
        assert not half.exists()
    aside = tmp_path / ".dvc" / "tmp" / "forebear" / "partial"
    assert (aside / "data/s/model.partial/w").read_text() == str(again - 1)


def test_a_partial_that_something_declares_stays(tmp_path):
    half = tmp_path / "data" / "model.partial"
    half.parent.mkdir()
    half.write_text("x")
    _room(tmp_path, "data/model", deps=("data/model.partial",))
    _room(tmp_path, "data/model", others=("data/model.partial",))
    assert half.read_text() == "x"


def test_a_dep_of_another_stage_below_an_out_does_not_share_the_folder(tmp_path):
    assert _room(tmp_path, "data/s/rows", others=("data/s/rows/a.txt",)).folders == ("data/s",)


@pytest.mark.parametrize(("name", "is_dir", "made"), [
    ("model", None, "folder"), ("model.bin", None, "file"),
    ("model.v1", True, "folder"), ("model", False, "file"),
])  # fmt: skip
def test_what_is_made_is_of_the_known_kind_else_of_the_one_the_name_has(
    tmp_path, name, is_dir, made
):
    _room(tmp_path, name, is_dir=is_dir)
    assert (tmp_path / name).is_dir() == (made == "folder")


def test_what_was_made_and_not_touched_goes_again_and_what_was_written_stays(tmp_path):
    room = _room(tmp_path, "a.txt", "b.txt", "c", "d")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "d" / "x").write_text("x")
    room.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", "d", "links"]


def test_what_was_there_before_is_never_taken_away(tmp_path):
    (tmp_path / "a.txt").write_text("")
    _room(tmp_path, "a.txt").clear()
    assert (tmp_path / "a.txt").exists()


def test_strays_are_files_and_links_beside_outs_and_changed_books(tmp_path):
    books = tmp_path / "data" / ".gitignore"
    books.parent.mkdir()
    books.write_text("/model\n")
    room = _room(tmp_path, "data/model")
    (tmp_path / "data" / "model").mkdir()
    (tmp_path / "data" / "model" / "w").write_text("w")
    assert room.strays() == []
    (tmp_path / "data" / "link").symlink_to("model")
    books.unlink()
    books.write_text("/model\n/link\n")
    assert room.strays() == ["data/.gitignore", "data/link"]


def test_without_a_fence_nothing_but_parents_is_made(tmp_path):
    make_room(tmp_path, _stage("deep/x.txt"), ("deep/y",), fenced=False)
    assert list((tmp_path / "deep").iterdir()) == []
