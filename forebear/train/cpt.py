"""Continued pre-training: every parameter, on the packed sequences of ``tokenize``.

Sequences are read in an order fixed before training starts. At each checkpoint the validation
losses are measured and the weights kept; ``log.jsonl`` chains the checkpoints by digest, from the
base to the stage's out, with the range of sequences each one had seen. ``cpt.launch`` says who
starts the processes; engine ``megatron`` is handed over to.
"""

from __future__ import annotations

from pathlib import Path

from forebear.errors import EnvironmentFailure
from forebear.train.cpt_params import CptParams
from forebear.train.cpt_run import Places
from forebear.train.packed import Shards, boundary_inputs, validation_loss
from forebear.train.stage import scratch_dir, stage_seed

__all__ = ["CptParams", "Shards", "boundary_inputs", "train_cpt", "validation_loss"]


def train_cpt(
    params: CptParams,
    *,
    base: Path,
    shards: Path,
    out: Path,
    intermediate: Path,
    log: Path,
    metrics: Path,
    curves: Path,
    tokenizer: Path | None = None,
) -> None:
    """Trains ``base`` on ``shards`` and writes checkpoint, intermediates, log and figures.

    Nothing is written to an out before training has ended well.

    Raises:
        RecordError: a loss is not finite, or the replay loss rose past ``max_forgetting``.
        FormatError: base, tokenizer or shards are damaged, or do not belong together.
        EnvironmentFailure: the launcher cannot be started here.
    """
    if params.engine == "megatron":
        raise EnvironmentFailure(
            "engine megatron trains by Megatron Bridge, outside this stage",
            where="cpt.engine",
            fix="write its files with `python -m forebear.train.launch --out FOLDER --base … "
            "--shards … --checkpoint …` and run them on the cluster",
        )
    places = Places(base, shards, out, intermediate, log, metrics, curves, tokenizer)
    scratch = scratch_dir("cpt")
    seed = stage_seed(params.seed, "cpt")
    if params.launch.kind == "local":
        from forebear.train.cpt_run import train_process

        train_process(params, places, scratch=scratch, seed=seed)
    else:
        from forebear.train.launch.start import start_processes

        start_processes(params, places, scratch=scratch, seed=seed)
