"""The transition guard: what fine-tuning taught (uptake), and what it left of CPT (retention).

Both are measured before and after on text that neither stage trained on, by the stage itself:

- **Retention** = exp(domain loss before − domain loss after). The domain loss is the mean negative
  log-likelihood, in nats, of a token of tokenize's domain validation split. So retention is the
  probability that the model gives to a held-out domain token, as a share of what its parent gave
  (geometric mean): 1 keeps all, 0.5 means that the domain perplexity has doubled, above 1 the
  domain was learned further. The share of CPT's *gain* kept is not used: it needs the loss of the
  base, which is no input of the stage, and has no meaning where CPT gained nothing.
- **Uptake** = answer loss before − answer loss after, in nats per answer token of the held-out
  rows: 0 learned nothing. Beside it stands the accuracy: the share of those tokens that the model
  ranks first, given the right tokens before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from forebear.errors import RecordError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from forebear.train.packed import Shards

Encoded = Sequence[Mapping[str, list[int]]]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a model knows at one moment.

    Attributes:
        domain_loss: nats per token of the domain validation split.
        answer_loss: nats per answer token of the held-out rows.
        answer_accuracy: share of those tokens ranked first, in [0, 1].
    """

    domain_loss: float
    answer_loss: float
    answer_accuracy: float

    def as_json(self) -> dict[str, float]:
        """The three figures by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Transition:
    """A model before and after fine-tuning; the module says what the two figures mean."""

    before: Standing
    after: Standing

    @property
    def retention(self) -> float:
        """Share of a held-out domain token's probability that is left; 0 when not finite."""
        if not math.isfinite(self.after.domain_loss):
            return 0.0
        return math.exp(self.before.domain_loss - self.after.domain_loss)

    @property
    def uptake(self) -> float:
        """Fall of the answer loss, nats per answer token."""
        return self.before.answer_loss - self.after.answer_loss

    def holds(self, min_retention: float) -> bool:
        """Whether all losses are finite and enough is retained."""
        finite = math.isfinite(self.after.domain_loss) and math.isfinite(self.after.answer_loss)
        return finite and self.retention >= min_retention

    def require(self, min_retention: float, *, lr: float) -> None:
        """Refuses a model that has forgotten too much of what its parent knew.

        Raises:
            RecordError: retention is below ``min_retention``, or a loss is not finite.
        """
        if self.holds(min_retention):
            return
        raise RecordError(
            f"retention is {self.retention:.3f}, below sft.min_retention {min_retention:g}: at "
            f"learning rate {lr:g} the domain loss went from {self.before.domain_loss:.3f} to "
            f"{self.after.domain_loss:.3f} nats per token, so {1 - self.retention:.0%} of the "
            "probability of a held-out domain token is lost",
            where="sft",
            fix="lower sft.lr, or set `sft.lr: auto`; earlier outs are untouched",
        )


def measure(model: PreTrainedModel, shards: Shards, held_out: Encoded) -> Standing:
    """What ``model`` knows now of the domain and of the held-out answers."""
    from forebear.train.packed import validation_loss

    loss, accuracy = answer_scores(model, held_out)
    domain = validation_loss(model, shards.validation_domain_NT, shards.eos_id)
    return Standing(domain_loss=domain, answer_loss=loss, answer_accuracy=accuracy)


def answer_loss(model: PreTrainedModel, encoded: Encoded, *, batch: int = 16) -> float:
    """Mean negative log-likelihood per answer token, in nats."""
    return answer_scores(model, encoded, batch=batch)[0]


def answer_scores(
    model: PreTrainedModel, encoded: Encoded, *, batch: int = 16
) -> tuple[float, float]:
    """Answer loss in nats per token, and the share of answer tokens ranked first.

    Args:
        model: scored in evaluation mode.
        encoded: from :func:`forebear.train.sft_rows.encode_rows`.
        batch: rows per forward pass.
    Returns:
        Both 0 for no rows.
    """
    import torch

    training = model.training
    model.eval()
    total, right, count = 0.0, 0, 0
    with torch.no_grad():
        for start in range(0, len(encoded), batch):
            part = encoded[start : start + batch]
            width = max(len(row["input_ids"]) for row in part)
            ids_BT = torch.zeros(len(part), width, dtype=torch.long)
            labels_BT = torch.full((len(part), width), -100)
            seen_BT = torch.zeros(len(part), width, dtype=torch.long)
            for i, row in enumerate(part):
                n = len(row["input_ids"])
                ids_BT[i, :n] = torch.tensor(row["input_ids"])
                seen_BT[i, :n] = 1
                mask = torch.tensor(row["completion_mask"], dtype=torch.bool)
                labels_BT[i, :n][mask] = ids_BT[i, :n][mask]
            n_labels = int((labels_BT[:, 1:] != -100).sum())
            output = model(
                input_ids=ids_BT, attention_mask=seen_BT, labels=labels_BT, use_cache=False
            )
            total += float(output.loss) * n_labels
            # a label of -100 never equals a token id
            right += int((output.logits[:, :-1].argmax(dim=-1) == labels_BT[:, 1:]).sum())
            count += n_labels
    model.train(training)
    return total / max(1, count), right / max(1, count)
