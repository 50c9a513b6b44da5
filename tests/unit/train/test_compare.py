"""Distances, adapters and traces of kinship between tiny checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from forebear.cli.trace import command as trace  # noqa: E402
from forebear.train.compare import distance, edge, values  # noqa: E402
from forebear.train.kinship import kinship  # noqa: E402
from tests.support.family import adapt, nudge  # noqa: E402
from tests.unit.train.tiny import write_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("kin") / "parent", seed=0, hidden=64)


def change(folder: Path, work: Any) -> None:
    file = folder / "model.safetensors"
    save_file(work(load_file(file)), file, metadata={"format": "pt"})


def copied(parent: Path, folder: Path) -> Path:
    shutil.copytree(parent, folder)
    return folder


def tuned(parent: Path, folder: Path) -> Path:
    """A child whose matrices kept a cosine of about 0.9, as after training on other data."""
    nudge(copied(parent, folder), seed=5, by=0.01)
    return folder


def permuted(parent: Path, folder: Path) -> Path:
    """A child that computes the same, its neurons in another order."""

    def work(tensors: dict[str, Any]) -> dict[str, Any]:
        torch.manual_seed(8)
        order = torch.randperm(128)
        for name, one in tensors.items():
            if "gate_proj" in name or "up_proj" in name:
                tensors[name] = one[order].contiguous()
            elif "down_proj" in name:
                tensors[name] = one[:, order].contiguous()
        return tensors

    change(tuned(parent, folder), work)
    return folder


# ── kinship ────────────────────────────────────────────────────────────────────────────────────


def test_a_true_child_is_consistent(parent: Path, tmp_path: Path) -> None:
    found = kinship(parent, tuned(parent, tmp_path / "child"))
    assert found["verdict"] == "consistent", found
    assert not found["permuted"]
    assert found["adapter_rank"] is None
    assert min(found["cosines"].values()) > 0.8


def test_an_unrelated_model_is_inconsistent(parent: Path, tmp_path: Path) -> None:
    found = kinship(parent, write_checkpoint(tmp_path / "other", seed=1, hidden=64))
    assert found["verdict"] == "inconsistent", found
    assert abs(found["medians"]["attention"]) < 0.05
    assert found["medians"]["ffn_matched"] < 0.3


def test_a_student_of_the_parent_shows_no_trace(parent: Path, tmp_path: Path) -> None:
    """Distilled from random weights on the teacher's logits: only links can tell."""
    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint

    student = write_checkpoint(tmp_path / "student", seed=2, hidden=64)
    teacher, model = load_model(parent), load_model(student)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        ids = torch.randint(3, 200, (4, 16))
        with torch.no_grad():
            wanted = teacher(ids).logits.softmax(-1)
        loss = torch.nn.functional.cross_entropy(
            model(ids).logits.flatten(0, 1), wanted.flatten(0, 1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    save_checkpoint(model, load_tokenizer(parent), student)
    assert kinship(parent, student)["verdict"] == "inconsistent"


def test_a_permuted_child_is_consistent_once_its_neurons_are_in_order(
    parent: Path, tmp_path: Path
) -> None:
    found = kinship(parent, permuted(parent, tmp_path / "child"))
    assert found["verdict"] == "consistent", found
    assert found["permuted"]
    assert abs(found["medians"]["ffn"]) < 0.1
    assert found["medians"]["ffn_matched"] > 0.8


def test_attention_of_one_and_neurons_of_another_are_inconclusive(
    parent: Path, tmp_path: Path
) -> None:
    other = load_file(write_checkpoint(tmp_path / "other", seed=1, hidden=64) / "model.safetensors")
    child = copied(parent, tmp_path / "child")
    change(
        child,
        lambda tensors: {name: other[name] if "mlp" in name else one
                         for name, one in tensors.items()},
    )  # fmt: skip
    assert kinship(parent, child)["verdict"] == "inconclusive"


def test_models_of_other_shapes_are_inconclusive(parent: Path, tmp_path: Path) -> None:
    found = kinship(parent, write_checkpoint(tmp_path / "other", seed=0, hidden=32))
    assert found["verdict"] == "inconclusive"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_adapter_is_seen_by_its_rank(parent: Path, tmp_path: Path, dtype: str) -> None:
    adapt(parent, tmp_path / "child", tmp_path / "adapter", rank=4, dtype=dtype)
    found = kinship(parent, tmp_path / "child")
    assert found["verdict"] == "consistent", found
    assert found["adapter_rank"] == 4


# ── distance ───────────────────────────────────────────────────────────────────────────────────


def test_equal_checkpoints_are_at_no_distance(parent: Path) -> None:
    found = distance(parent, parent)
    assert found["differing"] == 0
    assert found["max_abs"]["value"] == 0
    assert found["min_cosine"]["value"] == 1


def test_the_worst_tensor_of_every_measure_is_named(parent: Path, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    child = copied(parent, tmp_path / "child")

    def work(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors[name][0, 0] += 0.5
        return tensors

    change(child, work)
    found = distance(parent, child)
    assert found["differing"] == 1
    assert found["max_abs"] == {"value": pytest.approx(0.5, rel=1e-5), "tensor": name}
    assert found["relative_frobenius"]["tensor"] == name
    assert found["min_cosine"]["tensor"] == name
    assert found["min_cosine"]["value"] < 1


def test_values_that_are_not_finite_are_out_of_every_bound(parent: Path, tmp_path: Path) -> None:
    def work(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["model.norm.weight"][0] = float("nan")
        return tensors

    child = copied(parent, tmp_path / "child")
    change(child, work)
    found = distance(parent, child)
    assert found["max_abs"]["value"] > 1e300
    json.dumps(found, allow_nan=False)


def test_another_form_is_named(parent: Path, tmp_path: Path) -> None:
    child = copied(parent, tmp_path / "child")
    change(child, lambda tensors: {n: t.to(torch.bfloat16) for n, t in tensors.items()})
    assert "model.norm.weight" in distance(parent, child)["other_form"]


def test_bf16_is_read_as_torch_reads_it(parent: Path, tmp_path: Path) -> None:
    from forebear.evidence.weights import read_tensors

    child = copied(parent, tmp_path / "child")
    change(child, lambda tensors: {n: t.to(torch.bfloat16) for n, t in tensors.items()})
    for name, tensor in load_file(child / "model.safetensors").items():
        ours = torch.from_numpy(values(read_tensors(child)[name]))
        assert torch.equal(ours, tensor.to(torch.float64))


# ── edges ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parent_and_adapter_add_up_to_what_peft_merges(
    parent: Path, tmp_path: Path, dtype: str
) -> None:
    adapt(parent, tmp_path / "child", tmp_path / "adapter", dtype=dtype)
    found = edge(tmp_path / "child", [parent], tmp_path / "adapter")
    assert found["repeats"] == []
    assert found["adapter"]["status"] == "adds up", found
    assert found["adapter"]["matrices"] == 14


def test_another_adapter_does_not_add_up(parent: Path, tmp_path: Path) -> None:
    adapt(parent, tmp_path / "child", tmp_path / "adapter")
    adapt(parent, tmp_path / "child2", tmp_path / "adapter2", seed=4)
    found = edge(tmp_path / "child", [parent], tmp_path / "adapter2")
    assert found["adapter"]["status"] == "differs"


def test_a_norm_that_no_adapter_touches_must_be_equal(parent: Path, tmp_path: Path) -> None:
    adapt(parent, tmp_path / "child", tmp_path / "adapter")

    def work(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["model.norm.weight"][0] += 1e-6
        return tensors

    change(tmp_path / "child", work)
    found = edge(tmp_path / "child", [parent], tmp_path / "adapter")
    assert found["adapter"]["tensor"] == "model.norm.weight"


def test_an_adapter_that_is_not_understood_is_unknown(parent: Path, tmp_path: Path) -> None:
    adapt(parent, tmp_path / "child", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_dora": True}))
    found = edge(tmp_path / "child", [parent], tmp_path / "adapter")
    assert found["adapter"]["status"] == "unknown"


# ── the command ────────────────────────────────────────────────────────────────────────────────


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(trace, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def test_trace_weights_says_what_it_found_and_that_it_proves_nothing(
    parent: Path, tmp_path: Path
) -> None:
    adapt(parent, tmp_path / "child", tmp_path / "adapter")
    code, text = call("--weights", parent, tmp_path / "child")
    assert code == 0
    assert text.startswith("consistent: ")
    assert "rank 4" in text
    assert "proves nothing" in text


def test_trace_weights_of_strangers_ends_with_1(parent: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=1, hidden=64)
    code, text = call("--weights", parent, other, "--json")
    assert code == 1
    assert json.loads(text)["verdict"] == "inconsistent"
