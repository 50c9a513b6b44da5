"""The plain reader of safetensors: what it finds, what it names as different, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import FormatError
from forebear.evidence.weights import first_difference, read_tensors


def save(
    folder: Path, tensors: dict[str, tuple[str, list[int], bytes]], file: str = "model.safetensors"
) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    write(folder / file, header, b"".join(data for _, _, data in tensors.values()))
    return folder


def write(file: Path, header: object, body: bytes) -> None:
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)


TWO = {"b": ("F32", [2], b"\1" * 8), "a": ("BF16", [2, 2], b"\2" * 8)}


def test_every_tensor_is_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = read_tensors(save(tmp_path, TWO))
    assert [(one.name, one.dtype, one.shape) for one in found.values()] == [
        ("b", "F32", (2,)),
        ("a", "BF16", (2, 2)),
    ]
    assert b"".join(found["a"].chunks()) == b"\2" * 8


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    save(tmp_path, {"a": TWO["a"]}, "model-00001-of-00002.safetensors")
    save(tmp_path, {"b": TWO["b"]}, "model-00002-of-00002.safetensors")
    assert first_difference(tmp_path, save(tmp_path / "whole", TWO)) is None


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({"a": ("BF16", [2, 2], b"\2" * 5 + b"\3" * 3)}, "a", "from value 2 on"),
        ({"a": ("BF16", [4], b"\2" * 8)}, "a", "has shape [4], not [2, 2]"),
        ({"a": ("F16", [2, 2], b"\2" * 8)}, "a", "is of type F16, not BF16"),
        ({"c": ("U8", [1], b"\0")}, "c", "is one too many"),
    ],
)
def test_the_first_difference_is_named(
    tmp_path: Path, change: dict[str, Any], name: str, said: str
) -> None:
    found = first_difference(save(tmp_path / "l", TWO), save(tmp_path / "r", {**TWO, **change}))
    assert found is not None
    assert found.tensor == name
    assert said in found.what


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    found = first_difference(save(tmp_path / "l", TWO), save(tmp_path / "r", {"b": TWO["b"]}))
    assert str(found) == "tensor a is missing"


def test_a_difference_after_the_first_chunk_is_found(tmp_path: Path) -> None:
    size = (1 << 20) + 8
    ours = save(tmp_path / "l", {"a": ("F32", [size // 4], b"\1" * size)})
    theirs = save(tmp_path / "r", {"a": ("F32", [size // 4], b"\1" * (size - 1) + b"\2")})
    found = first_difference(ours, theirs)
    assert found is not None
    assert f"from value {size // 4 - 1} on" in found.what


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ([], b""),
        ({"a": []}, b""),
        ({"a": {"dtype": "F32", "shape": [1]}}, b""),
        ({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 4),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 5),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 3),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\0" * 8),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}, b"\0" * 4),
        ({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"\0"),
        (
            {name: {"dtype": "U8", "shape": [2], "data_offsets": [at, at + 2]}
             for name, at in (("a", 0), ("b", 1))},
            b"\0" * 3,
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, header: object, body: bytes) -> None:
    write(tmp_path / "model.safetensors", header, body)
    with pytest.raises(FormatError):
        read_tensors(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\xff" * 8, b"\x01\0\0\0\0\0\0\0"])
def test_a_file_without_a_header_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(FormatError):
        read_tensors(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    save(tmp_path, TWO)
    save(tmp_path, TWO, "other.safetensors")
    with pytest.raises(FormatError, match="two files"):
        read_tensors(tmp_path)
