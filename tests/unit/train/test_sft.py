from __future__ import annotations

import json
from pathlib import Path

import pytest

from forebear.errors import ConfigError
from forebear.train.checkpoint import load_model, load_tokenizer
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
    "allow": ({"rule": "sft.lr", "reason": "a tiny random model", "by": "tests"},),
}


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
    )
    figures: dict[str, object] = json.loads((out / "metrics.json").read_bytes())
    return figures


@pytest.mark.parametrize(("method", "lr"), [("full", 5e-3), ("lora", 5e-3)])
def test_answers_are_learned_and_twice_the_same_bytes(
    inputs: tuple[Path, Path, Path], tmp_path: Path, method: str, lr: float
) -> None:
    figures = run(inputs, tmp_path / "one", method=method, lr=lr, epochs=6, lora_rank=8)
    assert figures["after"]["answer_loss"] < figures["before"]["answer_loss"]  # type: ignore[index]
    run(inputs, tmp_path / "two", method=method, lr=lr, epochs=6, lora_rank=8)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_checkpoint_is_its_parent_plus_the_adapter(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    run(inputs, tmp_path, method="lora", lora_rank=8)
    merged = PeftModel.from_pretrained(load_model(inputs[0]), tmp_path / "adapter")
    expected = merged.merge_and_unload().state_dict()
    found = load_model(tmp_path / "checkpoint").state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in found)
    base = load_model(inputs[0]).state_dict()
    assert not all(torch.equal(base[name], found[name]) for name in found)


def test_the_loss_is_trls_loss(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import torch
    from trl import SFTConfig, SFTTrainer

    from forebear.train import sft

    model, tokenizer = load_model(inputs[0]), load_tokenizer(inputs[0])
    encoded = encode_rows(read_rows(inputs[1])[:4], tokenizer)
    losses = []
    for kind in (SFTTrainer, sft._answer_trainer()):
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
