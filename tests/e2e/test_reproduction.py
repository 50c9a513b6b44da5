"""The smoke pipeline's merge and tuning, run again by somebody else, and attested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.clone import Clone

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def reproducer(clone: Clone, tmp_path: Path) -> Path:
    clone.run("forebear", "keys", "new", "recorder", "--keys", str(tmp_path / "other"))
    return tmp_path / "other" / "recorder.pem"


def reproduce(clone: Clone, key: Path, out: Path, *words: str, code: int) -> list[dict[str, Any]]:
    done = clone.run(
        "forebear", "reproduce", *words, "--key", str(key), "--out", str(out), "--json", check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["stages"]
    return rows


def test_merge_and_sft_come_out_identical_and_the_attestation_verifies(
    clone: Clone,
    reproducer: Path,
    tmp_path: Path,
) -> None:
    rows = reproduce(clone, reproducer, tmp_path / "said", "merge", "sft", code=0)
    assert [row["verdict"] for row in rows] == ["identical", "identical"]
    assert all(row["independent"] for row in rows)
    assert {row["confinement"] for row in rows} == {"enforced"}
    release = tmp_path / "release"
    clone.run("forebear", "pack", str(release))
    for row in rows:
        clone.run("forebear", "attach", str(release), row["file"])
    keys = Path(clone.env["XDG_CONFIG_HOME"]) / "forebear" / "keys"
    policy = tmp_path / "trust.yaml"
    (tmp_path / "owner.pub").write_bytes((keys / "owner.pub").read_bytes())
    policy.write_text("owner_keys: [owner.pub]\nattester_keys: [other/recorder.pub]\n")
    done = clone.run("forebear", "verify", str(release), "--trust", str(policy))
    assert "merge run again came out identical" in done.stdout
    assert "sft run again came out identical" in done.stdout


def test_another_seed_comes_out_different_and_names_the_first_tensor(
    clone: Clone,
    reproducer: Path,
    tmp_path: Path,
) -> None:
    (row,) = reproduce(clone, reproducer, tmp_path / "said", "sft", "--set", "seed=8", code=1)
    assert row["verdict"] == "different"
    assert row["changed_params"] == {"seed": "8"}
    assert row["comparison"]["first"]["file"] == "data/sft/checkpoint/model.safetensors"
    assert row["comparison"]["first"]["tensor"].endswith("weight")


def test_the_merge_recomputes_and_every_checkpoint_holds_to_its_parents(
    clone: Clone,
) -> None:
    done = clone.run(
        "forebear", "verify", ".", "--recompute", "merge", "--recompute", "weights", check=False
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith(" C16"))
    assert " pass " in line, done.stdout
