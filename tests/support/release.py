"""A tiny signed release without DVC: a git repository, hand-made stages, real keys and links.

The pipeline is ``base`` → ``sft`` → ``eval`` → ``attest``. Links are signed by code, as the
recorder would; ``attest`` and ``pack`` are the real ones. Takes under a second.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from forebear.formats import strictjson
from forebear.formats.link import (
    CMD,
    PARAMS,
    PAYLOAD_TYPE,
    Link,
    command_digest,
    params_digest,
    render_link,
)
from forebear.hashing.digest import hash_tree
from forebear.pipeline import Out, Pipeline, Stage, inner_argv, link_path
from forebear.recording.confine import unconfined
from forebear.recording.runrecord import SCHEMA, params_tree
from forebear.release.attest import Terms, attest
from forebear.release.owner import KeyOwner
from forebear.release.pack import pack
from forebear.release.sources import hash_artifacts
from forebear.signing.keys import Signer, create_key, load_signer
from forebear.signing.signer import sign_envelope

CHECKPOINT = "data/sft/checkpoint"
WEIGHTS = f"{CHECKPOINT}/model.safetensors"
_FILES = {
    "stages/base.py": "# base\n",
    "stages/sft.py": "# sft\n",
    "stages/eval.py": "# eval\n",
    "stages/attest.py": "# attest\n",
    "trust/README.md": "keys\n",
    "trust/odd [name]*.txt": "glob characters\n",
    ".gitignore": "/data/\n/links/\n/release/\n",
}
_PARAMS: dict[str, Any] = {
    "seed": 7,
    "base": {"size": 4},
    "sft": {"lr": 1e-5, "epochs": 1},
    "eval": {"alpha": 0.05},
    "attest": {"serial": 1, "documents": "draft", "expires_days": 365, "allow_smoke": False},
}


@dataclass(frozen=True)
class Simulated:
    """A release and everything that it was made with.

    Attributes:
        repo: the repository, committed.
        packed: the release folder; its files may be hard links into ``repo``: copy before editing.
        owner_pub: the owner's public key, outside of both.
        recorder: signs links.
        owner: signs the release.
        owner_file: the owner's private key.
        pipeline: as DVC would resolve it, without the source ``source``.
    """

    repo: Path
    packed: Path
    owner_pub: Path
    recorder: Signer
    owner: Signer
    owner_file: Path
    pipeline: Pipeline

    def record(self, name: str, **changes: Any) -> None:
        """Signs the stage's link for what lies on disk; ``changes`` replace fields of the link."""
        record_stage(self.repo, self.pipeline.stage(name), self.recorder, **changes)

    def attest(self, *, terms: Terms | None = None, now: datetime | None = None) -> None:
        """Runs ``attest`` and signs its link."""
        attest(
            self.repo,
            self.pipeline,
            KeyOwner(self.owner, self.owner_file),
            recorders=[self.recorder.public],
            gate="data/eval/verdict",
            documents="cards/documents",
            release="release",
            terms=terms or Terms(),
            now=now,
        )
        self.record("attest")

    def pack(self, out: Path | None = None) -> Path:
        """Packs the release."""
        return pack(self.repo, out or self.packed)


def build_release(folder: Path, *, files: Mapping[str, str] | None = None) -> Simulated:
    """A repository in ``folder/repo`` and its release in ``folder/packed``.

    Args:
        folder: empty.
        files: more files to commit, by path.
    """
    simulated = build_repository(folder, files=files)
    simulated.attest(now=datetime.now(UTC))
    simulated.pack()
    return simulated


def build_repository(folder: Path, *, files: Mapping[str, str] | None = None) -> Simulated:
    """As :func:`build_release`, up to the point where ``attest`` would run."""
    repo = folder / "repo"
    keys = folder / "keys"
    private, _ = create_key("recorder", keys, None)
    owner_file, owner_pub = create_key("owner", keys, None)
    pipeline = make_pipeline(repo)
    for path, text in {**_FILES, **(files or {})}.items():
        write(repo, path, text)
    write(repo, "params.yaml", yaml.safe_dump(_PARAMS))
    write(repo, "dvc.yaml", yaml.safe_dump({"stages": _declared(pipeline)}))
    commit(repo)
    simulated = Simulated(
        repo=repo,
        packed=folder / "packed",
        owner_pub=owner_pub,
        recorder=load_signer(private),
        owner=load_signer(owner_file),
        owner_file=owner_file,
        pipeline=pipeline,
    )
    _run_stages(simulated)
    write(repo, "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": _lock(pipeline)}))
    return simulated


def make_pipeline(root: Path) -> Pipeline:
    """The four stages, as ``load_pipeline`` would give them."""
    model = Out("data/base/checkpoint", is_dir=True, kind="model")
    tuned = Out(CHECKPOINT, is_dir=True, kind="model")
    metric = Out("data/sft/metrics.json", is_dir=False, metric=True)
    verdict = Out("data/eval/verdict", is_dir=True)
    return Pipeline(
        root=root,
        stages=(
            _stage("base", ["stages/base.py", "trust"], [model]),
            _stage("sft", ["data/base/checkpoint", "stages/sft.py"], [tuned, metric],
                   ship=[CHECKPOINT]),
            _stage("eval", [CHECKPOINT, "data/base/checkpoint/config.json", "stages/eval.py"],
                   [verdict]),
            _stage(
                "attest",
                ["data/eval/verdict", CHECKPOINT, "stages/attest.py",
                 *(f"links/{name}.link" for name in ("base", "sft", "eval"))],
                [Out("release")],
            ),
        ),
    )  # fmt: skip


def record_stage(repo: Path, stage: Stage, signer: Signer, **changes: Any) -> None:
    """Writes the stage's link as the recorder would; ``changes`` replace fields of the link."""
    argv = inner_argv(stage)
    outs = [out.path for out in stage.outs if out.path != link_path(stage)]
    fields: dict[str, Any] = {
        "name": stage.name,
        "command": argv,
        "materials": {
            **hash_artifacts(repo, stage.deps),
            f"{CMD}{stage.name}": command_digest(argv),
            f"{PARAMS}{stage.name}": params_digest(stage.params),
        },
        "products": hash_artifacts(repo, outs),
        "byproducts": _byproducts(stage),
    }
    write_link(repo / link_path(stage), Link(**{**fields, **changes}), signer)


def write_link(file: Path, link: Link, signer: Signer) -> None:
    """Signs a link and writes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(sign_envelope(signer, render_link(link), PAYLOAD_TYPE))


def write(root: Path, path: str, text: str) -> Path:
    """Writes a file below ``root``."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def commit(repo: Path) -> None:
    """Commits everything that ``.gitignore`` leaves."""
    who = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "t")
    mail = dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "t@example.org")
    env = {"PATH": os.environ["PATH"], "HOME": str(repo), **who, **mail}
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "state"]):
        subprocess.run(["git", *words], cwd=repo, env=env, check=True, capture_output=True)


def write_gate(repo: Path, **changes: Any) -> None:
    """``gate.json`` about the checkpoint on disk; ``changes`` replace its fields."""
    gate = {
        "schema": "forebear.gate/v1",
        "candidate": "final",
        "candidate_tree": hash_tree(repo / CHECKPOINT).digest,
        "profile": "default",
        "pairs": [{"task": "mc4", "reference": "base", "verdict": "PASS"}],
        "waivers": [],
        "verdict": "PASS",
    }
    file = write(repo, "data/eval/verdict/gate.json", "")
    file.write_bytes(strictjson.dumps({**gate, **changes}))
    write(repo, "data/eval/verdict/comparison.json", "{}\n")


def _run_stages(simulated: Simulated) -> None:
    repo = simulated.repo
    for name, fill in (("base", "b"), ("sft", "s")):
        write(repo, f"data/{name}/checkpoint/config.json", "{}\n")
        write(repo, f"data/{name}/checkpoint/model.safetensors", fill * 100)
        write(repo, f"data/{name}/checkpoint/sub/empty.txt", "")
    write(repo, "data/sft/metrics.json", '{"loss":0.5}\n')
    write_gate(repo)
    for name in ("base", "sft", "eval"):
        simulated.record(name)


def _stage(name: str, deps: list[str], outs: list[Out], ship: list[str] | None = None) -> Stage:
    options = {"forebear": {"ship": ship}} if ship else {}
    every = [*outs, Out(f"links/{name}.link", is_dir=False)]
    return Stage(
        name=name,
        cmd=f"forebear record {name} -- python -m stages.{name} --out data/{name}",
        deps=tuple(sorted(deps)),
        params={"seed": _PARAMS["seed"], name: _PARAMS[name]},
        outs=tuple(sorted(every, key=lambda out: out.path)),
        meta=options,
    )


def _byproducts(stage: Stage) -> dict[str, Any]:
    return {
        "return-value": 0,
        "forebear": {
            "schema": SCHEMA,
            "params": params_tree(stage.params),
            "params_json": strictjson.canonical(stage.params).decode(),
            "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:00:09Z",
            "wall_s": 9,
            "cpu_s": 8,
            "max_rss_bytes": 1000,
            "survivors": [],
            "machine": {"system": "Linux", "cores": 2},
            "git": {"commit": "0" * 40, "dirty": False, "changed": []},
            "dvc": {"version": "3", "experiment": None, "baseline": None, "deps_md5": {}},
            "environment": {"python": "3.11", "digest": "0" * 64},
            "allowances": [],
            "confinement": unconfined(network_declared=False).to_json(),
            "energy": {"method": "unknown"},
        },
    }


def _declared(pipeline: Pipeline) -> dict[str, Any]:
    return {
        stage.name: {
            "cmd": stage.cmd,
            "deps": list(stage.deps),
            "params": ["seed", stage.name],
            "outs": [{out.path: {"type": out.kind}} if out.kind else out.path
                     for out in stage.outs if not out.metric],
            "metrics": [out.path for out in stage.outs if out.metric],
            "meta": stage.meta,
        }
        for stage in pipeline.stages
    }  # fmt: skip


def _lock(pipeline: Pipeline) -> dict[str, Any]:
    return {
        stage.name: {
            "cmd": stage.cmd,
            "deps": [{"path": dep, "hash": "md5", "md5": "0" * 32} for dep in stage.deps],
            "params": {"params.yaml": stage.params},
            "outs": [{"path": out.path, "hash": "md5", "md5": "0" * 32} for out in stage.outs],
        }
        for stage in pipeline.stages
        if stage.name != "attest"
    }
