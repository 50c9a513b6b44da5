"""Cost of verifying metadata, by size: ``python -m benchmarks scale``.

A chain of made-up stages, each reading the folder that the last one wrote. Only metadata are
written, by the code that signs real releases; no weights, so that what is measured is the graph.
Each figure comes from a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.measuring import in_child, load, peak_mib
from forebear.evidence.names import LAYOUT, OWNER, PIPELINE
from forebear.formats import strictjson
from forebear.formats.layout import ATTEST, SOURCE, derive_layout
from forebear.formats.link import (
    CMD,
    PARAMS,
    PAYLOAD_TYPE,
    TREE,
    Link,
    command_digest,
    params_digest,
    render_link,
)
from forebear.hashing.digest import tree_digest
from forebear.pipeline import Out, Pipeline, Stage, inner_argv
from forebear.recording.confine import unconfined
from forebear.recording.runrecord import SCHEMA, params_tree
from forebear.release.attest import _Release
from forebear.release.chain import SignedLink
from forebear.release.owner import KeyOwner
from forebear.release.sources import Committed, declared_artifacts, source_link
from forebear.release.statements import link_name
from forebear.signing.keys import Signer, create_key, load_signer
from forebear.signing.signer import sign_envelope

SIZES = (100, 1_000, 10_000)
N_ARTIFACTS = 100
CHECKS = ("C1", "C2", "C3", "C5", "C6", "C7", "C8", "C10", "C11")
"""All that look at metadata alone; the others read files that were not made."""

_SOURCE = "data/rows.jsonl"
# Of a link's artifacts: cmd, params, the source file, and two trees.
_FIXED = 5


def build(place: str, n_stages: int, n_artifacts: int = N_ARTIFACTS) -> str:
    """Signed metadata of a release at ``place``; gives the last out, where a trace begins.

    Args:
        place: a folder that must not exist; keys lie beside it.
        n_stages: without ``attest``.
        n_artifacts: materials and products of each.
    """
    folder = Path(place)
    keys = folder.with_name(f"{folder.name}-keys")
    recorder = load_signer(create_key("recorder", keys, None)[0])
    owner_file, _ = create_key("owner", keys, None)
    owner = KeyOwner(load_signer(owner_file), owner_file)
    pipeline = _pipeline(n_stages)
    source = {_SOURCE: _digest(_SOURCE)}
    links = _links(pipeline, recorder, source, max(1, (n_artifacts - _FIXED) // 2))
    disk = dict(links[-1].link.products)
    release = _Release(folder, pipeline, owner, links, disk)
    expires = datetime.now(UTC) + timedelta(days=30)
    layout = derive_layout(
        pipeline, owner=owner.public, recorders=[recorder.public], expires=expires
    )
    release.add_signed(LAYOUT, layout)
    products = {**source, **declared_artifacts(pipeline.stages)}
    release.add_signed(
        link_name(SOURCE, owner.public.keyid), source_link(products, Committed("0" * 40, ()))
    )
    release.files[PIPELINE] = strictjson.dumps({**pipeline.to_json(), "lock": {}})
    release.files[OWNER] = owner.public.pem
    release.add_links()
    release.add_manifests()
    release.add_provenance()
    release.add_sums_and_release(None, "none", _terms())
    release.write(folder)
    _write_own_link(folder, pipeline.stage(ATTEST), recorder, release.files, links)
    return pipeline.stages[-2].outs[0].path


def verify(place: str) -> dict[str, Any]:
    """Seconds of each check of metadata, and the peak memory of this process."""
    from forebear.evidence.store import open_evidence
    from forebear.signing.keys import load_public
    from forebear.signing.policy import TrustPolicy
    from forebear.verify.checks import CHECKS as ALL
    from forebear.verify.run import verify as judge

    folder = Path(place)
    owner = load_public(folder.with_name(f"{folder.name}-keys") / "owner.pub")
    policy = TrustPolicy(owner_keys=(owner,))
    took: dict[str, float] = {}
    started, cpu = time.perf_counter(), time.process_time()
    with open_evidence(folder) as evidence:
        took["open"] = time.perf_counter() - started
        for check in (check for check in ALL if check.id in CHECKS):
            at = time.perf_counter()
            alone = type(check)(check.id, check.title, check.function)
            result = judge(evidence, policy, checks=(alone,)).results[0]
            took[check.id] = time.perf_counter() - at
            if result.status == "failed":
                raise AssertionError(f"{check.id} fails on made-up evidence: {result.verdict}")
    return _figures(started, cpu, took)


def trace(place: str, wanted: str) -> dict[str, Any]:
    """Seconds from the last checkpoint back to its source, and from the source forward."""
    from forebear.evidence.store import open_evidence

    took: dict[str, float] = {}
    started, cpu = time.perf_counter(), time.process_time()
    with open_evidence(Path(place)) as evidence:
        graph = evidence.graph
        took["read"] = time.perf_counter() - started
        for name, walk, start in (
            ("back", graph.back, wanted),
            ("forward", graph.forward, _SOURCE),
        ):
            at = time.perf_counter()
            found = walk(graph.find(start))
            took[name] = time.perf_counter() - at
            if found.broken or len(found.rows) < 2:
                raise AssertionError(f"the walk {name} is broken")
    return _figures(started, cpu, took)


def curve(sizes: Iterable[int] = SIZES, n_artifacts: int = N_ARTIFACTS) -> list[dict[str, Any]]:
    """Figures for each number of stages, each in a process of its own."""
    found = []
    for n_stages in sizes:
        with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
            place = str(Path(scratch) / "release")
            wanted = in_child(__name__, "build", place, n_stages, n_artifacts)
            found.append(
                {
                    "stages": n_stages,
                    "artifacts": n_stages * n_artifacts,
                    "verify": in_child(__name__, "verify", place),
                    "trace": in_child(__name__, "trace", place, wanted),
                }
            )
    return found


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """The curve as rows of a table."""
    return [
        {
            "stages": one["stages"],
            "artifacts": one["artifacts"],
            "verify_s": one["verify"]["wall_s"],
            "verify_cpu_s": one["verify"]["cpu_s"],
            "verify_mib": one["verify"]["peak_mib"],
            "trace_s": one["trace"]["wall_s"],
            "trace_cpu_s": one["trace"]["cpu_s"],
            "trace_mib": one["trace"]["peak_mib"],
            "parts_s": one["verify"]["parts_s"],
            "load": load(),
        }
        for one in curve((3,) if quick else SIZES)
    ]


def _figures(started: float, cpu: float, took: dict[str, float]) -> dict[str, Any]:
    return {
        "wall_s": round(time.perf_counter() - started, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mib": peak_mib(),
        "parts_s": {name: round(seconds, 2) for name, seconds in took.items()},
    }


def _pipeline(n_stages: int) -> Pipeline:
    names = [f"stage{number:05}" for number in range(n_stages)]
    stages = []
    for number, name in enumerate(names):
        last = number == n_stages - 1
        deps = [_SOURCE] if number == 0 else [f"data/{names[number - 1]}", _SOURCE]
        outs = (
            Out(f"data/{name}", is_dir=True, kind="model" if last else ""),
            Out(f"links/{name}.link", is_dir=False),
        )
        stages.append(_stage(name, deps, outs))
    own = (Out("links/attest.link", is_dir=False), Out("release", is_dir=True))
    stages.append(_stage(ATTEST, [f"links/{name}.link" for name in names], own))
    source = Stage(name=SOURCE, cmd="", outs=(Out(_SOURCE, is_dir=False),), frozen=True)
    return Pipeline(stages=tuple(stages), sources=(source,))


def _stage(name: str, deps: list[str], outs: tuple[Out, ...]) -> Stage:
    return Stage(
        name=name,
        cmd=f"forebear record {name} -- python -m stages.{name} --out data/{name}",
        deps=tuple(sorted(deps)),
        params={"seed": 7, "lr": 1e-5},
        outs=outs,
        meta={},
    )


def _links(
    pipeline: Pipeline, recorder: Signer, source: dict[str, str], n_files: int
) -> list[SignedLink]:
    found: list[SignedLink] = []
    read: dict[str, str] = {}
    for stage in pipeline.stages[:-1]:
        path = stage.outs[0].path
        files = {f"part-{at:03}.bin": _digest(f"{path}/{at}") for at in range(n_files)}
        inner = {f"{path}/{name}": digest for name, digest in files.items()}
        written = {f"{TREE}{path}": tree_digest(_as_paths(files)), **inner}
        link = _link(stage, {**source, **read}, written)
        data = sign_envelope(recorder, render_link(link), PAYLOAD_TYPE)
        found.append(SignedLink(stage, data, link, recorder.keyid))
        read = written
    return found


def _write_own_link(
    folder: Path,
    stage: Stage,
    recorder: Signer,
    files: dict[str, bytes],
    links: list[SignedLink],
) -> None:
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    written = {f"release/{path}": digest for path, digest in digests.items()}
    written[f"{TREE}release"] = tree_digest(_as_paths(digests))
    read = {f"links/{one.stage.name}.link": hashlib.sha256(one.data).hexdigest() for one in links}
    data = sign_envelope(recorder, render_link(_link(stage, read, written)), PAYLOAD_TYPE)
    (folder / link_name(ATTEST, recorder.keyid)).write_bytes(data)


def _link(stage: Stage, read: dict[str, str], written: dict[str, str]) -> Link:
    argv = inner_argv(stage)
    declared = {
        f"{CMD}{stage.name}": command_digest(argv),
        f"{PARAMS}{stage.name}": params_digest(stage.params),
    }
    record = {
        "schema": SCHEMA,
        "params": params_tree(stage.params),
        "params_json": strictjson.canonical(stage.params).decode(),
        "confinement": unconfined(network_declared=False).to_json(),
        "git": {"commit": "0" * 40},
    }
    return Link(stage.name, argv, {**read, **declared}, written,
                {"return-value": 0, "forebear": record})  # fmt: skip


def _as_paths(files: dict[str, str]) -> dict[PurePosixPath, str]:
    return {PurePosixPath(name): digest for name, digest in files.items()}


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _terms() -> Any:
    from forebear.release.terms import Terms

    return Terms()
