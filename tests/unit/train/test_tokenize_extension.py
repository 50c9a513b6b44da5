"""The extended vocabulary: what it saves, what it must not touch, and how the base takes it."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebear.errors import ConfigError, FormatError
from forebear.train.base import BaseParams, build_base
from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
from forebear.train.stage import validate_section
from forebear.train.tokenize.corpus import load_encoder
from forebear.train.tokenize.extension import apply_extension
from forebear.train.tokenize.params import TokenizeParams
from forebear.train.tokenize.work import build_shards
from tests.unit.train.tiny import tree

SECTION = {
    "length_tokens": 32,
    "replay_share": 0.15,
    "domain_tokens": 1500,
    "validation_tokens": 128,
    "extend": True,
    "extend_above": 1.2,
    "max_new_tokens": 60,
    "min_saved_tokens": 20,
}
DISEASES = ("osteomyelitis", "hypersensitivity angiitis", "histiocytosis", "puerperal sepsis")
SITES = ("femur", "mastoid process", "adnexa", "clavicle", "vertebrae")
ENDINGS = ("subsequent encounter", "sequela", "initial encounter")


def params(**more: object) -> TokenizeParams:
    checked = validate_section(TokenizeParams, "tokenize", {"seed": 7, "tokenize": SECTION | more})
    assert isinstance(checked, TokenizeParams)
    return checked


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    section = {
        "source": {"random": {"hidden_size": 16, "layers": 1, "heads": 2, "vocab_size": 400}},
        "licence": "CC0-1.0",
        "repo": "forebear/random",
        "dtype": "float32",
    }
    checked = validate_section(BaseParams, "base", {"seed": 7, "base": section})
    assert isinstance(checked, BaseParams)
    build_base(checked, out=folder / "c", facts=folder / "f", metrics=folder / "m")
    return folder / "c"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(4)  # noqa: S311  # made-up text, no secret
    domain = [
        f"{rng.choice(DISEASES)} of {rng.choice(SITES)}, {rng.choice(ENDINGS)} S{i}.{i % 90}"
        for i in range(400)
    ]
    replay = [topics[name][:400] for name in sorted(topics)][:30]
    for role, texts in (("domain", domain), ("replay", replay)):
        lines = [json.dumps({"id": f"{role}:{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def build(folder: Path, section: TokenizeParams, base: Path, corpus: Path) -> dict[str, Any]:
    build_shards(
        section,
        base=base,
        corpus=corpus,
        shards=folder / "shards",
        tokenizer=folder / "tokenizer",
        metrics=folder / "metrics.json",
    )
    figures: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes())
    return figures


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, base: Path, corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    build(folder, params(), base, corpus)
    return folder


def described(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "tokenizer" / "extension.json").read_bytes())
    return value


def test_the_new_tokens_save_tokens_on_text_they_were_not_learned_on(
    built: Path, base: Path, corpus: Path
) -> None:
    figures = json.loads((built / "metrics.json").read_bytes())["extension"]
    held = figures["saved"]["held_out_domain"]
    old, new = load_encoder(base).tokenizer, load_encoder(built / "tokenizer").tokenizer
    texts = [json.loads(line)["text"] for line in (corpus / "domain.jsonl").open()]
    counts = [
        sum(len(t.encode(text).ids) for text in texts[: held["documents"]]) for t in (old, new)
    ]
    assert [held["tokens_before"], held["tokens_after"]] == counts
    assert held["saved_share"] == 1 - counts[1] / counts[0] > 0.2
    assert figures["saved"]["replay"]["saved_share"] < 0.05
    assert figures["new_tokens"] == described(built)["n_tokens"] > 10


def test_a_shard_of_equal_size_holds_more_text(
    built: Path, tmp_path: Path, base: Path, corpus: Path
) -> None:
    build(tmp_path, params(extend=False), base, corpus)
    old, new = (json.loads((f / "shards/meta.json").read_bytes()) for f in (tmp_path, built))
    assert old["n_sequences"] == new["n_sequences"]
    assert new["train_bytes"] > 1.2 * old["train_bytes"]
    assert new["validation_bytes"]["domain"] > 1.2 * old["validation_bytes"]["domain"]
    assert new["vocab_size"] > old["vocab_size"]


def test_the_validation_split_was_not_learned_on(
    tmp_path: Path, built: Path, base: Path, corpus: Path
) -> None:
    figures = json.loads((built / "metrics.json").read_bytes())
    held = figures["extension"]["saved"]["held_out_domain"]["documents"]
    assert figures["documents"]["validation_domain"]["domain"] <= held
    marked = tmp_path / "corpus"
    shutil.copytree(corpus, marked)
    lines = (marked / "domain.jsonl").read_text().splitlines()
    first = [json.dumps({"id": f"m:{i}", "text": "zyzzyva quokka " * 20}) for i in range(2)]
    (marked / "domain.jsonl").write_text("\n".join([*first, *lines[2:]]) + "\n")
    build(tmp_path, params(), base, marked)
    assert not any("zy" in one["token"] for one in described(tmp_path)["tokens"])


def test_old_ids_never_move_and_new_ones_follow(built: Path, base: Path) -> None:
    before, after = (
        load_tokenizer(base).get_vocab(),
        load_tokenizer(built / "tokenizer").get_vocab(),
    )
    assert before.items() < after.items()
    new = described(built)
    ids = {one["id"] for one in new["tokens"]}
    assert ids == set(range(len(before), len(after)))
    assert {after[one["token"]] for one in new["tokens"]} == ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.text() | st.lists(st.sampled_from([*DISEASES, *SITES, "S42", " ", "é"])).map("".join)
)
def test_any_text_is_cut_as_before_with_some_runs_joined_and_decodes_alike(
    built: Path, base: Path, text: str
) -> None:
    old, new = load_encoder(base).tokenizer, load_encoder(built / "tokenizer").tokenizer
    parts = {one["id"]: one["parts"] for one in described(built)["tokens"]}
    ids = new.encode(text, add_special_tokens=False).ids
    spelled = [part for token in ids for part in parts.get(token, [token])]
    assert spelled == old.encode(text, add_special_tokens=False).ids
    assert new.decode(ids, skip_special_tokens=False) == text


def test_every_new_token_round_trips(built: Path) -> None:
    tokenizer = load_tokenizer(built / "tokenizer")
    for one in described(built)["tokens"]:
        text = tokenizer.decode([one["id"]])
        assert tokenizer.encode(text, add_special_tokens=False) == [one["id"]]


def test_the_base_takes_the_means_and_keeps_its_old_rows(built: Path, base: Path) -> None:
    import torch

    before, model = load_model(base), load_model(base)
    apply_extension(model, built / "tokenizer")
    old, new = before.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert torch.equal(new[: len(old)], old)
    for one in described(built)["tokens"]:
        assert torch.allclose(new[one["id"]], old[one["parts"]].mean(dim=0))
    assert model.get_output_embeddings().weight is new
    assert model.config.vocab_size == len(new) == len(load_tokenizer(built / "tokenizer"))
    probe = torch.arange(10)[None]
    with torch.no_grad():
        logits = model(probe).logits[..., : len(old)]
        assert torch.allclose(logits, before(probe).logits, atol=1e-5)


def test_the_extended_checkpoint_is_saved_and_loaded_whole(
    built: Path, base: Path, tmp_path: Path
) -> None:
    import torch

    model, tokenizer = load_model(base), load_tokenizer(built / "tokenizer")
    apply_extension(model, built / "tokenizer")
    save_checkpoint(model, tokenizer, tmp_path / "child")
    child = load_model(tmp_path / "child")
    again = load_tokenizer(tmp_path / "child")
    assert torch.equal(child.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert again.get_vocab() == tokenizer.get_vocab()
    text = "hypersensitivity angiitis of mastoid process"
    assert again.encode(text) == tokenizer.encode(text)
    assert len(again.encode(text)) < len(load_tokenizer(base).encode(text))


def test_child_and_base_are_still_seen_as_kin(built: Path, base: Path, tmp_path: Path) -> None:
    from forebear.evidence.weights import first_difference
    from forebear.train.compare import distance, edge
    from forebear.train.kinship import kinship

    model = load_model(base)
    apply_extension(model, built / "tokenizer")
    save_checkpoint(model, load_tokenizer(built / "tokenizer"), tmp_path / "child")
    assert kinship(base, tmp_path / "child")["verdict"] == "consistent"
    assert edge(tmp_path / "child", [base], None)["repeats"] == []
    assert edge(base, [base], None)["repeats"] == [str(base)]
    assert distance(base, tmp_path / "child")["other_form"] == ["model.embed_tokens.weight"]
    found = first_difference(base, tmp_path / "child")
    assert found is not None
    assert "has shape" in found.what


def remade(base: Path, folder: Path, *, tied: bool, spare_rows: int = 0, seed: int = 3) -> Path:
    """A Llama with the same tokenizer, output rows of its own or not, and rows to spare."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(base)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + spare_rows, hidden_size=16, intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    save_checkpoint(LlamaForCausalLM(config), tokenizer, folder)
    return folder


def test_a_base_with_output_rows_of_its_own_gets_means_of_those(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    import torch

    other = remade(base, tmp_path / "base", tied=False)
    build(tmp_path, params(), other, corpus)
    before, model = load_model(other), load_model(other)
    apply_extension(model, tmp_path / "tokenizer")
    rows = model.get_output_embeddings().weight
    assert rows is not model.get_input_embeddings().weight
    for one in described(tmp_path)["tokens"]:
        mean = before.get_output_embeddings().weight[one["parts"]].mean(dim=0)
        assert torch.allclose(rows[one["id"]], mean)


def test_spare_rows_of_the_base_are_used_before_it_grows(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    other = remade(base, tmp_path / "base", tied=True, spare_rows=200)
    build(tmp_path, params(), other, corpus)
    model = load_model(other)
    apply_extension(model, tmp_path / "tokenizer")
    assert described(tmp_path)["first_id"] == len(load_tokenizer(base))
    assert len(model.get_input_embeddings().weight) == len(load_tokenizer(base)) + 200


def test_rows_are_refused_by_another_model_and_a_second_time(
    tmp_path: Path, built: Path, base: Path
) -> None:
    model = load_model(base)
    apply_extension(model, built / "tokenizer")
    stranger = load_model(remade(base, tmp_path / "stranger", tied=True))
    for wrong in (model, stranger):
        with pytest.raises(FormatError, match="another model"):
            apply_extension(wrong, built / "tokenizer")


def test_a_damaged_row_file_is_refused_by_name(tmp_path: Path, built: Path, base: Path) -> None:
    shutil.copytree(built / "tokenizer", tmp_path / "t")
    file = tmp_path / "t" / "rows.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(FormatError) as caught:
        apply_extension(load_model(base), tmp_path / "t")
    assert caught.value.where.endswith("rows.safetensors")


@pytest.mark.parametrize("changed", [{"extend": False}, {"extend_above": 50.0}])
def test_without_extension_the_tokenizer_is_the_base_s_and_the_model_stays(
    tmp_path: Path, base: Path, corpus: Path, changed: dict[str, object]
) -> None:
    figures = build(tmp_path, params(**changed), base, corpus)["extension"]
    assert (figures["extended"], figures["new_tokens"]) == (False, 0)
    files = tree(tmp_path / "tokenizer")
    assert files == {name: (base / name).read_bytes() for name in files}
    assert "tokenizer.json" in files
    model = load_model(base)
    apply_extension(model, tmp_path / "tokenizer")
    assert tree_of(model) == tree_of(load_model(base))


def tree_of(model: Any) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_tokens_beside_the_model_keep_their_ids(tmp_path: Path, base: Path, corpus: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    file = tmp_path / "base" / "tokenizer.json"
    value = json.loads(file.read_bytes())
    place = max(value["model"]["vocab"].values()) + 1
    value["added_tokens"].append(value["added_tokens"][0] | {"id": place, "content": "<|tool|>"})
    file.write_text(json.dumps(value))
    other = remade(tmp_path / "base", tmp_path / "other", tied=True)
    build(tmp_path, params(), other, corpus)
    found = load_tokenizer(tmp_path / "tokenizer")
    assert found.convert_tokens_to_ids("<|tool|>") == place
    assert described(tmp_path)["first_id"] == place + 1
    found.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").get_vocab() == found.get_vocab()


def test_numbers_are_still_spelled_digit_by_digit(tmp_path: Path, base: Path, corpus: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    rows = [json.dumps({"id": f"n:{i}", "text": f"S72 0{i % 2}1 of 1234"}) for i in range(600)]
    (tmp_path / "corpus" / "domain.jsonl").write_text("\n".join(rows) + "\n")
    shutil.copytree(base, tmp_path / "base")
    file = tmp_path / "base" / "tokenizer.json"
    value = json.loads(file.read_bytes())
    value["pre_tokenizer"] = value["pre_tokenizer"]["pretokenizers"][1]  # nothing parts digits now
    file.write_text(json.dumps(value))
    build(tmp_path, params(), tmp_path / "base", tmp_path / "corpus")
    tokens = [one["token"] for one in described(tmp_path)["tokens"]]
    assert tokens
    assert not any(a.isdigit() and b.isdigit() for t in tokens for a, b in itertools.pairwise(t))


def test_a_tokenizer_that_is_no_plain_bpe_is_refused_and_passes_without_extension(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    from tokenizers import Tokenizer, models

    shutil.copytree(base, tmp_path / "base")
    vocabulary = [("<|im_end|>", 0.0), *((chr(n), -float(n)) for n in range(32, 127))]
    other = Tokenizer(models.Unigram(vocabulary, unk_id=1))
    other.save(str(tmp_path / "base" / "tokenizer.json"))
    with pytest.raises(ConfigError, match="Unigram"):
        build(tmp_path, params(), tmp_path / "base", corpus)
    build(tmp_path, params(extend=False), tmp_path / "base", corpus)


def test_a_corpus_with_nothing_left_to_learn_on_is_refused(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    with pytest.raises(ConfigError, match="nothing is left to learn"):
        build(tmp_path, params(validation_tokens=100_000), base, corpus)
    assert not list(tmp_path.iterdir())


_KILLED = """
import os, signal, sys
from pathlib import Path
from forebear.train.tokenize import work
from tests.unit.train.test_tokenize_extension import build, params
work._meta = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
build(*(f(a) for f, a in zip((Path, lambda _: params(), Path, Path), sys.argv[1:])))
"""


def test_a_killed_run_started_again_gives_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, built: Path, base: Path, corpus: Path
) -> None:
    words = [sys.executable, "-c", _KILLED, tmp_path, "", base, corpus]
    killed = subprocess.run([str(word) for word in words], check=False, capture_output=True)
    assert killed.returncode == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shards.partial",
        "tokenizer.partial",
    ]
    build(tmp_path, params(), base, corpus)
    assert tree(tmp_path) == tree(built)
