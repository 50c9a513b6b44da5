"""Bytes that one device holds at a stage's peak, term by term, each with its formula.

Activations are counted by what a decoder layer with gated MLP keeps for its backward pass:
norms and residual 6·h, attention q + k + v + out, MLP 4·width for each expert that works on the
token. The idea is that of Korthikanti et al. 2022 (arXiv 2205.05198), section 4; the counts are
for today's layers (grouped or latent attention, SwiGLU) instead of theirs. Megatron's state is
counted as its distributed optimizer lays it out: bf16 weights and float32 gradients whole on each
data-parallel device, float32 weights and both moments spread over them.
"""

from __future__ import annotations

from dataclasses import dataclass

from forebear.planning.recipe import Generation, Megatron, Training
from forebear.planning.shape import Architecture

# as float32: logits, their log-softmax, and a gradient of each; measured with transformers 5.23
_LOGIT_COPIES = 4
_STATE = 4  # bytes of a float32 weight or gradient; AdamW keeps two such moments
_MEGATRON_SPREAD = 12  # float32 weight and two moments


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the memory on one device."""

    name: str
    formula: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained: its shape and all its parameters, experts at rest too."""

    shape: Architecture
    parameters: int

    @property
    def routed(self) -> int:
        """Parameters of routed experts, at most all."""
        return min(self.shape.routed_parameters(), self.parameters)


def training_terms(
    job: Training, model: Model, *, compute_bytes: int, scores: bool
) -> tuple[Term, ...]:
    """What a training stage holds on one device.

    Args:
        job: the stage's work.
        model: what is trained.
        compute_bytes: of one number in the arithmetic; the weights themselves are float32.
        scores: attention scores are kept whole, as without a fused kernel.
    """
    if job.megatron is not None:
        state = _megatron_state(model, job.megatron, job.launch.processes)
        split = job.megatron.tensor * job.megatron.context
    else:
        state, split = _state(job, model, compute_bytes), 1
    return (*state, *_per_token(job, model.shape, compute_bytes, scores=scores, split=split))


def generation_terms(job: Generation, model: Model, *, compute_bytes: int) -> tuple[Term, ...]:
    """What sampling holds: weights, the cache of keys and values, logits of one position."""
    shape = model.shape
    tokens = job.rows * (job.prompt_tokens + job.new_tokens)
    width = cache_width(shape)
    cache = f"{compute_bytes} B x {tokens} tokens x {shape.layers} layers x {width}"
    logits = f"4 B x {job.rows} rows x {shape.vocabulary} words"
    return (
        _term("weights", _STATE, model.parameters, 1),
        Term("cache of keys and values", cache, compute_bytes * tokens * shape.layers * width),
        Term("logits", logits, 4 * job.rows * shape.vocabulary),
    )


def cache_width(shape: Architecture) -> int:
    """Numbers cached for one token in one layer."""
    if shape.latent is not None:
        return shape.latent.kv_rank + shape.latent.rope_width
    return 2 * shape.kv_heads * shape.head_width


def adapter_parameters(shape: Architecture, rank: int) -> int:
    """Parameters of LoRA on every linear layer but router, routed experts and output."""
    return sum(
        rank * (inputs + outputs) * count for inputs, outputs, count in shape.linear_shapes()
    )


def layer_width(shape: Architecture, *, with_experts: bool) -> int:
    """Numbers that one layer keeps for the backward pass, for one token."""
    attention = shape.head_width * 2 * (shape.heads + shape.kv_heads)
    if shape.latent is not None:
        one, key = shape.latent, shape.latent.plain_width + shape.latent.rope_width
        attention = shape.heads * 2 * (key + one.value_width) + one.q_rank + one.kv_rank
    mlp = 4 * shape.mlp_width
    if with_experts and shape.experts is not None:
        working = shape.experts.active + shape.experts.shared
        mlp = 4 * working * shape.experts.width + 2 * shape.experts.active * shape.hidden
    return 6 * shape.hidden + attention + mlp


def _state(job: Training, model: Model, compute_bytes: int) -> list[Term]:
    devices = job.launch.processes if job.launch.sharding == "fsdp2" else 1
    frozen = job.lora_rank is not None
    trained = adapter_parameters(model.shape, job.lora_rank or 0) if frozen else model.parameters
    terms = [_term("frozen weights", _STATE, model.parameters, devices)] if frozen else []
    terms += [
        _term("weights", _STATE, trained, devices),
        _term("gradients", _STATE, trained, devices),
        _term("AdamW moments", 2 * _STATE, trained, devices),
    ]
    if job.reference:
        terms.append(_term("reference copy", _STATE, model.parameters, devices))
    if devices > 1:
        # FSDP2 as cpt wraps it: layers one ahead, the tables whole; autocast casts, FSDP does not
        layer, tables = _largest_layer(model), model.shape.table_parameters()
        each, whole = 2 * _STATE, _STATE
        if not frozen:
            each, whole = each + _STATE, whole + _STATE
        terms.append(
            Term(
                "layers gathered, one ahead, and tables",
                f"{each} B x {layer} + {whole} B x {tables}",
                each * layer + whole * tables,
            )
        )
    elif compute_bytes != _STATE:
        terms.append(_term("weights cast for the arithmetic", compute_bytes, model.parameters, 1))
    return terms


def _largest_layer(model: Model) -> int:
    """Parameters of the largest layer, all of its experts included."""
    shape = model.shape
    common = shape.total() - shape.routed_parameters() - shape.table_parameters()
    experts = shape.routed_parameters() // shape.experts.layers if shape.experts else 0
    return -(-common // shape.layers) + experts


def _megatron_state(model: Model, split: Megatron, processes: int) -> list[Term]:
    dense, routed = model.parameters - model.routed, model.routed
    held = dense // (split.tensor * split.pipeline) + routed // (split.pipeline * split.expert)
    return [
        _term("weights, bf16", 2, held, 1),
        _term("gradients", _STATE, held, 1),
        _term("float32 weights and AdamW moments", _MEGATRON_SPREAD, model.parameters, processes),
    ]


def _per_token(
    job: Training, shape: Architecture, compute_bytes: int, *, scores: bool, split: int
) -> tuple[Term, Term]:
    n_expert = shape.experts.layers if shape.experts else 0
    extra = shape.heads * job.row_tokens if scores else 0
    kinds = ((n_expert, True), (shape.dense_layers, False))
    widths = [(n, layer_width(shape, with_experts=flag) + extra) for n, flag in kinds if n]
    if job.recompute:
        widest = max(width for _, width in widths)
        numbers, shown = (
            shape.layers * shape.hidden + widest,
            f"({shape.layers} layers x {shape.hidden} + {widest})",
        )
    else:
        numbers = sum(n * width for n, width in widths)
        shown = f"({' + '.join(f'{n} layers x {width}' for n, width in widths)})"
    tokens = job.rows * job.row_tokens
    over = f" / {split} devices" if split > 1 else ""
    logits = _LOGIT_COPIES * 4 * tokens * shape.vocabulary
    return (
        Term(
            "activations",
            f"{compute_bytes} B x {tokens} tokens x {shown}{over}",
            compute_bytes * tokens * numbers // split,
        ),
        Term(
            "logits",
            f"{_LOGIT_COPIES} x 4 B x {tokens} tokens x {shape.vocabulary} words{over}",
            logits // split,
        ),
    )


def _term(name: str, each: int, parameters: int, devices: int) -> Term:
    shared = f" / {devices} devices" if devices > 1 else ""
    return Term(name, f"{each} B x {parameters}{shared}", -(-each * parameters // devices))
