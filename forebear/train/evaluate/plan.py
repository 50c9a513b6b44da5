"""What a measurement will ask and cost, before anything is asked.

Items are counted from the data; tokens are estimates (four characters a token in a prompt, the
limit for an answer), so dollars are an upper bound and minutes a rough one.

``python -P -m forebear.train.evaluate.plan --params params.yaml --json``

Source: evaluation page, section 5.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError
from forebear.train.evaluate.command import read_measure_params
from forebear.train.evaluate.judged import JudgedChoice, JudgeSettings
from forebear.train.evaluate.measure import Places, choose
from forebear.train.evaluate.params import MeasureParams
from forebear.train.evaluate.suite import Selected

_CHARS_PER_TOKEN = 4
# SmolLM2-135M in float32 on two cores, batches of 16: rough, and wrong for any other model
_PROMPT_TOKENS_PER_S = 600.0
_ANSWER_TOKENS_PER_S = 80.0
_ENDPOINT_TOKENS_PER_S = 40.0  # of one conversation, a guess
_JUDGE_TOKENS = 400  # a verdict with its reasons
# conversations an item and judge calls an answer, both orders included
_SHAPE: Mapping[str, tuple[int, int, int, str]] = {
    # task: turns an item, judge calls an item, published limit of an answer, file
    "mt_bench": (2, 2, 1024, "mt_bench/question.jsonl"),
    "alpaca_eval": (1, 2, 2048, ""),
    "arena_hard": (1, 2, 4096, "arena_hard/question_v0.1.jsonl"),
    "harmbench": (1, 1, 512, "harmbench/harmbench_standard.jsonl"),
    "jailbreakbench": (1, 1, 150, "jailbreakbench/harmful_behaviors.jsonl"),
    "xstest": (1, 1, 256, "xstest/xstest_prompts.jsonl"),
}
_LABELLED = (619, 450)  # pairs that people compared, completions that they classified
_LABELLED_TOKENS = 700  # of one of them, with its instructions
_PROBES = 60 + 100 + 32 + 100 + 16
_JBB_SIDES = 2  # harmful and benign
_CHOICES_ELSEWHERE = {"bbq": 3, "bbq_all": 12, "crows_pairs": 2}


def plan(params: MeasureParams, *, golden: Path, benchmarks: Path) -> list[dict[str, Any]]:
    """One row a task: what will be asked of the model and of the judge, and what it costs.

    Args:
        params: the section ``measure``.
        golden: folder of the golden set.
        benchmarks: folder of the benchmarks.

    Returns:
        Rows with ``suite``, ``shown_name``, ``items``, ``requests``, ``judge_requests``,
        ``prompt_tokens``, ``completion_tokens``, ``usd``, ``minutes`` and ``reason``, which is
        ``None`` unless the task cannot be run.
    """
    chosen, missing = choose(params, Places(golden, benchmarks, Path()), planning=True)
    rows = [_posed(one, params) for one in chosen]
    rows += [_row(one.task, one.task, reason=one.reason) for one in missing]
    rows += [_judged(task, choice, params, benchmarks) for task, choice in params.judged().items()]
    return sorted(rows, key=lambda row: str(row["suite"]))


def _row(
    task: str,
    shown: str,
    *,
    items: int = 0,
    requests: int = 0,
    judge_requests: int = 0,
    tokens: tuple[int, int] = (0, 0),
    usd: float = 0.0,
    minutes: float = 0.0,
    reason: str | None = None,
) -> dict[str, Any]:
    return {
        "suite": task,
        "shown_name": shown,
        "items": items,
        "requests": requests,
        "judge_requests": judge_requests,
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "usd": round(usd, 4),
        "minutes": round(minutes, 2),
        "reason": reason,
    }


def _minutes(params: MeasureParams, prompt: int, answer: int) -> float:
    if params.model.endpoint is None:
        return (prompt / _PROMPT_TOKENS_PER_S + answer / _ANSWER_TOKENS_PER_S) / 60
    return answer / (_ENDPOINT_TOKENS_PER_S * params.model.endpoint.concurrency) / 60


def _usd(params: MeasureParams, prompt: int, answer: int) -> float:
    endpoint = params.model.endpoint
    return endpoint.price.of(prompt, answer) if endpoint is not None and endpoint.price else 0.0


def _posed(one: Selected, params: MeasureParams) -> dict[str, Any]:
    suite, n = one.suite, len(one.documents)
    chars = sum(
        len(text) if isinstance(text, str) else sum(len(str(part)) for part in text)
        for row in one.documents
        for text in (row[key] for key in suite.text_keys)
    )
    prompt = math.ceil(chars / _CHARS_PER_TOKEN)
    requests, answer = n, 0
    if suite.generates:
        requests = n * int(suite.values.get("repeats", 1))
        answer = requests * int(suite.values["max_gen_toks"])
        prompt *= int(suite.values.get("repeats", 1))
    else:
        requests = sum(_n_choices(row, suite.kind) for row in one.documents)
    return _row(
        suite.task,
        suite.task,
        items=n,
        requests=requests,
        tokens=(prompt, answer),
        usd=_usd(params, prompt, answer),
        minutes=_minutes(params, prompt, answer),
    )


def _n_choices(row: Mapping[str, Any], kind: str) -> int:
    held = row.get("choices") or row.get("options")
    return _CHOICES_ELSEWHERE[kind] if held is None else len(held)


def _judged(
    task: str, choice: JudgedChoice, params: MeasureParams, benchmarks: Path
) -> dict[str, Any]:
    turns, calls, longest, name = _SHAPE[task]
    judge = params.judges[choice.judge]
    shown = f"{task}[rules]" if judge.kind == "rules" else task
    if task == "alpaca_eval":
        data, acknowledged = getattr(choice, "data", None), getattr(choice, "licence_ack", None)
        if data is None or acknowledged is None:
            return _row(task, shown, reason="licence")
        name = data
    lines = _lines(benchmarks / name)
    if lines is None:
        return _row(task, shown, reason=f"data: {name} is not there")
    population = len(lines) * (_JBB_SIDES if task == "jailbreakbench" else 1)
    n = population if choice.limit is None else min(choice.limit, population)
    per_item = math.ceil(sum(map(len, lines)) / len(lines) / _CHARS_PER_TOKEN)
    answer = n * turns * (choice.max_tokens or longest)
    prompt = n * per_item * turns
    judge_requests = 0 if judge.kind == "rules" else n * calls
    # a judge reads the question and every answer, and writes a verdict
    judge_tokens = (prompt * calls + answer * calls, judge_requests * _JUDGE_TOKENS)
    return _row(
        task,
        shown,
        items=n,
        requests=n * turns,
        judge_requests=judge_requests,
        tokens=(prompt, answer),
        usd=_usd(params, prompt, answer) + _judge_usd(judge, *judge_tokens),
        minutes=_minutes(params, prompt, answer)
        + judge_requests * _JUDGE_TOKENS / _ENDPOINT_TOKENS_PER_S / judge.concurrency / 60,
    )


def _models_that_judge(params: MeasureParams) -> set[str]:
    """Names of the judges in use that must be asked and paid."""
    used = {choice.judge for choice in params.judged().values()}
    return {name for name in used if params.judges[name].kind != "rules"}


def _calibration(name: str, params: MeasureParams) -> dict[str, Any]:
    """What it takes to find out how far a judge can be trusted; once for each judge."""
    judge, limit = params.judges[name], params.calibration.limit
    pairs, completions = (n if limit is None else min(n, limit) for n in _LABELLED)
    # both orders of each pair, then probes and repeats
    requests = 2 * pairs + completions + _PROBES
    tokens = (requests * _LABELLED_TOKENS, requests * _JUDGE_TOKENS)
    return _row(
        f"calibration:{name}",
        f"calibration:{name}",
        items=pairs + completions,
        judge_requests=requests,
        usd=_judge_usd(judge, *tokens),
        minutes=tokens[1] / _ENDPOINT_TOKENS_PER_S / judge.concurrency / 60,
    )


def _judge_usd(judge: JudgeSettings, prompt: int, answer: int) -> float:
    return judge.price.of(prompt, answer) if judge.price is not None else 0.0


def _lines(file: Path) -> list[bytes] | None:
    for one in (file, file.with_name(f"{file.name}.gz")):
        if one.is_file():
            data = one.read_bytes()
            return (gzip.decompress(data) if one.suffix == ".gz" else data).splitlines()
    return None


def main() -> None:
    """Prints the plan of ``params.yaml`` as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--golden", type=Path, default=Path("data/curate/golden"))
    parser.add_argument("--benchmarks", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        params = read_measure_params(options.params)
        rows = plan(params, golden=options.golden, benchmarks=options.benchmarks)
    except ForebearError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for row in rows:
        sys.stdout.write(
            f"{row['shown_name']:<24} {row['items']:>6} items {row['requests']:>7} requests "
            f"{row['judge_requests']:>6} judged {row['completion_tokens']:>9} tokens "
            f"{row['usd']:>8.2f} USD {row['minutes']:>7.1f} min  {row['reason'] or ''}\n"
        )


if __name__ == "__main__":
    main()
