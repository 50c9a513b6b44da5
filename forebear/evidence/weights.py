"""Tensors in the safetensors files of a checkpoint, found and compared without numpy or torch.

A file is believed only when its header and its length agree to the byte, so that no reader of the
same file can see other tensors than this one. It refuses damaged files and tensors that stand in
two files. Values are compared as bytes; what they mean is for ``forebear.train.compare``.

Source: safetensors format, header of at most 100 MB, offsets without holes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson

SUFFIX = ".safetensors"
_MAX_HEADER_BYTES = strictjson.MAX_BYTES
_CHUNK_BYTES = 1 << 20
_WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor and where its bytes lie.

    Attributes:
        name: of the parameter.
        dtype: as the format names it: ``F32``, ``BF16``.
        shape: its sizes.
        file: that holds it.
        start: offset of its first byte in the file.
        n_bytes: their number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    n_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, in parts of at most 1 MiB. Raises EnvironmentFailure."""
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.start)
                left = self.n_bytes
                while left:
                    part = stream.read(min(left, _CHUNK_BYTES))
                    if not part:
                        raise FormatError("was cut short", str(self.file))
                    left -= len(part)
                    yield part
        except OSError as error:
            raise _failure(self.file, error) from error


@dataclass(frozen=True, slots=True)
class Difference:
    """How one tensor of two checkpoints differs.

    Attributes:
        tensor: its name.
        what: in words.
        file: name of the file that holds it in the first checkpoint; in the second one when the
            first has no such tensor.
    """

    tensor: str
    what: str
    file: str

    def __str__(self) -> str:
        return f"tensor {self.tensor} {self.what}"


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the safetensors files right in ``folder``, by name, in the files' order.

    Raises:
        FormatError: a file is damaged, or two hold the same tensor.
        EnvironmentFailure: a file cannot be read.
    """
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        for tensor in _read_file(file):
            if tensor.name in found:
                raise FormatError(f"tensor {tensor.name[:80]!a} stands in two files", str(file))
            found[tensor.name] = tensor
    return found


def differences(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Iterator[Difference]:
    """Every tensor that differs, in the order of ``left``; those that only ``right`` has, last."""
    for name, ours in left.items():
        theirs = right.get(name)
        what = "is missing" if theirs is None else _difference(ours, theirs)
        if what:
            yield Difference(name, what, ours.file.name)
    for name, theirs in right.items():
        if name not in left:
            yield Difference(name, "is one too many", theirs.file.name)


def first_difference(left: Path, right: Path) -> Difference | None:
    """The first tensor that differs between two folders; None when all are equal.

    Raises:
        FormatError: a file is damaged.
    """
    return next(differences(read_tensors(left), read_tensors(right)), None)


def _difference(ours: Tensor, theirs: Tensor) -> str:
    if ours.shape != theirs.shape:
        return f"has shape {list(theirs.shape)}, not {list(ours.shape)}"
    if ours.dtype != theirs.dtype:
        return f"is of type {theirs.dtype}, not {ours.dtype}"
    at = 0
    for one, other in zip(ours.chunks(), theirs.chunks(), strict=True):
        if one != other:
            at += next(i for i, pair in enumerate(zip(one, other, strict=True)) if len({*pair}) > 1)
            return f"differs from value {at // _WIDTHS[ours.dtype]} on"
        at += len(one)
    return ""


def _read_file(file: Path) -> list[Tensor]:
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise FormatError("is no safetensors file, or was cut short", str(file))
            header = strictjson.parse(stream.read(length), where=str(file))
    except OSError as error:
        raise _failure(file, error) from error
    if not isinstance(header, dict):
        raise FormatError("its header is no object", str(file))
    header.pop("__metadata__", None)
    tensors = [_tensor(file, 8 + length, name, entry) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.n_bytes))
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end:
            raise FormatError(f"tensor {tensor.name[:80]!a} overlaps or leaves a hole", str(file))
        end += tensor.n_bytes
    if end != size:
        raise FormatError(f"has {size} bytes, where its header counts {end}", str(file))
    return tensors


def _tensor(file: Path, base: int, name: str, entry: Any) -> Tensor:
    where = f"{file}: {name[:80]!a}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError("must have exactly dtype, shape and data_offsets", where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _WIDTHS:
        raise FormatError(f"is of the unknown type {str(dtype)[:20]!a}", where)
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise FormatError("shape and data_offsets must be lists of whole numbers", where)
    n_bytes = math.prod(shape) * _WIDTHS[dtype]
    if offsets[1] - offsets[0] != n_bytes:
        raise FormatError("its offsets do not fit its shape", where)
    return Tensor(name, dtype, tuple(shape), file, base + offsets[0], n_bytes)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _failure(file: Path, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(f"cannot be read: {error.strerror}", where=str(file))
