"""The checkpoint that is measured, opened: who it is, what scores choices and what writes texts.

A damaged checkpoint is refused before the first request. Behind an endpoint the checkpoint's files
still name the model, because the gate decides about files; which server answered for them stands
beside the digest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.hashing.digest import hash_tree
from forebear.train.evaluate.backends import Budget
from forebear.train.evaluate.endpoint import EndpointChat
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.model import ChatModel
from forebear.train.evaluate.params import MeasureParams

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.evaluate.lm import JournaledLM

_SOFTWARE = ("lm-eval", "transformers", "torch", "tokenizers")


@dataclass(frozen=True, slots=True)
class Subject:
    """An opened checkpoint.

    Attributes:
        identity: of the model, for the run folder.
        scored: what else a score by likelihood depends on.
        written: what else a written answer depends on.
        likelihood: answers in likelihoods; ``None`` behind a chat interface.
        chat: answers in texts.
    """

    identity: Mapping[str, Any]
    scored: Mapping[str, Any]
    written: Mapping[str, Any]
    likelihood: JournaledLM | None
    chat: ChatModel


def open_subject(
    params: MeasureParams,
    checkpoint: Path,
    journal: Journal,
    budget: Budget,
    on_chunk: Callable[[], None],
) -> Subject:
    """Opens ``checkpoint`` with the chosen backend.

    Raises:
        EnvironmentFailure: it is damaged, or has no chat template and one is asked for.
    """
    if params.model.endpoint is not None:
        return _served(params, checkpoint, journal, budget)
    model, tokenizer = _load(params, checkpoint)
    identity = _model_identity(params, checkpoint, model, tokenizer)

    from forebear.train.evaluate.lm import JournaledLM, PackedLM

    scored, written = _scored_identity(params), _written_identity(params)
    likelihood = JournaledLM(
        PackedLM(
            model, tokenizer, batch_contexts=params.batch_contexts, packed=params.pack_choices
        ),
        journal,
        identity={**identity, **scored},
        contexts_per_chunk=params.batch_contexts,
        on_chunk=on_chunk,
    )
    chat = _chat(
        params,
        (model, tokenizer),
        {**identity, **written},
        journal=journal,
        budget=budget,
        on_chunk=on_chunk,
    )
    return Subject(identity, scored, written, likelihood, chat)


def open_local(params: MeasureParams, folder: Path, journal: Journal, budget: Budget) -> ChatModel:
    """Another checkpoint on this machine, as a judge or an opponent.

    Raises:
        EnvironmentFailure: it is damaged, or has no chat template.
    """
    model, tokenizer = _load(params, folder)
    identity = _model_identity(params, folder, model, tokenizer)
    whole = {**identity, **_written_identity(params)}
    return _chat(params, (model, tokenizer), whole, journal=journal, budget=budget)


def _chat(
    params: MeasureParams,
    opened: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    identity: Mapping[str, Any],
    *,
    journal: Journal,
    budget: Budget,
    on_chunk: Callable[[], None] = lambda: None,
) -> ChatModel:
    from forebear.train.evaluate.hf import HfChat

    return HfChat(
        *opened,
        journal,
        identity=identity,
        chunk=params.model.chunk,
        batch_rows=params.model.batch_rows,
        templated=params.chat_template,
        reasoning=params.model.strip_reasoning,
        budget=budget,
        on_chunk=on_chunk,
    )


def _served(params: MeasureParams, checkpoint: Path, journal: Journal, budget: Budget) -> Subject:
    endpoint = params.model.endpoint
    if endpoint is None:
        raise AssertionError("asked before")
    written = {
        "seed": params.seed,
        "backend": params.model.backend,
        "strip_reasoning": _listed(params.model.strip_reasoning),
        "software": {package: importlib.metadata.version(package) for package in ("lm-eval",)},
    }
    identity = {
        "tree_sha256": hash_tree(checkpoint).digest,
        "backend": params.model.backend,
        "served_as": {
            "base_url": endpoint.base_url,
            "model": endpoint.model,
            "snapshot": endpoint.snapshot,
        },
        "chat_template_sha256": None,  # the server's own
    }
    chat = EndpointChat(
        endpoint,
        journal,
        budget=budget,
        reasoning=params.model.strip_reasoning,
        further={"tree_sha256": identity["tree_sha256"], "backend": params.model.backend},
    )
    return Subject(identity, {}, written, None, chat)


def _load(
    params: MeasureParams, checkpoint: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from forebear.train.checkpoint import load_model, load_tokenizer

    try:
        model = load_model(checkpoint, params.dtype)
        tokenizer = load_tokenizer(checkpoint)
    except FormatError as error:
        # bytes of our own making that broke: the machine's fault, not a wrong call
        raise EnvironmentFailure(
            f"the checkpoint is damaged: {error.what}", where=error.where, fix=error.fix
        ) from error
    if params.chat_template and not tokenizer.chat_template:
        raise EnvironmentFailure(
            "the checkpoint has no chat template",
            where=str(checkpoint),
            fix="run the base stage again, which writes one, or set measure.chat_template: false",
        )
    return model, tokenizer


def _model_identity(
    params: MeasureParams,
    checkpoint: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    template = str(tokenizer.chat_template) if params.chat_template else None
    return {
        "tree_sha256": hash_tree(checkpoint).digest,
        "backend": "hf",
        "architecture": type(model).__name__,
        "quantisation": None,
        "max_length": int(getattr(model.config, "max_position_embeddings", 2048)),
        "chat_template_sha256": (
            None if template is None else hashlib.sha256(template.encode("utf-8")).hexdigest()
        ),
    }


def _environment(params: MeasureParams) -> dict[str, Any]:
    from forebear.train.runtime import threads

    return {
        "seed": params.seed,
        "dtype": params.dtype,
        "threads": threads(),
        "backend": "hf",
        "software": {package: importlib.metadata.version(package) for package in _SOFTWARE},
    }


def _scored_identity(params: MeasureParams) -> Mapping[str, Any]:
    return {
        **_environment(params),
        "batch_contexts": params.batch_contexts,
        "pack_choices": params.pack_choices,
    }


def _written_identity(params: MeasureParams) -> Mapping[str, Any]:
    return {
        **_environment(params),
        "chunk": params.model.chunk,
        "batch_rows": params.model.batch_rows,
        "strip_reasoning": _listed(params.model.strip_reasoning),
    }


def _listed(tags: tuple[str, str] | None) -> list[str] | None:
    return None if tags is None else list(tags)
