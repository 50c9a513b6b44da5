from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from forebear.errors import FormatError, PathError, UsageError
from forebear.evidence.store import open_evidence
from tests.support.release import CHECKPOINT, Simulated


def test_a_packed_folder_is_a_release_with_all_links(built: Simulated):
    with open_evidence(built.packed) as evidence:
        assert evidence.kind == "release"
        assert sorted(evidence.links) == ["attest", "base", "eval", "sft", "source"]
        assert [out.path for _, out in evidence.shipped] == [CHECKPOINT]


def test_a_release_that_carries_a_dvc_folder_is_still_a_release(built: Simulated, tmp_path: Path):
    folder = tmp_path / "r"
    shutil.copytree(built.packed, folder)
    (folder / ".dvc").mkdir()
    (folder / "release").mkdir()
    with open_evidence(folder) as evidence:
        assert evidence.kind == "release"


def test_a_repository_finds_attests_own_link_outside_the_release(built: Simulated, tmp_path: Path):
    repo = tmp_path / "repo"
    shutil.copytree(built.repo, repo)
    with pytest.raises(UsageError):
        open_evidence(repo)
    (repo / ".dvc").mkdir()
    with open_evidence(repo) as evidence:
        assert evidence.kind == "repository"
        assert sorted(evidence.links) == ["attest", "base", "eval", "sft", "source"]


def test_an_unpacked_archive_is_gone_after_close(built: Simulated, tmp_path: Path):
    archive = tmp_path / "r.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(built.packed, "./")
    with open_evidence(archive) as evidence:
        place = evidence.root
        assert sorted(evidence.links) == ["attest", "base", "eval", "sft", "source"]
        assert place.is_dir()
    assert not place.exists()


def test_bytes_are_read_once(built: Simulated, tmp_path: Path):
    folder = tmp_path / "r"
    shutil.copytree(built.packed, folder)
    with open_evidence(folder) as evidence:
        before = evidence.read("pipeline.json")
        (folder / "pipeline.json").write_text("{}")
        assert evidence.read("pipeline.json") == before


def test_what_is_missing_or_leads_away_is_refused(built: Simulated):
    with open_evidence(built.packed) as evidence:
        with pytest.raises(FormatError):
            evidence.read("nothing")
        with pytest.raises(FormatError):
            evidence.signed_link("nothing")
        with pytest.raises(PathError):
            evidence.out_entries("../..")
        assert evidence.out_entries("nothing") is None


def test_two_links_of_one_stage_are_refused(built: Simulated, tmp_path: Path):
    folder = tmp_path / "r"
    shutil.copytree(built.packed, folder)
    shutil.copy(next(folder.glob("links/sft.*.link")), folder / "links" / "sft.00000000.link")
    with open_evidence(folder) as evidence:
        assert "sft" not in evidence.links
        with pytest.raises(FormatError):
            evidence.signed_link("sft")


def test_later_statements_are_no_bundles_of_the_release(built: Simulated, tmp_path: Path):
    folder = tmp_path / "r"
    shutil.copytree(built.packed, folder)
    (folder / "later" / "deep").mkdir(parents=True)
    for name in ("later/a-scan.sigstore.json", "later/x.json", "later/deep/x.sigstore.json",
                 "later/.sigstore.json", "later/x y.sigstore.json"):  # fmt: skip
        (folder / name).write_text("{}")
    with open_evidence(folder) as evidence:
        assert evidence.later == ("later/a-scan.sigstore.json",)
        assert not [path for path in evidence.bundles if path.startswith("later/")]


def test_names_are_known_with_their_digest_only(built: Simulated):
    with open_evidence(built.packed) as evidence:
        tree = f"tree:{CHECKPOINT}"
        digest = evidence.links["sft"].link.products[tree]
        assert evidence.names(tree, digest)
        assert evidence.names("root.layout", evidence.digest("root.layout"))
        assert not evidence.names(tree, "0" * 64)
        assert not evidence.names("root.layout", digest)
        assert not evidence.names("nothing", digest)
