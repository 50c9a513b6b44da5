"""Preference optimisation of a checkpoint: DPO, SimPO, ORPO, KTO or GRPO, by TRL's trainers.

On policy, the checkpoint answers each prompt once more; a refuted answer becomes the rejected side,
the verified code the chosen one. Where every answer was right, a sibling code is the rejected side.
Otherwise a file gives pairs, or thumbs up and down. The reference is the parent itself.

Whatever the method, the same figures are taken on what is held out, before and after: margin,
accuracy, divergence from the parent, length of the answers, share of them that is verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.formats import strictjson
from forebear.train.distill.verifiers import load_verifier
from forebear.train.pairs import encode_pairs, encode_thumbs
from forebear.train.preference.data import Material, Policy, as_thumbs, gather, sample
from forebear.train.preference.figures import compare, counts, lengths, score, verified
from forebear.train.preference.grpo import train_rewards
from forebear.train.preference.kto import train_thumbs
from forebear.train.preference.paired import train_pairs
from forebear.train.preference.settings import PreferParams
from forebear.train.preference.training import Job, Trained
from forebear.train.stage import scratch_dir, stage_seed

__all__ = ["PreferParams", "train_prefer"]


def train_prefer(
    params: PreferParams,
    *,
    start: Path,
    out: Path,
    pairs: Path,
    metrics: Path,
    curves: Path,
    rows: Path | None = None,
    given: Path | None = None,
) -> None:
    """Trains the checkpoint ``start`` on preferences; writes it, the preferences and figures.

    Args:
        params: section ``prefer``.
        start: checkpoint to start from, and the reference.
        out: the trained checkpoint.
        pairs: every pair or thumb, with its split.
        metrics: figures.
        curves: one line per training step.
        rows: instruction rows, on policy.
        given: file of pairs or thumbs, otherwise.
    Raises:
        ConfigError: a parameter is refused, or there are too few pairs or thumbs.
        FormatError: a line of a file is malformed.
        RecordError: the loss is no longer finite, or GRPO saw no difference in rewards.
    """
    from forebear.hashing.digest import hash_tree
    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
    from forebear.train.metrics import row_files, write_curves, write_json
    from forebear.train.runtime import configure_torch

    params.require()
    load_verifier(params.verifier, where="params.yaml: prefer.verifier")
    seed = stage_seed(params.seed, "prefer")
    configure_torch(seed)
    scratch = scratch_dir("prefer")
    model, tokenizer, digest = load_model(start), load_tokenizer(start), hash_tree(start).digest
    policy = Policy(model, tokenizer, digest, scratch / "answers.jsonl")
    material = gather(params, policy, rows=rows, given=given)
    reference = score(model, tokenizer, material)
    del model, policy  # the trainer loads its own
    configure_torch(seed)
    trained = _train(Job(params, start, tokenizer, scratch), material)
    after = score(trained.model, tokenizer, material)
    digest_after = trained.figures["logits_last_sha256"]
    policy = Policy(trained.model, tokenizer, digest_after, scratch / "answers-after.jsonl")
    again = sample(params, policy, material.probe)
    _write_rows(pairs, material, digest)
    save_checkpoint(trained.model, tokenizer, out)
    figures = {
        **counts(params, material, digest),
        **trained.figures,
        "before": compare(reference, reference, material, params.beta),
        "after": compare(after, reference, material, params.beta),
        "length": lengths(material, again),
        "sampling": material.before.figures(trained.figures["n_params"]),
        "files": row_files(pairs),
    }
    if params.data.kind == "on_policy":
        figures["verified"] = verified(params, material, again)
    write_json(metrics, figures)
    write_curves(curves, trained.steps, trained.columns)


def _train(job: Job, material: Material) -> Trained:
    if job.params.method == "grpo":
        return train_rewards(job, material.rows)
    if job.params.method == "kto":
        thumbs = material.train if material.kind == "thumbs" else as_thumbs(material.train)
        ups = [thumb["thumb"] == "up" for thumb in thumbs]
        return train_thumbs(job, encode_thumbs(thumbs, job.tokenizer), ups)
    return train_pairs(job, encode_pairs(material.train, job.tokenizer))


def _write_rows(file: Path, material: Material, digest: str) -> None:
    parts: Sequence[tuple[str, Sequence[Mapping[str, Any]]]] = (
        ("held_out", material.held_out),
        ("train", material.train),
    )
    rows = [{**row, "split": split, "policy_tree": digest} for split, part in parts for row in part]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(strictjson.dumps(row) for row in rows))
