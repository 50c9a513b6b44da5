"""Section ``sft`` of the params: what is accepted, and what needs an allowance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.train.stage import StageParams

# Accepted learning rates: training page, section sft; LoRA's is about ten times the full one
# (Hu et al. 2021 tune GPT-2 and GPT-3 at 2e-4; "LoRA Without Regret", 2025, finds a factor of 10).
_RANGES = {"full": (1e-5, 5e-5), "lora": (1e-4, 5e-4)}
_CANDIDATES = {"full": (1e-5, 2e-5, 5e-5), "lora": (1e-4, 2e-4, 5e-4)}

_Rate = Annotated[float, Field(gt=0)]


class SweepParams(BaseModel):
    """How ``lr: auto`` looks for its rate.

    Attributes:
        rates: candidates; the method's own three when left out.
        steps: optimizer steps that each is tried for.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    rates: tuple[_Rate, ...] | None = Field(default=None, min_length=1, strict=False)
    steps: int = Field(default=12, ge=1)


class SftParams(StageParams):
    """Section ``sft`` of the params.

    Attributes:
        lr: peak learning rate, or ``auto``: the sweep's highest inside ``min_retention``.
        min_retention: bound of the transition guard, as a share of the probability of a held-out
            domain token; 0 lets everything finite pass.
        precision: of the forward pass; weights and optimizer state stay in fp32. ``auto`` is bf16
            where the hardware multiplies it.
        packing: rows end to end without padding, each kept from seeing the others.
        chat_template_sha256: the template that the checkpoint must carry.
    """

    method: Literal["full", "lora"] = "full"
    lr: _Rate | Literal["auto"]
    epochs: int = Field(ge=1)
    max_rows: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    grad_accumulation: int = Field(default=1, ge=1)
    warmup_ratio: float = Field(ge=0, le=0.1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora_rank: int = Field(default=64, ge=1)
    held_out_rows: int = Field(default=64, ge=1)
    min_retention: float = Field(default=0.5, ge=0, le=1)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    packing: bool = False
    chat_template_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    sweep: SweepParams = SweepParams()

    def rates(self) -> tuple[float, ...]:
        """The rates that may be trained with: the given one, or the sweep's candidates.

        Raises:
            ConfigError: one is outside the method's accepted range without allowance.
        """
        found = (self.lr,) if self.lr != "auto" else self.sweep.rates or _CANDIDATES[self.method]
        for rate in found:
            self.require_range("sft.lr", rate, *_RANGES[self.method])
        return found
