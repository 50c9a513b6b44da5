"""Section ``prefer`` of the params: one method, its own values, and the ranges the field accepts.

Values that only one method knows stand in a section of that method, so that changing
``prefer.method`` alone gives a whole, valid set: that is what a comparison changes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.errors import ConfigError
from forebear.train.stage import StageParams

METHODS = ("dpo", "simpo", "orpo", "kto", "grpo")
PAIRED = ("dpo", "simpo", "orpo")

# Accepted by the field: training page, section prefer (DPO, KTO; epochs of every method).
_BETA_RANGE = (0.1, 0.5)
_EPOCHS_RANGE = (1, 2)
# SimPO (Meng et al. 2024, arXiv 2405.14734, table of hyperparameters: beta 2.0 and 2.5; the
# authors' later models: 10; they tune the target margin as a share of beta, between 0 and 1).
_SIMPO_BETA_RANGE = (2.0, 10.0)
_SIMPO_SHARE_RANGE = (0.0, 1.0)
# ORPO (Hong et al. 2024, arXiv 2403.07691: lambda 0.1 for Mistral, 0.2 for Llama 2, 0.25 for Phi-2;
# the ablation goes to 1.0).
_ORPO_LAMBDA_RANGE = (0.1, 1.0)
# KTO (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8, as TRL states it): weighted thumbs up for
# each weighted thumb down.
_KTO_BALANCE_RANGE = (1.0, 4 / 3)
# GRPO (Shao et al. 2024, arXiv 2402.03300: 0.04; later work and TRL's default: 0).
_GRPO_BETA_RANGE = (0.0, 0.1)
_GRPO_GROUP_RANGE = (2, 64)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class DataSettings(_Part):
    """Where preferences come from.

    Attributes:
        kind: ``on_policy`` makes pairs from the starting checkpoint's own answers, verified and
            refuted; ``pairs`` and ``thumbs`` read the file that the stage is given.
    """

    kind: Literal["on_policy", "pairs", "thumbs"] = "on_policy"


class _MethodPart(_Part):
    lr: float | None = Field(default=None, gt=0)


class SimpoSettings(_MethodPart):
    """SimPO: no reference; reward is ``beta`` times the mean log-probability of a token.

    Attributes:
        beta: scale of the reward.
        gamma: target margin between chosen and rejected, in the same unit.
    """

    beta: float = Field(default=2.0, gt=0)
    gamma: float = Field(default=1.0, ge=0)


class OrpoSettings(_MethodPart):
    """ORPO: fine-tuning on the chosen answer plus ``lambda`` times the odds ratio; no reference."""

    weight: float = Field(default=0.1, gt=0, alias="lambda")


class KtoSettings(_MethodPart):
    """KTO: thumbs up and down, each on its own.

    Attributes:
        desirable_weight: of a thumb up; left out, it balances the thumbs down.
        undesirable_weight: of a thumb down.
    """

    desirable_weight: float | None = Field(default=None, gt=0)
    undesirable_weight: float = Field(default=1.0, gt=0)


class GrpoSettings(_MethodPart):
    """GRPO: the policy answers each prompt ``group`` times; the verifier's verdict is the reward.

    Attributes:
        group: answers to one prompt, compared among themselves.
        beta: weight of the divergence from the reference; 0 keeps no reference.
        max_prompts: prompts trained on; ``prefer.max_pairs`` when left out.
    """

    group: int = Field(default=8, ge=2)
    beta: float = Field(default=0.0, ge=0)
    max_prompts: int | None = Field(default=None, ge=1)


class PreferParams(StageParams):
    """Section ``prefer`` of the params.

    Attributes:
        method: what is trained with.
        data: where preferences come from.
        beta: of DPO and KTO, and the scale of the reward margin that is reported for every method.
        lr: peak learning rate; a method's own section may name another.
        epochs: passes over the training pairs, thumbs or prompts.
        batch_pairs: pairs per step; KTO takes twice as many thumbs, GRPO as many prompts.
        verifier: judges answers, on policy.
        forms: forms of the instruction rows that are asked, on policy.
        max_pairs: pairs (or thumbs of either kind) trained on, at most.
        held_out_pairs: pairs (or thumbs of either kind) kept for the figures.
    """

    method: Literal["dpo", "simpo", "orpo", "kto", "grpo"] = "dpo"
    data: DataSettings = DataSettings()
    beta: float = Field(gt=0)
    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_pairs: int = Field(ge=1)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    verifier: str = "exact_match"
    forms: tuple[str, ...] = Field(strict=False, min_length=1)
    max_pairs: int = Field(ge=1)
    held_out_pairs: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=1)
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    simpo: SimpoSettings = SimpoSettings()
    orpo: OrpoSettings = OrpoSettings()
    kto: KtoSettings = KtoSettings()
    grpo: GrpoSettings = GrpoSettings()

    @property
    def peak_lr(self) -> float:
        """Learning rate of the chosen method."""
        own = None if self.method == "dpo" else getattr(self, self.method).lr
        return self.lr if own is None else float(own)

    def require(self) -> None:
        """Refuses values outside the ranges of the chosen method, and data it cannot learn from.

        Raises:
            ConfigError: with the range, or with the kinds of data that would do.
        """
        # beta scales the reported margin whatever the method, so it is held to one range
        self.require_range("prefer.beta", self.beta, *_BETA_RANGE)
        self.require_range("prefer.epochs", self.epochs, *_EPOCHS_RANGE)
        if self.method == "simpo":
            beta, gamma = self.simpo.beta, self.simpo.gamma
            self.require_range("prefer.simpo.beta", beta, *_SIMPO_BETA_RANGE)
            low, high = (share * beta for share in _SIMPO_SHARE_RANGE)
            self.require_range("prefer.simpo.gamma", gamma, low, high)
        elif self.method == "orpo":
            self.require_range("prefer.orpo.lambda", self.orpo.weight, *_ORPO_LAMBDA_RANGE)
        elif self.method == "grpo":
            self.require_range("prefer.grpo.beta", self.grpo.beta, *_GRPO_BETA_RANGE)
            self.require_range("prefer.grpo.group", self.grpo.group, *_GRPO_GROUP_RANGE)
            if self.temperature == 0:
                raise ConfigError(
                    "equal answers to one prompt teach nothing",
                    where="params.yaml: prefer.temperature",
                    fix="grpo needs a temperature above 0",
                )
        self._require_data()

    def _require_data(self) -> None:
        usable = {"kto": ("on_policy", "pairs", "thumbs"), "grpo": ("on_policy",)}
        kinds = usable.get(self.method, ("on_policy", "pairs"))
        if self.data.kind not in kinds:
            raise ConfigError(
                f"{self.method} cannot learn from {self.data.kind}",
                where="params.yaml: prefer.data.kind",
                fix=f"choose one of: {', '.join(kinds)}",
            )

    def kto_weights(self, n_up: int, n_down: int) -> tuple[float, float]:
        """Weights of a thumb up and of a thumb down, for so many of either.

        Raises:
            ConfigError: the weighted counts are out of balance and that is not allowed.
        """
        down = self.kto.undesirable_weight
        if self.kto.desirable_weight is None:
            return n_down * down / n_up, down
        up = self.kto.desirable_weight
        balance = up * n_up / (down * n_down)
        self.require_range("prefer.kto.balance", balance, *_KTO_BALANCE_RANGE)
        return up, down
