from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from forebear.errors import ConfigError, FormatError, RecordError
from forebear.train.checkpoint import load_model, load_tokenizer, probe_logits, save_checkpoint
from forebear.train.sft import SftParams, encode_rows, read_rows, train_sft
from tests.unit.train.test_cpt import write_shards
from tests.unit.train.tiny import tree, write_checkpoint, write_rows

ROWS = [(f"thing {number}", f"A{number:02d}.{number % 10}") for number in range(20)]
PARAMS = {
    "seed": 3,
    "method": "full",
    "lr": 5e-3,
    "epochs": 2,
    "max_rows": 16,
    "batch_rows": 4,
    "grad_accumulation": 2,
    "warmup_ratio": 0.1,
    "held_out_rows": 4,
    "lora_rank": 8,
    "min_retention": 0.0,
    "allow": ({"rule": "sft.lr", "reason": "a tiny random model", "by": "tests"},),
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny products: a second thread only waits."""
    monkeypatch.setenv("FOREBEAR_THREADS", "1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("sft")
    rows = write_rows(folder / "rows.jsonl", ROWS)
    return write_checkpoint(folder / "base"), rows, write_shards(folder / "shards")


def run(inputs: tuple[Path, Path, Path], out: Path, **changed: object) -> dict[str, object]:
    base, rows, shards = inputs
    train_sft(
        SftParams(**{**PARAMS, **changed}),  # type: ignore[arg-type]  # plain values
        base=base,
        rows=rows,
        shards=shards,
        out=out / "checkpoint",
        adapter=out / "adapter",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
        row_list=out / "rows.jsonl",
        sweep=out / "sweep.csv",
    )
    figures: dict[str, object] = json.loads((out / "metrics.json").read_bytes())
    return figures


@pytest.mark.parametrize(("method", "lr"), [("full", 5e-3), ("lora", 5e-3)])
def test_answers_are_learned_and_twice_the_same_bytes(
    inputs: tuple[Path, Path, Path], tmp_path: Path, method: str, lr: float
) -> None:
    figures = run(inputs, tmp_path / "one", method=method, lr=lr, epochs=3)
    assert figures["after"]["answer_loss"] < figures["before"]["answer_loss"]  # type: ignore[index]
    run(inputs, tmp_path / "two", method=method, lr=lr, epochs=3)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_checkpoint_is_its_parent_plus_the_adapter(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    run(inputs, tmp_path, method="lora")
    merged = PeftModel.from_pretrained(load_model(inputs[0]), tmp_path / "adapter")
    expected = merged.merge_and_unload().state_dict()
    found = load_model(tmp_path / "checkpoint").state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in found)
    base = load_model(inputs[0]).state_dict()
    assert not all(torch.equal(base[name], found[name]) for name in found)


def test_the_loss_is_trls_loss(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import torch
    from trl import SFTConfig, SFTTrainer

    from forebear.train.sft_tune import answer_trainer

    model, tokenizer = load_model(inputs[0]), load_tokenizer(inputs[0])
    encoded = encode_rows(read_rows(inputs[1])[:4], tokenizer)
    losses = []
    for kind in (SFTTrainer, answer_trainer()):
        from datasets import Dataset

        trainer = kind(
            model=model,
            args=SFTConfig(
                output_dir=str(tmp_path), report_to=[], max_length=None, bf16=False, use_cpu=True,
                gradient_checkpointing=False, completion_only_loss=True,
            ),
            train_dataset=Dataset.from_list([dict(row) for row in encoded]),
            processing_class=tokenizer,
        )  # fmt: skip
        batch = next(iter(trainer.get_train_dataloader()))
        with torch.no_grad():
            losses.append(float(trainer.compute_loss(model, dict(batch))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_rate_out_of_range_needs_an_allowance(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(inputs, tmp_path, allow=())
    assert "sft.lr" in caught.value.where
    assert not (tmp_path / "checkpoint").exists()


def test_only_the_answer_and_its_end_mark_are_learned(inputs: tuple[Path, Path, Path]) -> None:
    tokenizer = load_tokenizer(inputs[0])
    row = read_rows(inputs[1])[0]
    encoded = encode_rows([row], tokenizer)[0]
    answer = [
        token
        for token, kept in zip(encoded["input_ids"], encoded["completion_mask"], strict=True)
        if kept
    ]
    assert tokenizer.decode(answer) == row["answer"] + "<|im_end|>"


def test_training_starts_from_its_parents_exact_answers_adapter_on(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    figures = run(inputs, tmp_path, method="lora", epochs=1)
    assert figures["logits_first_sha256"] == probe_logits(load_model(inputs[0]))
    assert figures["logits_last_sha256"] == probe_logits(load_model(tmp_path / "checkpoint"))
    assert figures["logits_last_sha256"] != figures["logits_first_sha256"]


def test_the_row_list_names_what_was_trained_on_and_what_was_held_out(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run(inputs, tmp_path, max_rows=14, epochs=1)
    listed = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_bytes().splitlines()]
    trained = [row["id"] for row in listed if row["split"] == "train"]
    held_out = [row["id"] for row in listed if row["split"] == "held_out"]
    assert len(set(trained)) == len(trained) == 12  # three whole batches; two rows were never seen
    assert len(held_out) == 4
    assert not set(trained) & set(held_out)
    assert set(trained) | set(held_out) < {row["id"] for row in read_rows(inputs[1])}


def test_packed_rows_train_alike_without_padding(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    plain = run(inputs, tmp_path / "plain")
    packed = run(inputs, tmp_path / "packed", packing=True)
    assert packed["tokens_padded"] == packed["tokens"] == plain["tokens"]
    assert int(str(plain["tokens_padded"])) > int(str(plain["tokens"]))

    def losses(name: str) -> list[float]:
        with (tmp_path / name / "curves.csv").open(newline="") as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]

    assert losses("packed") == pytest.approx(losses("plain"), rel=1e-3)


def test_bf16_changes_the_arithmetic_and_not_the_weights_type(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    plain = run(inputs, tmp_path / "plain", epochs=1)
    half = run(inputs, tmp_path / "half", epochs=1, precision="bf16")
    assert half["loss_last"] != plain["loss_last"]
    assert half["loss_last"] == pytest.approx(plain["loss_last"], rel=0.02)
    assert str(load_model(tmp_path / "half" / "checkpoint").dtype) == "torch.float32"


def test_the_chat_template_is_the_pinned_one(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match="the params pin 000"):
        run(inputs, tmp_path, chat_template_sha256="0" * 64)
    assert not (tmp_path / "checkpoint").exists()
    found = run(inputs, tmp_path, epochs=1)["chat_template_sha256"]
    again = run(inputs, tmp_path, epochs=1, chat_template_sha256=found)
    assert again["chat_template_sha256"] == found


def test_a_template_that_hides_where_the_answer_begins_is_refused(
    inputs: tuple[Path, Path, Path],
) -> None:
    tokenizer = load_tokenizer(inputs[0])
    rows = read_rows(inputs[1])[:1]
    assert encode_rows(rows, tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}"
        "{% if add_generation_prompt %}<answer>{% endif %}"
    )
    with pytest.raises(FormatError, match="cannot be told from the prompt"):
        encode_rows(rows, tokenizer)


def test_a_tokenizer_without_template_is_refused(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(inputs[0])
    tokenizer.chat_template = None
    save_checkpoint(load_model(inputs[0]), tokenizer, tmp_path / "bare")
    with pytest.raises(FormatError, match="no chat template"):
        run((tmp_path / "bare", *inputs[1:]), tmp_path)


def test_a_row_longer_than_the_context_is_named_not_cut(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [*ROWS, ("x" * 300, "Z99.9")])
    with pytest.raises(ConfigError, match=r"made:0020 has \d+ tokens, the model's context 256"):
        run((inputs[0], rows, inputs[2]), tmp_path, max_rows=30)
    assert not (tmp_path / "checkpoint").exists()


def test_a_loss_that_is_not_finite_leaves_the_outs_as_they_were(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run(inputs, tmp_path, epochs=1)
    before = tree(tmp_path)
    with pytest.raises(RecordError, match="lower the learning rate"):
        run(inputs, tmp_path, lr=1e30)
    assert tree(tmp_path) == before
