"""The packed sequences of ``tokenize``, read by every stage that trains or measures on them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.train import world

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

IGNORED = -100  # label of a position that has no loss


class Shards:
    """The packed sequences of ``tokenize``, memory-mapped.

    Attributes:
        train_NT: token ids of the training split, N sequences of T tokens.
        eos_id: the token that ends every document.
    Raises:
        FormatError: a shard's size does not fit its description.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "meta.json"
        meta = strictjson.parse(file.read_bytes(), where=str(file))
        if not isinstance(meta, dict):
            raise FormatError("must be an object", where=str(file))
        self.meta: dict[str, Any] = meta
        self.length_tokens = int(meta["length_tokens"])
        self.eos_id = int(meta["eos_id"])
        self.train_NT = self._map(folder / "train.bin")
        self.validation_domain_NT = self._map(folder / "validation_domain.bin")
        self.validation_replay_NT = self._map(folder / "validation_replay.bin")

    def _map(self, file: Path) -> NDArray[np.generic]:
        import numpy as np

        kind = np.dtype(str(self.meta["dtype"]))
        row_bytes = kind.itemsize * self.length_tokens
        size_bytes = file.stat().st_size
        if size_bytes == 0 or size_bytes % row_bytes:
            raise FormatError(
                f"{size_bytes} bytes are not whole sequences of {self.length_tokens} tokens",
                where=str(file),
                fix="run tokenize again",
            )
        return np.memmap(file, dtype=kind, mode="r").reshape(-1, self.length_tokens)

    def require_ids_below(self, vocabulary: int) -> None:
        """Refuses shards that hold an id without a row in the model's embedding.

        Args:
            vocabulary: rows of the input embedding.
        Raises:
            FormatError: an id is too high.
        """
        for name in ("train_NT", "validation_domain_NT", "validation_replay_NT"):
            rows_NT = getattr(self, name)
            # a slice at a time: the whole map need not fit into memory
            highest = max(int(rows_NT[i : i + 4096].max()) for i in range(0, len(rows_NT), 4096))
            if highest >= vocabulary:
                raise FormatError(
                    f"{name.removesuffix('_NT')} holds token {highest}; the model has "
                    f"{vocabulary} embeddings",
                    where="shards",
                    fix="the shards are damaged, or of another tokenizer: run tokenize again",
                )

    def require_tokenizer(self, folder: Path) -> None:
        """Refuses a tokenizer other than the one that the shards were made with.

        Raises:
            FormatError: the digest in the shards' description differs.
        """
        wanted = self.meta.get("tokenizer_sha256")
        file = folder / "tokenizer.json"
        if wanted is not None and hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
            raise FormatError(
                "is not the tokenizer that the shards were made with",
                where=str(file),
                fix="run tokenize again",
            )

    def bits_per_byte(self, role: str, loss_nats: float) -> float | None:
        """The validation loss of a role in bits per byte of its text; None without byte counts.

        Comparable across vocabularies, as a loss per token is not.

        Args:
            role: ``domain`` or ``replay``.
            loss_nats: mean per predicted token, from :func:`validation_loss`.
        """
        # bytes under predicted tokens, else of all the text: then the first tokens count as free
        counts = self.meta.get("validation_label_bytes") or self.meta.get("validation_bytes") or {}
        n_bytes = counts.get(role)
        if not isinstance(n_bytes, int) or n_bytes < 1:
            return None
        rows_NT = self.validation_domain_NT if role == "domain" else self.validation_replay_NT
        return loss_nats * count_labels(rows_NT, self.eos_id) / (math.log(2) * n_bytes)


def count_labels(rows_NT: NDArray[np.generic], eos_id: int) -> int:
    """Predicted tokens: all but each sequence's first and each document's first."""
    return int((rows_NT[:, :-1] != eos_id).sum())


def boundary_inputs(rows_BT: NDArray[np.generic], eos_id: int) -> dict[str, Any]:
    """Model inputs that keep packed documents apart.

    Positions restart after every end-of-document token; transformers derives from them a mask
    under which no token sees another document. The first token of a document has no label.

    Args:
        rows_BT: token ids, shape [B, T].
        eos_id: id of the end-of-document token.
    Returns:
        ``input_ids``, ``position_ids``, ``labels``, each an int64 tensor of shape [B, T].
    """
    import torch

    ids_BT = torch.from_numpy(rows_BT.astype("int64"))
    starts_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    starts_BT[:, 0] = True
    starts_BT[:, 1:] = ids_BT[:, :-1] == eos_id
    index_T = torch.arange(ids_BT.shape[1])
    start_at_BT = torch.where(starts_BT, index_T, 0).cummax(dim=1).values
    labels_BT = ids_BT.masked_fill(starts_BT, IGNORED)
    return {"input_ids": ids_BT, "position_ids": index_T - start_at_BT, "labels": labels_BT}


def validation_loss(
    model: PreTrainedModel, rows_NT: NDArray[np.generic], eos_id: int, *, batch: int = 4
) -> float:
    """Mean negative log-likelihood per predicted token, in nats, over ``rows_NT``.

    Processes that train together share the batches; every one calls this, and gets the same.
    """
    import torch

    training = model.training
    model.eval()
    nll_nats, count = 0.0, 0
    starts = range(0, len(rows_NT), batch)
    n_turns = math.ceil(len(starts) / world.size())
    with torch.no_grad():
        for turn in range(n_turns):
            mine = turn * world.size() + world.rank()
            # a sharded model's forward pass needs every process: one without a batch repeats the
            # first, and does not count it
            start = starts[mine] if mine < len(starts) else 0
            inputs = boundary_inputs(rows_NT[start : start + batch], eos_id)
            n_labels = int((inputs["labels"][:, 1:] != IGNORED).sum())
            placed = {name: value.to(model.device) for name, value in inputs.items()}
            loss = float(model(**placed, use_cache=False).loss)
            if mine < len(starts):
                nll_nats += loss * n_labels
                count += n_labels
    model.train(training)
    nll_nats, all_labels = world.total([nll_nats, float(count)])
    return nll_nats / max(1.0, all_labels)
