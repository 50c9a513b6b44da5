from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from forebear.cli.trace import command as trace
from forebear.cli.verify import command as verify
from forebear.errors import EnvironmentFailure, UsageError
from tests.support.release import WEIGHTS, Simulated


def call(command, *words: object):
    result = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def test_verify_tells_each_check_and_counts(built: Simulated):
    code, text = call(verify, built.packed, "--trust", built.owner_pub)
    lines = text.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[1:17]] == [f"C{n}" for n in range(1, 17)]
    assert lines[-1].startswith("verified: ")
    assert ", 0 failed, " in lines[-1]


def test_verify_strict_returns_3(built: Simulated):
    code, text = call(verify, built.packed, "--trust", built.owner_pub, "--strict")
    assert code == 3
    assert text.splitlines()[-1].startswith("not verified: ")


def test_verify_names_the_first_broken_edge(built: Simulated, tmp_path: Path):
    folder = tmp_path / "r"
    shutil.copytree(built.packed, folder)
    (folder / WEIGHTS).write_text("x")
    code, text = call(verify, folder, "--trust", built.owner_pub)
    assert code == 1
    assert f"{WEIGHTS} on disk is not the file that stage 'sft' produced" in text
    *_, summary, edge = text.splitlines()
    assert summary.startswith("not verified: ")
    assert edge.startswith("First broken edge: stage 'sft': ")


def test_verify_prints_odd_names_safely(built: Simulated, tmp_path: Path):
    folder = tmp_path / "r"
    shutil.copytree(built.packed, folder)
    (folder / "\x1b[2Jverified").write_text("x")
    _, text = call(verify, folder, "--trust", built.owner_pub)
    assert "\x1b" not in text


def test_verify_json_has_the_facts_of_the_text(built: Simulated):
    code, text = call(verify, built.packed, "--trust", built.owner_pub, "--json")
    value = json.loads(text)
    assert value["schema"] == "forebear.verify/v1"
    assert value["exit_code"] == code == 0
    assert len(value["checks"]) == 16


def test_a_release_needs_trust(built: Simulated):
    with pytest.raises(UsageError):
        call(verify, built.packed)


def test_trust_from_the_release_itself_is_refused(built: Simulated):
    with pytest.raises(UsageError):
        call(verify, built.packed, "--trust", built.packed / "owner.pub")


def test_a_repository_is_checked_with_the_own_key(
    built: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repo = tmp_path / "repo"
    shutil.copytree(built.repo, repo)
    (repo / ".dvc").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFailure):
        call(verify, repo)
    keys = tmp_path / "forebear" / "keys"
    keys.mkdir(parents=True)
    shutil.copy(built.owner_pub, keys / "owner.pub")
    _, text = call(verify, repo)
    assert text.startswith("repository, trusting your own key")


def test_an_ordinary_folder_and_nothing_at_all_are_refused(tmp_path: Path, built: Simulated):
    with pytest.raises(UsageError):
        call(verify, tmp_path, "--trust", built.owner_pub)
    with pytest.raises(EnvironmentFailure):
        call(verify, tmp_path / "nothing", "--trust", built.owner_pub)


def test_trace_walks_back_to_sources(built: Simulated):
    code, text = call(trace, WEIGHTS, built.packed)
    assert code == 0
    assert "made by sft" in text
    assert "made by base" in text
    assert "source" in text


def test_trace_finds_a_file_by_its_digest_and_by_its_bytes(built: Simulated):
    by_path = json.loads(call(trace, WEIGHTS, built.packed, "--json")[1])
    digest = by_path["found"][0]["digest"]
    by_digest = json.loads(call(trace, digest, built.packed, "--json")[1])
    by_file = json.loads(call(trace, built.packed / WEIGHTS, built.packed, "--json")[1])
    assert by_digest == by_file == by_path


def test_trace_refuses_what_no_link_names(built: Simulated):
    with pytest.raises(UsageError):
        call(trace, "data/nothing", built.packed)
