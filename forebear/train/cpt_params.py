"""Section ``cpt`` of the params; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from forebear.train.launch.settings import Launch, Megatron
from forebear.train.stage import StageParams


class CptParams(StageParams):
    """Section ``cpt`` of the params.

    Attributes:
        lr: peak learning rate.
        batch_sequences: sequences in one forward pass, of all processes together.
        grad_accumulation: forward passes in one optimizer step.
        schedule: after the warm-up, ``cosine`` falls to zero over the rest of the run;
            ``warmup_stable_decay`` stays, and falls over the last ``decay_ratio`` of the steps.
        precision: of the forward pass; weights and optimizer state stay in fp32. ``bf16`` is
            autocast; ``auto`` takes it where the hardware multiplies it.
        checkpoint_every_tokens: an intermediate checkpoint and both validation losses come then.
        max_forgetting: nats that the replay loss may rise by.
        activation_checkpointing: computes activations twice instead of keeping them.
        engine: ``hf`` trains here; ``megatron`` hands over to Megatron Bridge.
    """

    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_sequences: int = Field(ge=1)
    grad_accumulation: int = Field(ge=1)
    warmup_ratio: float = Field(ge=0, le=1)
    schedule: Literal["cosine", "warmup_stable_decay"] = "cosine"
    decay_ratio: float = Field(default=0.2, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(gt=0)
    checkpoint_every_tokens: int = Field(ge=1)
    max_forgetting: float = Field(gt=0)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    activation_checkpointing: bool = False
    engine: Literal["hf", "megatron"] = "hf"
    launch: Launch = Launch()
    megatron: Megatron | None = None

    @property
    def sequences_per_step(self) -> int:
        """Sequences in one optimizer step, of all processes together."""
        return self.batch_sequences * self.grad_accumulation

    @property
    def _splits_too(self) -> bool:
        return self.launch.sharding != "none"

    @property
    def replicas(self) -> int:
        """Shares that a batch is computed in: processes, or Megatron's copies of the model."""
        return self.launch.processes // (
            self.megatron.processes_per_replica if self.megatron else 1
        )

    @model_validator(mode="after")
    def _require_whole_shares(self) -> CptParams:
        split = self.megatron.processes_per_replica if self.megatron else 1
        if self.launch.processes % split:
            raise ValueError(
                f"{self.launch.processes} processes do not divide into models split over {split}"
            )
        if self.batch_sequences % self.replicas:
            raise ValueError(
                f"batch_sequences {self.batch_sequences} do not divide among {self.replicas} "
                f"{'copies of the model' if self.megatron else 'processes'}"
            )
        if self.schedule == "warmup_stable_decay" and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio are more than the whole run")
        if (self.megatron is not None) != (self.engine == "megatron"):
            raise ValueError("the section megatron and engine megatron go together")
        if self.megatron and (self.launch.kind not in {"torchrun", "slurm"} or self._splits_too):
            raise ValueError("engine megatron needs launch kind torchrun or slurm, sharding none")
        return self
