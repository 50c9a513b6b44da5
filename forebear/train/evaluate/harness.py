"""Runs tasks through lm-eval on local data, without network and without its caches.

The task files of the package are read here and given the path of the chosen items; the result is
one :class:`TaskSamples` a task. ``simple_evaluate`` is not used: it adds host facts and the date.
:func:`write_task` writes a task so that lm-eval's own command line runs it on the same items.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.train.evaluate.suite import Selected, Suite, write_documents

if TYPE_CHECKING:
    from lm_eval.api.model import LM

_FUNCTION = "!function"
_OURS = "forebear."


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


def _file(name: str) -> Path:
    return Path(str(importlib.resources.files("forebear").joinpath("data", "tasks", name)))


def task_config(name: str) -> dict[str, Any]:
    """The package's task file ``name`` as plain data; functions by their names."""
    from ruamel.yaml import YAML

    reader = YAML(typ="safe", pure=True)
    reader.constructor.add_constructor(
        _FUNCTION, lambda loader, node: f"{_FUNCTION} {loader.construct_scalar(node)}"
    )
    config: dict[str, Any] = reader.load(_file(name).read_text("utf-8"))
    if included := config.pop("include", None):
        config = {**task_config(included), **config}
    return config


def _filled(suite: Suite, config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the chosen generation limits."""
    filled = dict(config)
    values = dict(suite.values)
    if repeats := values.pop("repeats", None):
        filled["repeats"] = repeats
    if temperature := values.pop("temperature", 0.0):
        values |= {"temperature": temperature, "do_sample": True}
    if values:
        filled["generation_kwargs"] = {**config["generation_kwargs"], **values}
    return filled


def config_digest(suite: Suite, *, templated: bool) -> str:
    """SHA-256 of everything but the data that makes the task what it is.

    Our own functions count by their source, those of libraries by name: their versions stand in
    the identity.
    """
    config = _filled(suite, task_config(suite.config))
    value: dict[str, Any] = {"config": config, "chat_template": templated}
    modules = {
        name.removeprefix(_FUNCTION).strip().rpartition(".")[0]
        for name in _texts(config)
        if name.startswith(_FUNCTION)
    }
    if ours := sorted(module for module in modules if module.startswith(_OURS)):
        value["sources"] = {module: _source_digest(module) for module in ours}
    if suite.kind == "ifeval":
        from forebear.train.evaluate.punkt import active_digest

        value["punkt"] = active_digest()
    return hashlib.sha256(strictjson.canonical(value)).hexdigest()


def _source_digest(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise FormatError(f"there is no module {module}", where="data/tasks")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for part in value for text in _texts(part)] if isinstance(value, list) else []


def run_tasks(
    model: LM, chosen: Sequence[Selected], *, templated: bool, scratch: Path
) -> dict[str, TaskSamples]:
    """Every request of the given tasks, answered and scored.

    Args:
        model: answers the requests.
        chosen: the items, task by task.
        templated: whether prompts go through ``model.apply_chat_template``.
        scratch: folder for the items as the harness reads them.
    """
    if not chosen:
        return {}
    import datasets
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    configs = [
        {**_filled(one.suite, load_yaml(_file(one.suite.config))), **_local(one, scratch)}
        for one in chosen
    ]
    # the harness's own tasks are not indexed: thousands of files, none of them used
    loaded = TaskManager(include_defaults=False).load(configs)
    outcome = evaluate(lm=model, task_dict=loaded, apply_chat_template=templated, bootstrap_iters=0)
    return {
        one.suite.task: _samples(one, outcome["samples"][one.suite.task], templated=templated)
        for one in chosen
    }


def _samples(one: Selected, found: Sequence[Mapping[str, Any]], *, templated: bool) -> TaskSamples:
    samples = sorted(found, key=lambda row: str(row["doc"]["item_id"]))
    if len(samples) != len(one.documents):
        raise FormatError(f"{len(samples)} of {len(one.documents)} items came back", one.suite.task)
    first = str(samples[0]["arguments"][0][0]).encode("utf-8")
    return TaskSamples(
        samples=samples,
        task_sha256=config_digest(one.suite, templated=templated),
        prompt_sha256=hashlib.sha256(first).hexdigest(),
    )


def _local(one: Selected, scratch: Path) -> dict[str, Any]:
    file = scratch / "items" / f"{one.suite.task}.jsonl"
    write_documents(one, file)
    return {
        "task": one.suite.task,
        "dataset_kwargs": {
            "data_files": {"test": str(file)},
            "cache_dir": str(scratch / "datasets"),
        },
    }


def write_task(one: Selected, folder: Path) -> str:
    """Writes a task and its chosen items for ``lm_eval run --include_path folder``; its name.

    The name begins with ``forebear_``, so that none of lm-eval's own is hidden.
    """
    name = f"forebear_{one.suite.task}"
    own = _filled(one.suite, {"generation_kwargs": {}}) if one.suite.values else {}
    if own:
        kept = task_config(one.suite.config)["generation_kwargs"]
        own["generation_kwargs"] = {**kept, **own["generation_kwargs"]}
    config = {
        "include": os.fspath(_file(one.suite.config)),
        **own,
        **_local(one, folder),
        "task": name,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML
    (folder / f"{name}.yaml").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return name
