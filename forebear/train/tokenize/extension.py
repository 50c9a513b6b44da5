"""The folder in which an extended vocabulary goes from tokenize to training, and its use there.

Beside the tokenizer's own files it holds ``extension.json`` (which tokens are new, and of which
old ones each is made) and ``rows.safetensors`` (their embedding rows, and output rows where those
are not the same tensor): means of the base's rows of the old tokens. :func:`apply_extension` puts
them into the base. It refuses a model that is not the one the means were taken from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.formats import strictjson

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

SCHEMA = "forebear.extension/v1"
_FILE = "extension.json"
_ROWS = "rows.safetensors"
_FIX = "run tokenize again: dvc repro --force --single-item tokenize"

# Files that hold a vocabulary in other forms; stale once tokenizer.json has more tokens.
_OTHER_FORMS = ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json", "tekken.json")
_KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.*")
# A base is stored in 16 bits and may be loaded so; another model's rows are not near at all.
_TOLERANCE = 0.02


def copy_tokenizer(base: Path, folder: Path, *, extended: bytes | None = None) -> None:
    """Writes the base's tokenizer files into ``folder``, which exists.

    Args:
        base: checkpoint.
        folder: gets the files byte by byte.
        extended: what ``tokenizer.json`` becomes; other forms of the vocabulary are then left out.
    """
    for pattern in (*_KEPT, *(() if extended else _OTHER_FORMS)):
        for file in sorted(base.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
    if extended is not None:
        (folder / "tokenizer.json").write_bytes(extended)


def write_rows(base: Path, folder: Path, tokens: Sequence[tuple[int, str, Sequence[int]]]) -> None:
    """Writes the new rows and what they are made of.

    Args:
        base: checkpoint whose rows are averaged.
        folder: that holds the extended tokenizer.
        tokens: id, spelling and old ids of each new token; ids follow each other.

    Raises:
        FormatError: the base has no embedding that reaches the old ids.
    """
    import torch
    from safetensors.torch import save_file

    matrices = _read_matrices(base)
    parts = [list(old) for _, _, old in tokens]
    n_rows, width = matrices["input"].shape
    highest = max(old for row in parts for old in row)
    if highest >= n_rows:
        raise FormatError(
            f"its embedding has {n_rows} rows, its tokenizer an id {highest}", where=str(base)
        )
    rows = {name: _means(matrix, parts) for name, matrix in matrices.items()}
    save_file({name: row.to(torch.float32) for name, row in rows.items()}, folder / _ROWS)
    description = {
        "schema": SCHEMA,
        "first_id": tokens[0][0],
        "n_tokens": len(tokens),
        "base_rows": n_rows,
        "width": width,
        "tied": "output" not in matrices,
        "tokens": [{"id": n, "token": text, "parts": list(old)} for n, text, old in tokens],
    }
    (folder / _FILE).write_bytes(strictjson.dumps(description))


def _means(matrix: Tensor, parts: Sequence[Sequence[int]]) -> Tensor:
    """Mean row of each list of ids, in float32, shape [N, D] (or [N] of a bias)."""
    import torch

    return torch.stack([matrix[list(old)].float().mean(dim=0) for old in parts])


def _read_matrices(base: Path) -> dict[str, Tensor]:
    """The base's embedding as ``input``; ``output`` and ``output_bias`` where it has its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):  # names and ties of the parameters, no weights
        config = AutoConfig.from_pretrained(base, local_files_only=True)
        skeleton = AutoModelForCausalLM.from_config(config)
    skeleton.tie_weights()
    names = {id(value): name for name, value in skeleton.named_parameters()}
    return {
        kind: _read_tensor(base, names[id(value)]) for kind, value in _targets(skeleton).items()
    }


def _targets(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The model's parameters with one row per token, by their names in the rows' file."""
    found: dict[str, Any] = {"input": model.get_input_embeddings().weight}
    head = model.get_output_embeddings()
    if head is not None and head.weight is not found["input"]:
        found["output"] = head.weight
    if head is not None and getattr(head, "bias", None) is not None:
        found["output_bias"] = head.bias
    return found


def _read_tensor(base: Path, name: str) -> Tensor:
    from safetensors import safe_open

    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            if name in handle.keys():  # noqa: SIM118  # not a mapping
                tensor: Tensor = handle.get_tensor(name)
                return tensor
    raise FormatError(f"tensor {name} is missing", where=str(base))


def apply_extension(model: PreTrainedModel, folder: Path) -> None:
    """Gives the base its new embedding rows; does nothing where the vocabulary is the old one.

    The embedding grows to the last new id, unless the base has spare rows up to there. Old rows
    keep their values bit by bit, and tied matrices stay tied.

    Args:
        model: the base as loaded; changed in place.
        folder: out of tokenize.

    Raises:
        FormatError: the folder is damaged, or the rows were made from another model.
    """
    if not (folder / _FILE).exists():
        return
    import torch

    description = _read_description(folder)
    rows = _read_rows(folder, description)
    parts = [entry["parts"] for entry in description["tokens"]]
    first, end = description["first_id"], description["first_id"] + description["n_tokens"]
    _require_base(model, rows, parts, description, folder)
    if end > description["base_rows"]:
        model.resize_token_embeddings(end, mean_resizing=False)
    with torch.no_grad():
        for name, target in _targets(model).items():
            target[first:end] = rows[name].to(target)


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / _FILE
    value = strictjson.parse_canonical(file.read_bytes(), where=str(file))
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise FormatError(f"is no {SCHEMA}", where=str(file), fix=_FIX)
    return value


def _read_rows(folder: Path, description: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / _ROWS
    try:
        rows = load_file(file)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"cannot be read: {error}", where=str(file), fix=_FIX) from error
    shape = (description["n_tokens"], description["width"])
    if tuple(rows["input"].shape) != shape or len(description["tokens"]) != shape[0]:
        raise FormatError(
            f"holds rows of shape {list(rows['input'].shape)}, not {list(shape)}",
            where=str(file),
            fix=_FIX,
        )
    return rows


def _require_base(
    model: PreTrainedModel,
    rows: Mapping[str, Tensor],
    parts: Sequence[Sequence[int]],
    description: Mapping[str, Any],
    folder: Path,
) -> None:
    """Refuses a model whose own rows do not have the means that the file holds."""
    import torch

    targets = _targets(model)
    shape = (description["base_rows"], description["width"])
    same = tuple(targets["input"].shape) == shape and targets.keys() == rows.keys()
    with torch.no_grad():
        for name in rows if same else ():
            room = _TOLERANCE * float(rows[name].abs().max())
            means = _means(targets[name], parts)
            same = same and bool(torch.allclose(means, rows[name], rtol=0, atol=room))
    if not same:
        raise FormatError(
            "the new rows are means of another model's rows, or are in this one already",
            where=str(folder),
            fix="apply them to the base that tokenize read, once",
        )
