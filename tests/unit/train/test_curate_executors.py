"""Outs depend neither on how many tasks run, nor where, nor on a kill; memory not on the input."""

from __future__ import annotations

import os
import random
import stat
import sys
from copy import deepcopy
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from forebear.errors import EnvironmentFailure
from forebear.train.curate.executors import require_executor
from forebear.train.curate.pipeline import Outcome
from forebear.train.curate.sorting import LineSorter
from tests.unit.train.curating import section, sift, source, write_rows

WORDS = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "was", "on", "are", "as",
         "with", "they", "at", "this", "from", "by", "not")  # fmt: skip


def texts(n: int) -> list[str]:
    """Made-up texts: some twice, some nearly so."""
    draw = random.Random(5)  # noqa: S311  # to be repeated, not to be secret
    made = [" ".join(draw.choices(WORDS, k=60)) for _ in range(n)]
    near = [text.replace(" the ", " a ", 1) for text in made[::7]]
    return [*made, *made[::5], *near]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("given") / "given.jsonl", texts(60))


def run(given: Path, work: Path, **executor: object) -> list[Outcome]:
    filters = {"near_copies": {"buckets": 4, "hashes_per_bucket": 3}}
    return sift(section(source(given), executor=executor, **filters), work)


@pytest.fixture(scope="module")
def alone(given: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return run(given, tmp_path_factory.mktemp("alone") / "work")


def test_copies_and_near_copies_are_found_among_the_texts(alone: list[Outcome]) -> None:
    by = [one.dropped_by for one in alone]
    assert by.count("exact_copy") == 12
    assert by.count("near_copy") >= 5
    assert len(alone) == 81


@pytest.mark.parametrize(
    "executor",
    [{"shard_mib": 0.005}, {"shard_mib": 0.005, "tasks": 2}],
    ids=["shards", "shards on two processes"],
)
def test_outcomes_do_not_depend_on_shards_and_tasks(
    given: Path, alone: list[Outcome], tmp_path: Path, executor: dict[str, object]
) -> None:
    assert run(given, tmp_path / "work", **executor) == alone
    assert len(list((tmp_path / "work" / "shards").iterdir())) >= 5


SBATCH = f"""#!{sys.executable}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
for argument in sys.argv[1:-1]:
    if argument.startswith("--export=ALL,"):
        name, value = argument.removeprefix("--export=ALL,").split("=")
        os.environ[name] = value
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", script).groups())
with open(os.environ["SAW"], "a") as saw:
    saw.write(script)
for task in range(first, last + 1):
    env = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "here"}}
    subprocess.run(["bash", sys.argv[-1]], env=env, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
# what srun and scontrol do for one task on one node
SRUN = f"""#!/bin/bash
exec {sys.executable} -m datatrove.tools.launch_pickled_pipeline "${{@: -1}}"
"""
SCONTROL = "#!/bin/bash\necho here\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    """Stand-ins for the commands of Slurm that run each task of an array here."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SAW", str(tmp_path / "saw"))
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return tmp_path / "saw"


def test_slurm_gets_an_array_of_jobs_and_gives_the_same_outcomes(
    slurm: Path, given: Path, tmp_path: Path
) -> None:
    executor = {
        "kind": "slurm", "partition": "cpu", "tasks": 3, "time_limit": "01:00:00",
        "cpus_per_task": 2, "mem_per_cpu_gib": 5, "environment": "export READY=1",
        "shard_mib": 0.02,
    }  # fmt: skip
    params = section(source(given), executor=executor)
    require_executor(params.executor)
    found = sift(params, tmp_path / "work")
    assert found == sift(section(source(given)), tmp_path / "here")
    script = slurm.read_text()
    for line in (
        "#SBATCH --partition=cpu", "#SBATCH --time=01:00:00", "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem-per-cpu=5G", "#SBATCH --array=0-1%3", "#SBATCH --wait", "export READY=1",
        "#SBATCH --job-name=forebear-curate-each",
    ):  # fmt: skip
        assert line in script
    assert "--qos" not in script


def test_a_job_that_fails_is_one_clear_error(slurm: Path, given: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "srun").write_text("#!/bin/bash\nexit 3\n")
    params = section(source(given), executor={"kind": "slurm", "partition": "cpu"})
    with pytest.raises(EnvironmentFailure) as refused:
        sift(params, tmp_path / "work")
    assert refused.value.where == "curate: each"


class StandInForRay(ModuleType):
    """What datatrove asks of Ray, done here and at once; notes what each task asked for."""

    class exceptions:  # noqa: N801  # a module of Ray's
        ObjectLostError = RayActorError = TaskCancelledError = WorkerCrashedError = OSError

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.asked: list[dict[str, Any]] = []
        self.address = ""
        self.turn = Lock()
        self.util = SimpleNamespace(
            placement_group=lambda bundles: SimpleNamespace(ready=lambda: bundles),
            remove_placement_group=lambda _: None,
            get_node_ip_address=lambda: "127.0.0.1",
        )

    def init(self, *, address: str, ignore_reinit_error: bool) -> None:
        assert ignore_reinit_error
        self.address = address

    def put(self, value: object) -> object:
        return value

    def get(self, value: object) -> object:
        return value

    def wait(self, tasks: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return tasks, []

    def remote(self, worker: type) -> Any:
        def options(**named: Any) -> Any:
            self.asked.append(named)
            return SimpleNamespace(remote=lambda: SimpleNamespace(**actor))

        def run_for_rank(executor: Any, ranks: list[int], *_: object) -> object:
            with self.turn:  # datatrove submits from threads
                for rank in ranks:
                    deepcopy(executor)._run_for_rank(rank)
            return tuple(ranks)

        actor = {
            "get_node_ip": SimpleNamespace(remote=self.util.get_node_ip_address),
            "run_for_rank": SimpleNamespace(remote=run_for_rank),
        }
        assert worker.__name__ == "RankWorker"
        return SimpleNamespace(options=options)


def test_ray_gets_a_task_for_each_shard_and_gives_the_same_outcomes(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = StandInForRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    monkeypatch.setattr("datatrove.executor.ray.check_required_dependencies", lambda *_: None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    executor = {
        "kind": "ray", "tasks": 2, "cpus_per_task": 3, "mem_per_cpu_gib": 2,
        "address": "ray://head:10001", "shard_mib": 0.02,
    }  # fmt: skip
    found = sift(section(source(given), executor=executor), tmp_path / "work")
    assert found == sift(section(source(given)), tmp_path / "here")
    assert ray.address == "ray://head:10001"
    assert len(ray.asked) == 4  # two shards, twice
    assert {(one["num_cpus"], one["num_gpus"], one["memory"]) for one in ray.asked} == {
        (3, 0, 6 * 2**30)
    }


def test_an_executor_that_is_not_there_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for executor in ({"kind": "slurm", "partition": "cpu"}, {"kind": "ray"}):
        with pytest.raises(EnvironmentFailure) as refused:
            require_executor(section(source("x"), executor=executor).executor)
        assert refused.value.where == "params.yaml: curate.executor.kind"
    require_executor(section(source("x"), executor={"kind": "local"}).executor)


def test_a_run_that_was_cut_off_goes_on_and_ends_the_same(
    given: Path, alone: list[Outcome], tmp_path: Path
) -> None:
    """Takes away what later parts made, as a kill before them would have."""
    work = tmp_path / "work"
    assert run(given, work, shard_mib=0.005) == alone
    shards = work / "shards"
    written = {file.name: file.stat().st_mtime_ns for file in shards.iterdir()}
    for name in ("logs/last", "logs/clusters", "near", "kept"):
        for file in sorted((work / name).rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    done = sorted((work / "logs" / "each" / "completions").iterdir())
    done[-1].unlink()
    (work / "clean" / "00000.jsonl").rename(work / "first")
    (work / "first").rename(work / "clean" / "00000.jsonl")
    assert run(given, work, shard_mib=0.005) == alone
    assert {file.name: file.stat().st_mtime_ns for file in shards.iterdir()} == written


def test_lines_come_back_sorted_whatever_fits_into_memory(tmp_path: Path) -> None:
    draw = random.Random(3)  # noqa: S311  # to be repeated, not to be secret
    lines = [b"%032x" % draw.getrandbits(128) for _ in range(3000)] * 2
    for run_bytes in (1 << 30, 4000, 500):
        sorter = LineSorter(tmp_path / str(run_bytes), run_bytes=run_bytes)
        for line in lines:
            sorter.add(line)
        assert list(sorter.merged()) == sorted(lines)
    assert len(list((tmp_path / "500").iterdir())) <= 128
