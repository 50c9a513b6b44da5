"""A base from a hub: one commit, checked file by file, refused when it is no base."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.planning.pin import resolve_commit
from forebear.train.base import BaseParams, HubSource, build_base
from forebear.train.base_sources import fetch_hub
from forebear.train.checkpoint import load_tokenizer
from forebear.train.stage import validate_section
from tests.support.hub import Hub, serve
from tests.unit.train.tiny import tree, write_checkpoint

REPO = "org/Model-1B"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = HubSource(repo=REPO, revision=COMMIT)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base as a publisher would upload it: no chat template, a card, and a pickle beside it."""
    folder = write_checkpoint(tmp_path_factory.mktemp("upstream"))
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Model\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


@pytest.fixture
def hub(upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    # read once, when the library is imported
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with serve(Hub(REPO, upstream, COMMIT)) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            served.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield served


def params(**more: object) -> BaseParams:
    section = {
        "source": {"hub": {"repo": REPO, "revision": COMMIT}},
        "licence": "MIT", "repo": REPO, "dtype": "float32", **more,
    }  # fmt: skip
    checked = validate_section(BaseParams, "base", {"seed": 7, "base": section})
    assert isinstance(checked, BaseParams)
    return checked


def build(folder: Path, given: BaseParams) -> dict[str, object]:
    build_base(
        given,
        out=folder / "checkpoint",
        facts=folder / "base.json",
        metrics=folder / "metrics.json",
    )
    facts = strictjson.parse_canonical((folder / "base.json").read_bytes(), where="base.json")
    assert isinstance(facts, dict)
    return facts


def test_a_pinned_base_is_fetched_checked_and_described(hub: Hub, tmp_path: Path) -> None:
    facts = build(tmp_path / "out", params(languages=["en", "ta"]))
    assert facts["source"] == {"kind": "hub", "repo": REPO}
    assert facts["revision"] == COMMIT
    assert facts["licence"] == "MIT"
    assert facts["languages"] == ["en", "ta"]
    assert facts["upstream_signature"] == "absent"
    assert facts["context_length"] == 256
    files = facts["files"]
    assert isinstance(files, dict)
    assert {name: entry["sha256"] for name, entry in files.items()} == {
        name: digest for name, digest in hub.stated.items() if name != "pytorch_model.bin"
    }
    again = build(tmp_path / "again", params(languages=["en", "ta"]))
    assert again == facts
    assert tree(tmp_path / "again/checkpoint") == tree(tmp_path / "out/checkpoint")


def test_nothing_pickled_is_fetched(hub: Hub) -> None:
    folder = fetch_hub(SOURCE, endpoint=hub.endpoint)
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "pytorch_model.bin").exists()
    assert not [path for path in hub.asked if path.endswith("pytorch_model.bin")]


def test_a_file_whose_digest_is_not_the_stated_one_stops_the_stage(hub: Hub) -> None:
    hub.stated["model.safetensors"] = "0" * 64
    with pytest.raises(FormatError) as error:
        fetch_hub(SOURCE, endpoint=hub.endpoint)
    assert error.value.where == "model.safetensors"


def test_a_hub_that_answers_with_another_commit_is_refused(hub: Hub) -> None:
    hub.answers_with = "f" * 40
    with pytest.raises(FormatError) as error:
        fetch_hub(SOURCE, endpoint=hub.endpoint)
    assert "f" * 40 in error.value.what


def test_a_commit_that_the_hub_lacks_is_the_environments_fault(hub: Hub) -> None:
    with pytest.raises(EnvironmentFailure) as error:
        fetch_hub(HubSource(repo=REPO, revision="f" * 40), endpoint=hub.endpoint)
    assert error.value.where == f"hub: {REPO}"
    assert "network: true" in error.value.fix


def test_a_chat_template_in_the_tokenizer_is_refused_before_the_weights_are_read(
    hub: Hub, upstream: Path, tmp_path: Path
) -> None:
    config = json.loads((upstream / "tokenizer_config.json").read_bytes())
    hub.files["tokenizer_config.json"] = json.dumps({**config, "chat_template": "{{ x }}"}).encode()
    before = tmp_path / "checkpoint" / "model.safetensors"
    before.parent.mkdir()
    before.write_bytes(b"of the last run")
    with pytest.raises(ConfigError) as error:
        build(tmp_path, params())
    assert "chat template" in error.value.what
    assert before.read_bytes() == b"of the last run"
    allow = [{"rule": "base-only", "reason": "a test of the allowance", "by": "the tests"}]
    facts = build(tmp_path, params(allow=allow))
    assert facts["instruction_tuned"] == {
        "allowed": True, "evidence": ["its tokenizer carries a chat template"]
    }  # fmt: skip


def test_a_card_with_a_base_model_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files["README.md"] = b"---\nbase_model: org/Other\n---\n"
    with pytest.raises(ConfigError) as error:
        build(tmp_path, params())
    assert "base_model" in error.value.what


def test_a_known_base_may_carry_a_template(
    upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forebear.train import base, base_sources

    folder = tmp_path / "upstream"
    shutil.copytree(upstream, folder)
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "x"}))
    monkeypatch.setattr(base_sources, "fetch_hub", lambda _: folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # given back afterwards: the stage sets it
    known = "Qwen/Qwen3-4B-Base"
    section = {
        "source": {"hub": {"repo": known, "revision": COMMIT}},
        "licence": "Apache-2.0", "repo": known,
    }  # fmt: skip
    given = validate_section(BaseParams, "base", {"seed": 7, "base": section})
    assert isinstance(given, BaseParams)
    assert base.known_base(known)
    assert build(tmp_path / "out", given)["instruction_tuned"] == {"allowed": False, "evidence": []}


def test_a_branch_is_resolved_to_the_commit_to_paste(hub: Hub) -> None:
    assert resolve_commit(REPO, "main", endpoint=hub.endpoint) == COMMIT
    with pytest.raises(EnvironmentFailure) as error:
        resolve_commit(REPO, "no-such-branch", endpoint=hub.endpoint)
    assert error.value.where == f"hub: {REPO}"


def test_the_stage_itself_goes_online_for_a_hub_source(
    upstream: Path, tmp_path: Path, repository: Path
) -> None:
    section = {
        "source": {"hub": {"repo": REPO, "revision": COMMIT}}, "licence": "MIT", "repo": REPO
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(json.dumps({"seed": 7, "base": section}))
    words = ["--out", "out", "--facts", "base.json", "--metrics", "metrics.json"]
    with serve(Hub(REPO, upstream, COMMIT)) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "stages.base", *words],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(repository),
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_OFFLINE": "1",  # as the runtime sets it for every stage
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    facts = strictjson.parse((tmp_path / "base.json").read_bytes(), where="base.json")
    assert isinstance(facts, dict)
    assert facts["revision"] == COMMIT
    assert hub.asked
