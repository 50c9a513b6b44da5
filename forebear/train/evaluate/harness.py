"""Runs tasks through lm-eval on local data, without network and without its caches.

The task files of the package are read here and given the path of the chosen items; the result is
one :class:`TaskSamples` a task. ``simple_evaluate`` is not used: it adds host facts and the date.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.train.evaluate.suite import Selected, write_documents

if TYPE_CHECKING:
    from forebear.train.evaluate.lm import JournaledLM


@dataclass(frozen=True, slots=True)
class TaskSamples:
    """What lm-eval gave for one task.

    Attributes:
        samples: its per-item records, in order of item id.
        task_sha256: digest of the resolved task configuration, without paths.
        prompt_sha256: digest of the first item's prompt, as a quick look at equal prompts.
    """

    samples: Sequence[Mapping[str, Any]]
    task_sha256: str
    prompt_sha256: str


def task_config(name: str) -> dict[str, Any]:
    """The package's task file ``name`` as plain data."""
    from ruamel.yaml import YAML

    text = importlib.resources.files("forebear").joinpath("data", "tasks", name).read_text("utf-8")
    config: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return config


def run_tasks(
    model: JournaledLM, chosen: Sequence[Selected], *, chat_template: bool, scratch: Path
) -> dict[str, TaskSamples]:
    """Every request of the given tasks, answered and scored.

    Tasks that go through the chat template and tasks that do not are two passes.

    Args:
        model: answers the requests.
        chosen: the items, task by task.
        chat_template: whether suites that ask for the template get it.
        scratch: folder for the items as the harness reads them.
    """
    results: dict[str, TaskSamples] = {}
    for templated in (True, False):
        batch = [one for one in chosen if (one.suite.chat and chat_template) is templated]
        if batch:
            results.update(_run(model, batch, templated=templated, scratch=scratch))
    return results


def _run(
    model: JournaledLM, batch: Sequence[Selected], *, templated: bool, scratch: Path
) -> dict[str, TaskSamples]:
    import datasets
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    configs = [_with_data(one, scratch) for one in batch]
    # the harness's own tasks are not indexed: thousands of files, none of them used
    loaded = TaskManager(include_defaults=False).load(configs)
    outcome = evaluate(lm=model, task_dict=loaded, apply_chat_template=templated, bootstrap_iters=0)
    results = {}
    for one in batch:
        task = one.suite.task
        samples = sorted(outcome["samples"][task], key=lambda row: str(row["doc"]["item_id"]))
        if len(samples) != len(one.documents):
            raise FormatError(f"{len(samples)} of {len(one.documents)} items came back", task)
        results[task] = TaskSamples(
            samples=samples,
            task_sha256=_config_digest(one.suite.config, templated=templated),
            prompt_sha256=hashlib.sha256(
                str(samples[0]["arguments"][0][0]).encode("utf-8")
            ).hexdigest(),
        )
    return results


def _with_data(one: Selected, scratch: Path) -> dict[str, Any]:
    file = scratch / "items" / f"{one.suite.task}.jsonl"
    write_documents(one, file)
    return {
        **task_config(one.suite.config),
        "task": one.suite.task,
        "dataset_kwargs": {
            "data_files": {"test": str(file)},
            "cache_dir": str(scratch / "datasets"),
        },
    }


def _config_digest(name: str, *, templated: bool) -> str:
    value = {"config": task_config(name), "chat_template": templated}
    return hashlib.sha256(strictjson.canonical(value)).hexdigest()
