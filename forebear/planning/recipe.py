"""What a params file asks of each stage, in rows and tokens: the input of the arithmetic.

Only the keys that the arithmetic needs are read; that the file holds as a whole is for
``python -m stages`` to say. Rows of fine-tuning have no length in the params, so their length is
an assumption that the caller names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.documents.strictyaml import parse_mapping
from forebear.planning.facts import ModelFacts, validated
from forebear.planning.shape import Architecture

_COMMIT = re.compile(r"[0-9a-f]{40}")
_N = Annotated[int, Field(ge=1)]

# Methods with a second copy of the weights, to hold the trained ones against.
_WITH_REFERENCE = ("dpo", "kto", "logits")


class _Read(BaseModel):
    # numbers arrive as text from the strict reader, and other keys are other people's
    model_config = ConfigDict(extra="ignore", frozen=True)


class Launch(_Read):
    """How a stage is started; one process with everything when its section says nothing.

    Attributes:
        processes: of all machines together, one for each device.
    """

    kind: str = "local"
    processes: _N = 1
    nodes: _N = 1
    sharding: Literal["none", "fsdp2"] = "none"


ALONE = Launch()


class Megatron(_Read):
    """Sizes of Megatron's ways to split a model."""

    tensor: _N = 1
    pipeline: _N = 1
    context: _N = 1
    expert: _N = 1


class _Random(_Read):
    hidden_size: _N
    layers: _N
    heads: _N
    vocab_size: Annotated[int, Field(ge=2)]


class _Hub(_Read):
    repo: str
    revision: str


class _Source(_Read):
    hub: _Hub | None = None
    random: _Random | None = None


class _Base(_Read):
    repo: str
    source: _Source


class _Tokenize(_Read):
    length_tokens: _N
    replay_share: Annotated[float, Field(ge=0, lt=1)]
    domain_tokens: _N


class _Cpt(_Read):
    epochs: _N
    batch_sequences: _N
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    activation_checkpointing: bool = False
    launch: Launch = Launch()
    megatron: Megatron | None = None


class _Tuning(_Read):
    method: str = "full"
    epochs: _N
    max_rows: _N
    batch_rows: _N
    grad_accumulation: _N = 1
    lora_rank: _N = 64


class _Teacher(_Read):
    kind: str


class _Distill(_Read):
    teacher: _Teacher
    max_prompts: _N
    samples_per_prompt: _N
    max_new_tokens: _N
    batch_rows: _N
    student: _Tuning


class _Data(_Read):
    kind: str = "on_policy"


class _Group(_Read):
    group: _N = 8


class _Prefer(_Read):
    method: str = "dpo"
    data: _Data = _Data()
    grpo: _Group = _Group()
    epochs: _N
    batch_pairs: _N
    batch_rows: _N
    max_pairs: _N
    held_out_pairs: _N
    samples_per_prompt: _N
    max_new_tokens: _N


class _Params(_Read):
    base: _Base
    tokenize: _Tokenize
    cpt: _Cpt
    sft: _Tuning
    distill: _Distill
    prefer: _Prefer


@dataclass(frozen=True, slots=True)
class Training:
    """Optimizer steps of one stage.

    Attributes:
        rows: rows in one step's forward pass, on each device.
        row_tokens: tokens in a row.
        tokens: tokens of all steps, all epochs.
        lora_rank: None when every parameter is trained.
        epochs: times that the data is seen.
        reference: a copy of the starting weights stands beside the trained ones.
        launch: how many processes there are, and whether they share the model's state.
        megatron: how Megatron splits the model; None when it does not train.
        precision: as the section says.
        recompute: layers' activations are computed again in the backward pass.
    """

    stage: str
    rows: int
    row_tokens: int
    tokens: int
    epochs: int = 1
    lora_rank: int | None = None
    reference: bool = False
    launch: Launch = ALONE
    megatron: Megatron | None = None
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """Answers sampled in one stage, in one process.

    Attributes:
        rows: answers written at once.
        prompt_tokens: tokens of a prompt.
        new_tokens: tokens written at most for each.
        answers: how many in all.
    """

    stage: str
    rows: int
    prompt_tokens: int
    new_tokens: int
    answers: int
    launch: Launch = ALONE

    @property
    def tokens(self) -> int:
        """Tokens read and written, all answers."""
        return self.answers * (self.prompt_tokens + self.new_tokens)


Job = Training | Generation


@dataclass(frozen=True, slots=True)
class Recipe:
    """One params file.

    Attributes:
        repo: name of the base model.
        revision: of a hub source; None for other sources.
        random: facts of a base with random weights; None for others.
        jobs: what the stages compute, in order of the pipeline.
    """

    repo: str
    revision: str | None
    random: ModelFacts | None
    jobs: tuple[Job, ...]

    @property
    def unpinned(self) -> str | None:
        """What to do about a hub revision that is no commit; None when there is nothing to do."""
        if self.revision is None or _COMMIT.fullmatch(self.revision):
            return None
        return f"pin the revision: the commit of {self.repo}, 40 hex digits"


def parse_recipe(data: bytes, *, where: str, row_tokens: int | None = None) -> Recipe:
    """The work that a params file asks for.

    ``row_tokens`` is the length of a fine-tuning row; that of a packed sequence when left out.

    Raises:
        ConfigError: a key that the arithmetic needs is missing or no number; all are listed.
    """
    params = validated(_Params, parse_mapping(data, where=where), where=where)
    width = row_tokens or params.tokenize.length_tokens
    source = params.base.source
    return Recipe(
        repo=params.base.repo,
        revision=source.hub.revision if source.hub else None,
        random=_random_facts(source.random) if source.random else None,
        jobs=(
            _cpt(params),
            _tuning("sft", params.sft, width),
            *_distill(params.distill, width),
            *_prefer(params.prefer, width),
        ),
    )


def _cpt(params: _Params) -> Training:
    part, tokenize, split = params.cpt, params.tokenize, params.cpt.megatron
    whole = split.tensor * split.pipeline * split.context if split else 1
    shares = max(1, part.launch.processes // whole)
    return Training(
        stage="cpt",
        rows=-(-part.batch_sequences // shares),  # the params count all shares together
        row_tokens=tokenize.length_tokens,
        tokens=round(tokenize.domain_tokens / (1 - tokenize.replay_share)) * part.epochs,
        epochs=part.epochs,
        launch=part.launch,
        megatron=part.megatron,
        precision=part.precision,
        recompute=part.activation_checkpointing,
    )


def _tuning(stage: str, part: _Tuning, width: int) -> Training:
    return Training(
        stage=stage,
        rows=-(-part.batch_rows // part.grad_accumulation),
        row_tokens=width,
        tokens=part.max_rows * width * part.epochs,
        epochs=part.epochs,
        lora_rank=part.lora_rank if part.method == "lora" else None,
        reference=part.method in _WITH_REFERENCE,
    )


def _distill(part: _Distill, width: int) -> tuple[Job, ...]:
    student = _tuning("distill, student", part.student, width)
    if part.teacher.kind != "checkpoint":  # somebody else's machine samples, or has sampled
        return (student,)
    answers = part.max_prompts * part.samples_per_prompt
    sampling = Generation("distill, sampling", part.batch_rows, width, part.max_new_tokens, answers)
    return sampling, student


def _prefer(part: _Prefer, width: int) -> tuple[Job, ...]:
    # a chosen and a rejected side of each pair; with GRPO, a group of answers to each prompt
    sides = part.grpo.group if part.method == "grpo" else 2
    training = Training(
        stage=f"prefer, {part.method}",
        rows=sides * part.batch_pairs,
        row_tokens=width,
        tokens=sides * part.max_pairs * width * part.epochs,
        epochs=part.epochs,
        reference=part.method in _WITH_REFERENCE,
    )
    if part.data.kind != "on_policy":
        return (training,)
    answers = (part.max_pairs + part.held_out_pairs) * part.samples_per_prompt
    sampling = Generation("prefer, sampling", part.batch_rows, width, part.max_new_tokens, answers)
    return sampling, training


def _random_facts(part: _Random) -> ModelFacts:
    """Facts of the small Llama that :mod:`forebear.train.base_sources` builds by chance."""
    shape = Architecture(
        layers=part.layers, hidden=part.hidden_size, heads=part.heads, kv_heads=part.heads,
        head_width=part.hidden_size // part.heads, vocabulary=part.vocab_size,
        mlp_width=2 * part.hidden_size, tied=True,
    )  # fmt: skip
    return ModelFacts.model_validate(
        {
            "name": "random", "repo": "random", "publisher": "none", "licence": "unknown",
            "posture": "unknown", "tuned": False, "total": None, "active": None,
            "architecture": shape, "context": None, "languages": {"named": [], "count": None},
            "source": "the params file", "released": None, "as_of": None,
        }
    )  # fmt: skip
