"""lm-eval's own command line gives our scores: same model, same task files, same items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.measuring import build_place, make_params, measure_into

pytest.importorskip("lm_eval")
# what is asked through the chat template, and what without
TEMPLATED: dict[str, Any] = {
    "mc4_far": {},
    "ifeval": {"limit": 6, "max_tokens": 12},
    "code": {"limit": 4, "max_tokens": 8},
}
PLAIN: dict[str, Any] = {
    "mmlu_pro": {"limit": 14, "max_chars": 300},
    "bbq": {"limit": 16},
    "crows_pairs": {"limit": 18},
}
# our metric → lm-eval's
SAME = {
    ("mc4_far", "acc"): "acc,none",
    ("ifeval", "prompt_strict"): "prompt_level_strict_acc,none",
    ("ifeval", "prompt_loose"): "prompt_level_loose_acc,none",
    ("ifeval", "instruction_strict"): "inst_level_strict_acc,none",
    ("ifeval", "instruction_loose"): "inst_level_loose_acc,none",
    ("code", "acc"): "acc,none",
    ("mmlu_pro", "acc"): "acc,none",
    ("bbq", "acc"): "acc,none",
    ("bbq", "acc_ambiguous"): "accuracy_amb,none",
    ("bbq", "acc_disambiguated"): "accuracy_disamb,none",
    ("bbq", "bias_ambiguous"): "amb_bias_score,none",
    ("bbq", "bias_disambiguated"): "disamb_bias_score,none",
    ("crows_pairs", "stereotype_share"): "pct_stereotype,none",
}


def run_lm_eval(checkpoint: Path, tasks: list[str], folder: Path, *more: str) -> dict[str, Any]:
    """The results that ``lm_eval run`` writes."""
    out = folder / ("chat" if more else "plain")
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf",
        "--model_args", f"pretrained={checkpoint},dtype=float32", "--device", "cpu",
        "--tasks", ",".join(tasks), "--include_path", str(folder),
        "--batch_size", "4", "--output_path", str(out), *more,
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = out.rglob("results_*.json")
    results: dict[str, Any] = json.loads(file.read_text())["results"]
    return results


def test_lm_eval_s_own_command_line_gives_the_same_scores_to_the_last_digit(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forebear.train.evaluate.harness import write_task
    from forebear.train.evaluate.measure import Places, choose

    monkeypatch.setenv("FOREBEAR_THREADS", "1")
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    benchmarks = repository / "data" / "benchmarks"
    place = build_place(tmp_path / "place")
    measured = measure_into(place, benchmarks, tmp_path / "run", tasks={**TEMPLATED, **PLAIN})
    params = make_params(tasks={**TEMPLATED, **PLAIN})
    chosen, _ = choose(params, Places(place / "golden", benchmarks, tmp_path))
    names = {one.suite.task: write_task(one, tmp_path / "tasks") for one in chosen}
    checkpoint, folder = place / "base", tmp_path / "tasks"
    theirs = {
        **run_lm_eval(checkpoint, [names[task] for task in PLAIN], folder),
        **run_lm_eval(
            checkpoint, [names[task] for task in TEMPLATED], folder, "--apply_chat_template"
        ),
    }
    ours = {
        (record["task"], record["metric"]): record["value"]
        for record in json.loads((measured / "summary.json").read_text())["records"]
    }
    for (task, metric), name in SAME.items():
        expected = theirs[names[task]][name]
        if "bias" in metric:  # ours is how far from none, whichever way
            expected = abs(expected)
        assert ours[task, metric] == expected, (task, metric)
    # something was measured that could have differed
    assert len({ours[key] for key in SAME}) > 4
