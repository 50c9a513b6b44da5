"""Tokens a second of each training stage, against a bare loop of the library with equal settings.

Stage and bare loop take turns in one process, on one model and the same batches; only what the
trainer's ``train`` takes is counted. The bare loop is transformers' ``Trainer`` or TRL's own
trainer, as its documentation starts it: no callback, no progress lines, no log of steps, batches
ready in memory. The model has SmolLM2-135M's shape and random weights: speed does not depend on
their values. The runs are too short for a durable save; what one costs stands in its own column.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import load

_SEED = 7
_EOS = 2
# the settings of the embedded default, less its length
_LENGTH_TOKENS = 256
_SHAPE = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
}  # fmt: skip
_SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loops:
    """One stage's training and its bare counterpart; either trains on ``n_tokens``."""

    n_tokens: int
    stage: Callable[[], object]
    bare: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all loops share: the checkpoint, a scratch folder, and how many steps to take."""

    checkpoint: Path
    scratch: Path
    n_steps: int
    model: Any
    tokenizer: Any

    def fresh(self) -> Path:
        """The scratch folder, emptied, so that nothing is resumed."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        return self.scratch


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """One row per training stage: tokens a second of both loops, and their ratio.

    ``ratio`` is the median over the rounds of the stage's tokens/s over the bare loop's of the
    same round; ``cpu_ratio`` the same by processor time.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from forebear.train.runtime import configure_torch

    configure_torch(_SEED)
    n_rounds = 1 if quick else 5
    rows = []
    with tempfile.TemporaryDirectory(prefix="forebear-bench-") as folder:
        bench = _bench(Path(folder), _SMALL if quick else _SHAPE, n_steps=2 if quick else 3)
        for name, prepare in STAGES.items():
            loops = prepare(bench)
            turns = _take_turns(n_rounds, loops)
            rows.append(
                {
                    "stage": name,
                    "tokens": loops.n_tokens,
                    **_rates(turns, loops.n_tokens),
                    "save_s": round(_save_seconds(bench), 2) if name == "cpt" else "",
                    "rounds": n_rounds,
                    "load": load(),
                }
            )
    return rows


def _take_turns(n_rounds: int, loops: Loops) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of both loops, by round; who begins changes each round."""
    works = {"stage": loops.stage, "bare": loops.bare}
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    loops.bare()  # the first run in a process allocates and warms up
    for number in range(n_rounds):
        for name in sorted(works, reverse=bool(number % 2)):
            gc.collect()
            with _timed() as spent:
                works[name]()
            turns[name].append((spent["wall_s"], spent["cpu_s"]))
    return turns


def _rates(turns: Mapping[str, Sequence[tuple[float, float]]], n_tokens: int) -> dict[str, Any]:
    pairs = list(zip(turns["bare"], turns["stage"], strict=True))
    wall, cpu = (
        statistics.median(bare[kind] / stage[kind] for bare, stage in pairs) for kind in (0, 1)
    )
    speed = {
        f"{name}_tokens_s": round(n_tokens / statistics.median(wall for wall, _ in turns[name]), 1)
        for name in ("stage", "bare")
    }
    return {**speed, "ratio": round(wall, 3), "cpu_ratio": round(cpu, 3)}


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Seconds that a trainer's ``train`` takes inside the block, whoever calls it."""
    from transformers import Trainer

    spent: dict[str, float] = {}
    original = Trainer.train

    def train(self: Any, *arguments: Any, **options: Any) -> Any:
        used, started = time.process_time(), time.perf_counter()
        try:
            return original(self, *arguments, **options)
        finally:
            spent["wall_s"] = time.perf_counter() - started
            spent["cpu_s"] = time.process_time() - used

    Trainer.train = train
    try:
        yield spent
    finally:
        Trainer.train = original


# ── the stages ─────────────────────────────────────────────────────────────────────────────────


def _cpt(bench: Bench) -> Loops:
    from transformers import Trainer, TrainingArguments

    from forebear.train.cpt_params import CptParams
    from forebear.train.cpt_run import data_order, place_weights, train_steps
    from forebear.train.packed import Shards, boundary_inputs

    params = CptParams(
        seed=_SEED, lr=4e-4, epochs=1, batch_sequences=2, grad_accumulation=1, warmup_ratio=0.1,
        max_grad_norm=1.0, checkpoint_every_tokens=10**9, max_forgetting=1.0,
    )  # fmt: skip
    shards = bench.scratch.with_name("shards")
    _write_shards(shards, n_sequences=2 * bench.n_steps)
    data = Shards(shards)
    order = data_order(params, data, seed=_SEED)
    weights = place_weights(params, bench.model, bench.tokenizer)
    whole = boundary_inputs(data.train_NT[order], data.eos_id)
    rows = [{name: tensor[i] for name, tensor in whole.items()} for i in range(len(order))]

    def stage() -> None:
        train_steps(params, weights, data, order, scratch=bench.fresh(), seed=_SEED)

    def bare() -> None:
        arguments = TrainingArguments(
            **_plain(bench),
            per_device_train_batch_size=params.batch_sequences,
            learning_rate=params.lr,
            lr_scheduler_type="cosine",
            warmup_steps=params.warmup_ratio,
            remove_unused_columns=False,
        )
        bench.model.train()
        _train(Trainer(model=bench.model, args=arguments, train_dataset=rows))

    return Loops(len(order) * data.length_tokens, stage, bare)


def _sft(bench: Bench) -> Loops:
    """The default of sft: a LoRA adapter on every linear layer, 16 rows a step."""
    from forebear.train.sft_tune import with_adapter

    return _answers(
        bench, batch_rows=16, lr=5e-4, label="sft", wrap=lambda m: with_adapter(m, rank=64)
    )


def _distill(bench: Bench) -> Loops:
    """The student of distill: every parameter, 4 rows a step."""
    return _answers(bench, batch_rows=4, lr=5e-5, label="distill", wrap=lambda model: model)


def _answers(
    bench: Bench, *, batch_rows: int, lr: float, label: str, wrap: Callable[[Any], Any]
) -> Loops:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from forebear.train.checkpoint import load_model
    from forebear.train.sft import encode_rows, fine_tune
    from forebear.train.sft_tune import training_order

    encoded = encode_rows(_rows(batch_rows * bench.n_steps), bench.tokenizer)
    order = training_order(encoded, epochs=1, batch_rows=batch_rows, seed=_SEED)
    # an adapter stays in the model it is wrapped round, so these get one of their own
    tuned = wrap(load_model(bench.checkpoint))

    def stage() -> None:
        fine_tune(
            tuned, bench.tokenizer, encoded, label=label, scratch=bench.fresh(), seed=_SEED,
            epochs=1, batch_rows=batch_rows, lr=lr,
        )  # fmt: skip

    def bare() -> None:
        arguments = SFTConfig(
            **_plain(bench),
            per_device_train_batch_size=batch_rows,
            learning_rate=lr,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            max_length=None,
            completion_only_loss=True,
            gradient_checkpointing=False,
            bf16=False,
        )
        rows = Dataset.from_list([dict(encoded[row]) for row in order])
        _train(
            SFTTrainer(
                model=tuned, args=arguments, train_dataset=rows, processing_class=bench.tokenizer
            )
        )

    return Loops(sum(len(encoded[row]["input_ids"]) for row in order), stage, bare)


def _prefer(bench: Bench) -> Loops:
    """DPO, the default of prefer: 8 pairs a step, the reference computed once."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from forebear.train.checkpoint import load_model
    from forebear.train.pairs import encode_pairs
    from forebear.train.preference.paired import train_pairs
    from forebear.train.preference.settings import PreferParams
    from forebear.train.preference.training import Job, in_order

    params = PreferParams(
        seed=_SEED, beta=0.1, lr=2e-5, epochs=1, batch_pairs=8, warmup_ratio=0.1, forms=("code",),
        max_pairs=8, held_out_pairs=1, samples_per_prompt=1, temperature=0.7, max_new_tokens=10,
        batch_rows=8,
    )  # fmt: skip
    rows = [
        {**row, "chosen": row["answer"], "rejected": row["answer"][::-1]}
        for row in _rows(params.batch_pairs * bench.n_steps)
    ]
    pairs = encode_pairs(rows, bench.tokenizer)
    job = Job(params, bench.checkpoint, bench.tokenizer, bench.scratch)
    order = in_order(job, [pair.n_tokens for pair in pairs], batch_rows=params.batch_pairs)
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")

    class Encoded(DPOTrainer):  # type: ignore[misc]  # TRL is untyped
        """TRL's trainer on token ids that are there already; else it would render text anew."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    def stage() -> None:
        bench.fresh()
        train_pairs(job, pairs)

    def bare() -> None:
        arguments = DPOConfig(
            **_plain(bench),
            per_device_train_batch_size=params.batch_pairs,
            learning_rate=params.lr,
            lr_scheduler_type="cosine",
            warmup_steps=params.warmup_ratio,
            beta=params.beta,
            precompute_ref_log_probs=True,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
        )
        data = Dataset.from_list([{c: getattr(pairs[i], c) for c in columns} for i in order])
        _train(
            Encoded(
                model=load_model(bench.checkpoint),
                args=arguments,
                train_dataset=data,
                processing_class=bench.tokenizer,
            )
        )

    return Loops(sum(pairs[row].n_tokens for row in order), stage, bare)


STAGES: Mapping[str, Callable[[Bench], Loops]] = {
    "cpt": _cpt,
    "sft": _sft,
    "distill": _distill,
    "prefer": _prefer,
}


def _plain(bench: Bench) -> dict[str, Any]:
    """A trainer's arguments as the stages have them, less all that is done for the pipeline."""
    from forebear.train.resume import trainer_arguments

    return {
        **trainer_arguments(bench.fresh(), seed=_SEED),
        "logging_strategy": "no",
        "logging_nan_inf_filter": True,
    }


def _train(trainer: Any) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it writes between the benchmark's own lines
    trainer.train()


def _save_seconds(bench: Bench) -> float:
    """What one durable save of weights and optimizer state takes, flushed to disk."""
    import torch

    from forebear.train.checkpoint import flush_tree

    folder = bench.fresh()
    state = {
        name: (torch.zeros_like(one), torch.zeros_like(one))
        for name, one in bench.model.named_parameters()
    }
    started = time.perf_counter()
    bench.model.save_pretrained(folder / "model")
    torch.save(state, folder / "optimizer.pt")
    flush_tree(folder)
    return time.perf_counter() - started


# ── what they train on ─────────────────────────────────────────────────────────────────────────


def _bench(folder: Path, shape: Mapping[str, int], *, n_steps: int) -> Bench:
    from transformers import LlamaConfig, LlamaForCausalLM

    from forebear.train.checkpoint import load_model, load_tokenizer
    from tests.unit.train.tiny import write_checkpoint

    checkpoint = write_checkpoint(folder / "checkpoint")
    config = LlamaConfig(
        **shape, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=_EOS, pad_token_id=_EOS,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(checkpoint)
    scratch = folder / "scratch"
    model = load_model(checkpoint)
    return Bench(checkpoint, scratch, n_steps, model, load_tokenizer(checkpoint))


def _write_shards(folder: Path, *, n_sequences: int) -> None:
    """Sequences of random bytes, an end of document every sixty tokens or so."""
    import numpy as np

    from forebear.formats import strictjson

    folder.mkdir()
    draw = np.random.default_rng(_SEED)
    for name, n_rows in (
        ("train", n_sequences),
        ("validation_domain", 1),
        ("validation_replay", 1),
    ):
        ids = draw.integers(3, 259, size=(n_rows, _LENGTH_TOKENS)).astype("uint16")
        ids[draw.random(ids.shape) < 1 / 60] = _EOS
        (folder / f"{name}.bin").write_bytes(ids.tobytes())
    meta = {"dtype": "uint16", "length_tokens": _LENGTH_TOKENS, "eos_id": _EOS}
    (folder / "meta.json").write_bytes(strictjson.dumps(meta))


def _rows(n_rows: int) -> list[dict[str, str]]:
    """Titles of many lengths and codes, as the instruction rows of the embedded default."""
    draw = random.Random(_SEED)  # noqa: S311  # no secrets
    rows = []
    for number in range(n_rows):
        title = " ".join(
            draw.choices(("acute", "chronic", "other", "left", "burn"), k=draw.randint(3, 6))
        )
        code = f"{draw.choice('CHMOS')}{draw.randint(10, 99)}.{draw.randint(0, 9)}"
        rows.append({"id": f"r{number}", "prompt": f"ICD-10-CM code of {title}?", "answer": code})
    return rows
