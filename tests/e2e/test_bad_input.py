"""Bad input: each with one clear message, the right exit code, no traceback, earlier outs intact.

One clone of the smoke profile, run as far as ``tokenize``, serves the module. Training starts only
where the fault lies in what a training stage reads or writes.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import stages.__main__
from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from tests.support.bad_input import (
    built_clone,
    change,
    command,
    outs,
    require_one_message,
    unchanged,
)
from tests.support.clone import Clone

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BASE, CURATE, TOKENIZE, CPT = map(command, ("base", "curate", "tokenize", "cpt"))
ATTEST = (
    *("python", "-m", "stages.attest", "--links", "links", "--gate", "data/eval/verdict"),
    *("--documents", "cards/documents", "--release", "release"),
)
RECORD_TOKENIZE = ("forebear", "record", "tokenize", "--", *TOKENIZE)

UNKNOWN_KEY = ("  replay_share: 0.15", "  replay_share: 0.15\n  replay_sahre: 0.1")
WRONG_TYPE = ("  length_tokens: 64", "  length_tokens: many")
TOO_MUCH_REPLAY = ("  replay_share: 0.15", "  replay_share: 0.4")
ALLOWED_REPLAY = (
    "  replay_share: 0.15",
    """\
  replay_share: 0.4
  allow:
    - rule: tokenize.replay_share
      reason: shows that an allowance is heeded
      by: Forebear tests""",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return built_clone(tmp_path_factory.getbasetemp() / "bad_input")


@pytest.fixture
def clone(built: Clone) -> Iterator[Clone]:
    """The clone; params and links are put back, and every out must be as it was before."""
    with unchanged(built):
        yield built


# ── params ─────────────────────────────────────────────────────────────────────────────────────


def test_every_fault_of_the_params_is_listed_at_once_and_nothing_runs(clone: Clone) -> None:
    change(clone, UNKNOWN_KEY, WRONG_TYPE, ("attest:", "atest:"))
    done = clone.run("python", "-m", "stages", check=False)
    require_one_message(
        done,
        2,
        "params.yaml: 3 fault(s)",
        "atest: no stage reads this section",
        "tokenize.replay_sahre: unknown key",
        "tokenize.length_tokens: Input should be a valid integer (got 'many')",
    )


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"seed: 7\nseed: 8\n", 2, "duplicate key"),
        (b"seed: [7\n", 2, "params.yaml"),
        (b"- seed\n", 2, "params.yaml: must be a mapping of sections"),
        (b"seed: \xff\n", 2, "params.yaml: is no UTF-8"),
        (b"seed: 7\nbase: 8\n", 2, "base: must be a mapping"),
        (None, 4, "params.yaml: cannot read the parameters: No such file or directory"),
    ],
)
def test_a_params_file_that_is_none_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOREBEAR_PARAMS", raising=False)
    if content is not None:
        (tmp_path / "params.yaml").write_bytes(content)
    assert stages.__main__.main() == code
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("error: ") == 1


def test_an_unknown_key_stops_the_recorded_stage(clone: Clone) -> None:
    change(clone, UNKNOWN_KEY)
    done = clone.run(*RECORD_TOKENIZE, check=False)
    require_one_message(done, 2, "tokenize.replay_sahre: unknown key", "no link was signed")
    assert not (clone.root / "links" / "tokenize.link").exists()


def test_a_wrong_type_stops_the_repro_and_a_checkout_brings_the_outs_back(clone: Clone) -> None:
    before = outs(clone)
    kept = (clone.root / "params.yaml").read_bytes()
    change(clone, WRONG_TYPE)
    done = clone.run("dvc", "repro", "tokenize", check=False)
    # the exit code is DVC's own for a failed stage, which ours stands in
    require_one_message(done, 255, "tokenize.length_tokens: Input should be a valid integer")
    assert "exited with 2" in done.stderr
    # DVC removes the outs of the stage that it is about to run; they are in its cache
    left = outs(clone)
    assert left == {name: before[name] for name in before if not name.startswith("data/tokenize/")}
    (clone.root / "params.yaml").write_bytes(kept)
    clone.run("dvc", "checkout", "tokenize")


def test_too_much_replay_is_refused(clone: Clone) -> None:
    change(clone, TOO_MUCH_REPLAY)
    done = clone.run(*TOKENIZE, check=False)
    require_one_message(
        done,
        2,
        "params.yaml: tokenize.replay_share: 0.4 is outside the accepted range 0.05 to 0.2",
        "fix: ",
        "{rule: tokenize.replay_share, reason: …, by: …}",
    )


def test_too_much_replay_passes_with_an_allowance(clone: Clone, tmp_path: Path) -> None:
    change(clone, ALLOWED_REPLAY)
    elsewhere = [word.replace("data/tokenize", str(tmp_path)) for word in TOKENIZE]
    clone.run(*elsewhere)
    assert (tmp_path / "shards" / "train.bin").stat().st_size


@pytest.mark.parametrize("value", ["two", "0", "-1", ""])
def test_a_number_of_threads_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    from forebear.train.runtime import threads

    monkeypatch.setenv("FOREBEAR_THREADS", value)
    with pytest.raises(ConfigError, match="is no positive number") as caught:
        threads()
    assert caught.value.where == "FOREBEAR_THREADS"


# ── sources and files ──────────────────────────────────────────────────────────────────────────


def test_a_base_package_that_is_not_installed_is_named(clone: Clone) -> None:
    package = "package: {name: llm-nowhere, version: 1.0.0, file: weights.gguf}"
    change(clone, ("random: {hidden_size: 64, layers: 2, heads: 2, vocab_size: 512}", package))
    done = clone.run(*BASE, check=False)
    require_one_message(
        done, 4, "package llm-nowhere: is not installed", "fix: pip install llm-nowhere==1.0.0"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "      version: 1.5.0",
            "      version: 0.0.1",
            "the params pin 0.0.1",
        ),
        (
            "      kind: package\n      package: pydoc_data.topics\n      version: stdlib",
            "      kind: jsonl\n      path: data/nowhere.jsonl",
            "data/nowhere.jsonl: cannot read the source: there is no such file",
        ),
    ],
    ids=["package", "file"],
)
def test_a_source_that_is_not_there_is_named(clone: Clone, old: str, new: str, said: str) -> None:
    change(clone, (old, new))
    require_one_message(clone.run(*CURATE, check=False), 4, said)


def test_a_dep_that_is_not_there_is_named_before_the_stage_runs(clone: Clone) -> None:
    corpus = clone.root / "data" / "curate" / "corpus"
    aside = corpus.rename(clone.root / "aside")
    try:
        done = clone.run(*RECORD_TOKENIZE, check=False)
        require_one_message(done, 4, "data/curate/corpus")
    finally:
        aside.rename(corpus)


def test_a_truncated_checkpoint_is_named_before_training_starts(clone: Clone) -> None:
    weights = clone.root / "data" / "base" / "checkpoint" / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[: len(content) // 2])
        done = clone.run(*CPT, check=False)
    finally:
        weights.write_bytes(content)
    require_one_message(
        done, 2, "data/base/checkpoint/model.safetensors: is damaged or cut short", "fix: "
    )
    assert not (clone.root / "data" / "cpt").exists()


@pytest.mark.parametrize("length", [0, 7, 100])
def test_a_checkpoint_cut_in_its_header_is_named(clone: Clone, tmp_path: Path, length: int) -> None:
    from forebear.train.checkpoint import load_model

    folder = tmp_path / "checkpoint"
    shutil.copytree(clone.root / "data" / "base" / "checkpoint", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(FormatError, match="cut short") as caught:
        load_model(folder)
    assert caught.value.where == str(weights)
    assert caught.value.exit_code == 2


# ── a full disk ────────────────────────────────────────────────────────────────────────────────


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")


def no_space_in_safetensors(*_: object, **__: object) -> None:
    from safetensors import SafetensorError

    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


def no_space_in_torch(*_: object, **__: object) -> None:
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


@pytest.fixture(scope="module")
def loaded(built: Clone) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from forebear.train.checkpoint import load_model, load_tokenizer

    folder = built.root / "data" / "base" / "checkpoint"
    return load_model(folder), load_tokenizer(folder)


@pytest.mark.parametrize("fails", [no_space, no_space_in_safetensors])
@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_no_part_of_the_new(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[..., None],
    what: str,
) -> None:
    from forebear.hashing.digest import hash_tree
    from forebear.train.checkpoint import save_checkpoint

    model, tokenizer = loaded
    out = tmp_path / "checkpoint"
    save_checkpoint(model, tokenizer, out)
    before = hash_tree(out).digest
    monkeypatch.setattr({"model": model, "tokenizer": tokenizer}[what], "save_pretrained", fails)
    with pytest.raises(EnvironmentFailure, match=r"(?i)no space left") as caught:
        save_checkpoint(model, tokenizer, out)
    assert caught.value.exit_code == 4
    assert caught.value.where == str(out)
    assert hash_tree(out).digest == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("fails", [no_space, no_space_in_safetensors, no_space_in_torch])
def test_a_full_disk_while_the_training_state_is_saved_is_one_message(
    tmp_path: Path, fails: Callable[..., None]
) -> None:
    from forebear.train.resume import run_trainer

    trainer: Any = SimpleNamespace(
        remove_callback=lambda _: None, add_callback=lambda _: None, train=fails
    )
    refusal = r"cannot save the training state: (No space left on device|the disk is full)"
    with pytest.raises(EnvironmentFailure, match=refusal) as caught:
        run_trainer(trainer, tmp_path, label="cpt")
    assert caught.value.exit_code == 4
    assert "goes on from the last durable point" in caught.value.fix


def test_a_fault_that_is_not_the_disks_is_not_called_a_full_disk(tmp_path: Path) -> None:
    from forebear.train.resume import run_trainer

    def fails(**_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    trainer: Any = SimpleNamespace(
        remove_callback=lambda _: None, add_callback=lambda _: None, train=fails
    )
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_trainer(trainer, tmp_path, label="cpt")


def test_a_disk_that_takes_no_more_ends_the_stage_with_its_outs_intact(clone: Clone) -> None:
    # a limit on the size of files stands in for the disk: it needs no rights and meets every
    # library's own way of writing
    limited = ("bash", "-c", 'ulimit -f 64 && exec "$@"', "bash")
    done = clone.run(*limited, *BASE, check=False)
    require_one_message(
        done, 4, "data/base/checkpoint: cannot write the checkpoint: File too large", "fix: "
    )


def test_a_disk_that_is_really_full_ends_the_stage_in_one_message(
    clone: Clone, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    inside = (
        *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
        'mount -t tmpfs -o size=300k forebear "$0" || exit 99; "$@"; code=$?; ls "$0"; exit $code',
        str(small),
    )
    if shutil.which("unshare") is None or clone.run(*inside, "true", check=False).returncode:
        pytest.skip("this machine lets no test mount a disk of its own")
    there = {"FOREBEAR_SCRATCH": str(small / "scratch"), "FOREBEAR_SAVE_EVERY_S": "0"}
    done = clone.run(*inside, *CPT, check=False, extra=there)
    require_one_message(
        done, 4, "cannot save the training state: No space left on device", "fix: free disk space"
    )
    assert not (clone.root / "data" / "cpt").exists()


# ── git and keys ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def without_git(clone: Clone) -> Iterator[Clone]:
    git = clone.root / ".git"
    aside = git.rename(clone.root / "aside.git")
    yield clone
    aside.rename(git)


@pytest.mark.parametrize("command", [RECORD_TOKENIZE, ("forebear", "attest")], ids=lambda c: c[1])
def test_no_git_repository_is_one_message(without_git: Clone, command: tuple[str, ...]) -> None:
    done = without_git.run(*command, check=False)
    require_one_message(
        done, 4, "is not inside a git repository", str(without_git.root), "git init"
    )
    assert (without_git.root / "links" / "tokenize.link").exists()


def test_no_git_repository_stops_dvc_and_the_doctor_before_it(without_git: Clone) -> None:
    done = without_git.run("dvc", "repro", "tokenize", check=False)
    # DVC refuses by itself, in its own words and with its own exit code
    assert done.returncode == 255
    assert f"{without_git.root} is not a git repository" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    # `make repro` asks the doctor first
    examined = without_git.run("forebear", "doctor", "--mend", check=False)
    assert examined.returncode == 4
    assert examined.stdout.count("is not inside a git repository") == 1


@pytest.mark.parametrize(
    ("role", "command"),
    [("recorder", RECORD_TOKENIZE), ("owner", ATTEST)],
    ids=["record", "attest"],
)
def test_a_key_that_others_may_read_stops_before_anything_runs(
    clone: Clone, role: str, command: tuple[str, ...]
) -> None:
    key = Path(clone.env["XDG_CONFIG_HOME"]) / "forebear" / "keys" / f"{role}.pem"
    shards = clone.root / "data" / "tokenize" / "shards"
    made_at = shards.stat().st_mtime_ns
    key.chmod(0o644)
    try:
        done = clone.run(*command, check=False)
    finally:
        key.chmod(0o600)
    require_one_message(
        done, 4, f"{key}: others may read the key (mode 0644)", f"fix: chmod 600 {key}"
    )
    assert shards.stat().st_mtime_ns == made_at
    assert (clone.root / "links" / "tokenize.link").exists()
    assert not (clone.root / "release").exists()
