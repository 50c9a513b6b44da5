"""A bigger signed release without DVC: ledger, merge, two measured runs, verdict, documents.

The pipeline is ``curate``, ``base`` → ``sft`` → ``prefer`` → ``merge`` → ``measure@…`` → ``eval``
→ ``document`` → ``attest``. Ledger, verdict and documents are made by the real code; weights are a
few bytes. The gate's evidence, the documents' evidence and the ledger are shipped. Takes about a
second.

``edit`` deceives an honest owner: a function named by a stage runs after the stage's outs are
written and before its link is signed, so that everything downstream is signed over the lie.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from forebear.documents.build import Inputs, build_documents, write_documents
from forebear.documents.registry import RESTRICTED as _APART
from forebear.formats import strictjson
from forebear.formats.link import PAYLOAD_TYPE
from forebear.gate.report import compare, metrics
from forebear.gate.runs import RUN_SCHEMA, comparable_key, load_run
from forebear.gate.settings import GateSettings
from forebear.gate.verdict import decide
from forebear.gate.waiver import (
    FOLDER,
    parse_waiver,
    render_waiver,
    verdict_digest,
    waive,
    without_waivers,
)
from forebear.hashing.digest import hash_tree
from forebear.ledger import (
    IntakeRow,
    LedgerRow,
    descriptor,
    document_key,
    merge_copies,
    render_rows,
)
from forebear.pipeline import Out, Pipeline, Stage
from forebear.release.attest import Terms
from forebear.signing.keys import Signer, create_key, load_signer
from forebear.signing.signer import sign_envelope
from tests.support.release import Simulated, _lock, commit, write
from tests.tamper.case import Case
from tests.unit.documents.fixture import BASE, FILES, SOURCES

CHECKPOINT = "data/merge/checkpoint"
DOCUMENTS = "cards/documents"
RESTRICTED = "cards/restricted"  # recorded, never shipped
VERDICT = "data/eval/verdict"
LEDGER = "data/curate/ledger"
RUNS = {"base": "data/base/checkpoint", "final": CHECKPOINT}
N_ITEMS = 120

SHIP: Mapping[str, tuple[str, ...]] = {
    "curate": (LEDGER, "data/curate/metrics.json"),
    "base": ("data/base/base.json", "data/base/metrics.json"),
    "sft": ("data/sft/metrics.json",),
    "prefer": ("data/prefer/metrics.json",),
    "merge": (CHECKPOINT, "data/merge/metrics.json"),
    "measure@base": ("data/measure/base",),
    "measure@final": ("data/measure/final",),
    "eval": (VERDICT, "data/eval/metrics.json"),
    "document": (DOCUMENTS,),
}
PARAMS: dict[str, Any] = {
    "seed": 7,
    "curate": {"sources": SOURCES},
    "base": {"size": 4},
    "sft": {"lr": 1e-5, "epochs": 1},
    "prefer": {"beta": 0.1},
    "merge": {"method": "linear", "weights": {"sft": 0.5, "prefer": 0.5}},
    "measure": {"tasks": {"mc4": {}}},
    "eval": {
        "profile": "default",
        "first_release": True,
        "required": {"mc4": {"vs": "base", "min_gain": 0.0}},
        "margins": {"mc4": 0.1},
    },
    "document": {"name": "acme-icd-135m", "version": "1.0.0", "notes": ["first release"]},
    "attest": {"serial": 1, "documents": "final", "expires_days": 365, "allow_smoke": False},
}
EXAMPLE = Path(__file__).resolve().parents[2] / "cards" / "declarations.example.yaml"

Edit = Callable[[Path], object]

_TEXTS = {
    "domain": [f"Code A{number:02} means disease number {number}.\n" for number in range(6)],
    "replay": [f"Topic {number}: how a language explains itself.\n" for number in range(3)],
    "instruction": [f"Which code is disease {number}? A{number:02}\n" for number in range(4)],
}
_DROPPED = {"too short\n": "quality", "Code Z99 is held back.\n": "golden"}


@dataclass
class FullCase(Case):
    """One copy of the full release."""

    def out(self, path: str) -> Path:
        """A file of the shipped checkpoint."""
        return self.folder / CHECKPOINT / path


def build_full_release(  # each is one way in which a test may differ
    folder: Path,
    *,
    edit: Mapping[str, Edit] | None = None,
    ship: Mapping[str, Sequence[str]] = SHIP,
    files: Mapping[str, str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    terms: Terms | None = None,
    now: datetime | None = None,
) -> Simulated:
    """A repository in ``folder/repo`` and its release in ``folder/packed``.

    Args:
        folder: empty.
        edit: by stage name, what to change in its outs before its link is signed.
        ship: by stage name, the outs that the release carries.
        files: more files to commit, by path.
        params: by section, values that replace or join those of :data:`PARAMS`.
        terms: what the owner decides; the usual when left out.
        now: when the owner signs; the present when left out.
    """
    simulated = build_full_repository(folder, edit=edit, ship=ship, files=files, params=params)
    simulated.attest(terms=terms, now=now or datetime.now(UTC))
    simulated.pack()
    return simulated


def build_full_repository(
    folder: Path,
    *,
    edit: Mapping[str, Edit] | None = None,
    ship: Mapping[str, Sequence[str]] = SHIP,
    files: Mapping[str, str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
) -> Simulated:
    """As :func:`build_full_release`, up to the point where ``attest`` would run."""
    repo = folder / "repo"
    private, public = create_key("recorder", folder / "keys", None)
    owner_file, owner_pub = create_key("owner", folder / "keys", None)
    values = deepcopy(PARAMS)
    for section, changes in (params or {}).items():
        values[section] = {**values[section], **changes}
    pipeline = full_pipeline(repo, values, ship)
    sources = {f"stages/{name}.py": f"# {name}\n" for name in values if name != "seed"}
    sources["cards/declarations.yaml"] = EXAMPLE.read_text(encoding="utf-8")
    sources["trust/recorders/machine.pub"] = public.read_text()
    sources[".gitignore"] = "/data/\n/links/\n/release/\n/cards/documents/\n/cards/restricted/\n"
    for path, text in {**sources, **(files or {})}.items():
        write(repo, path, text)
    write(repo, "params.yaml", yaml.safe_dump(values))
    write(repo, "dvc.yaml", yaml.safe_dump({"stages": _declared(pipeline)}, sort_keys=False))
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
    for stage in pipeline.stages[:-1]:
        run_stage(repo, stage)
        (edit or {}).get(stage.name, lambda _: None)(repo)
        simulated.record(stage.name)
    write(repo, "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": _lock(pipeline)}))
    return simulated


def full_pipeline(
    root: Path, values: Mapping[str, Any], ship: Mapping[str, Sequence[str]] = SHIP
) -> Pipeline:
    """The ten stages, as ``load_pipeline`` would give them."""
    stages = [
        _stage("curate", [], _dirs("corpus", "golden", "ledger", of="curate")),
        _stage("base", [], [_model("base"), Out("data/base/base.json", is_dir=False)]),
        _stage("sft", ["data/base/checkpoint", "data/curate/corpus"], [_model("sft")]),
        _stage("prefer", ["data/sft/checkpoint", "data/curate/corpus"], [_model("prefer")]),
        _stage("merge", ["data/sft/checkpoint", "data/prefer/checkpoint"], [_model("merge")]),
        *(
            _stage(f"measure@{name}", [model, "data/curate/golden"], _dirs(name, of="measure"))
            for name, model in RUNS.items()
        ),
        _stage(
            "eval",
            [*(f"data/measure/{name}" for name in RUNS), "data/curate/golden"],
            _dirs("verdict", of="eval"),
        ),
    ]
    links = [f"links/{stage.name}.link" for stage in stages]
    figures = [out.path for stage in stages for out in stage.outs if out.metric]
    read = ["data/base/base.json", f"{LEDGER}/root.json", VERDICT, "cards/declarations.yaml"]
    stages += [
        _stage(
            "document",
            [*links, *figures, *read, "trust"],
            [Out(DOCUMENTS, is_dir=True), Out(RESTRICTED, is_dir=True)],
        ),
        _stage(
            "attest",
            [*links, "links/document.link", CHECKPOINT, VERDICT, DOCUMENTS],
            [Out("release")],
        ),
    ]
    return Pipeline(root=root, stages=tuple(_finished(stage, values, ship) for stage in stages))


def run_stage(repo: Path, stage: Stage) -> None:
    """Writes the outs of one stage, from what lies in ``repo`` now."""
    name = stage.name.partition("@")[0]
    if name == "curate":
        _curate(repo)
    elif name == "measure":
        run = stage.name.partition("@")[2]
        write_run(repo, run, hash_tree(repo / RUNS[run]).digest)
    elif name == "eval":
        write_verdict(repo, stage.params["eval"])
    elif name == "document":
        write_full_documents(repo, stage.params)
    else:
        _write_checkpoint(repo, name)
    if name == "base":
        write_json(repo / "data/base/base.json", BASE)
    if f"data/{name}/metrics.json" in FILES:
        write_json(repo / f"data/{name}/metrics.json", FILES[f"data/{name}/metrics.json"])
    elif name == "prefer":
        write_json(repo / "data/prefer/metrics.json", FILES["data/sft/metrics.json"])


def write_run(repo: Path, name: str, tree: str, *, right: int | None = None) -> None:
    """The run folder of one checkpoint, as ``measure`` writes it.

    Args:
        repo: the repository.
        name: of the run; its folder is ``data/measure/<name>``.
        tree: digest of the checkpoint that it is about.
        right: number of items answered right; 100 for ``final``, 40 for ``base``.
    """
    n_right = (100 if name == "final" else 40) if right is None else right
    rows = [_item(number, value=float(number < n_right)) for number in range(N_ITEMS)]
    lines = b"".join(strictjson.dumps(row) for row in rows)
    identity = {
        "task_sha256": "1" * 64,
        "source": "golden/mc4.jsonl",
        "data_sha256": _sha256((repo / "data/curate/golden/mc4.jsonl").read_bytes()),
        "seed": 7,
    }
    record = {
        "identity": identity,
        "comparable_key": comparable_key(identity),
        "direction": "up",
        "n": len(rows),
        "items_sha256": _sha256(lines),
    }
    folder = repo / "data" / "measure" / name
    (folder / "items").mkdir(parents=True, exist_ok=True)
    (folder / "items" / "mc4.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    model = {"tree_sha256": tree, "backend": "hf"}
    run = {"schema": RUN_SCHEMA, "name": name, "model": model, "tasks": {"mc4": record}}
    write_json(folder / "run.json", run)
    write_json(folder / "summary.json", {"schema": "forebear/summary/v1", "name": name})


def write_verdict(repo: Path, section: Mapping[str, Any], **changes: Any) -> None:
    """``gate.json`` and its companions as the gate decides; ``changes`` replace fields of it."""
    fields = {key: value for key, value in section.items() if key in GateSettings.model_fields}
    settings = GateSettings.model_validate(fields)
    candidate, reference = (load_run(repo / "data/measure" / name) for name in ("final", "base"))
    gate = decide(candidate, [reference], settings)
    comparison = compare(candidate, [reference], settings)
    write_json(repo / VERDICT / "gate.json", {**gate, **changes})
    write_json(repo / VERDICT / "comparison.json", comparison)
    write_json(repo / "data/eval/metrics.json", metrics(gate, comparison))


def add_waiver(
    repo: Path, *, signer: Signer | None = None, tree: str | None = None, **terms: Any
) -> None:
    """A waiver of the verdict's first fault beside it, and the verdict that rests on it.

    Args:
        repo: made by :func:`build_full_repository`, so that the owner's key lies beside it.
        signer: of the waiver; the owner when left out.
        tree: checkpoint that the waiver names; the judged one when left out.
        terms: replace terms of the waiver.
    """
    file = repo / VERDICT / "gate.json"
    gate = without_waivers(strictjson.parse(file.read_bytes(), where="gate.json"))
    pair = next(pair for pair in gate["pairs"] if pair["verdict"] != "PASS")
    fields = {
        **{name: pair[name] for name in ("task", "reference", "metric", "delta")},
        "verdict_sha256": verdict_digest(gate),
        "reason": "the golden set is small, and a second release follows within the month",
        "approver": "A. Person",
        "issued": "2026-01-10",
        "expires": "2026-02-10",
    }
    payload = render_waiver(tree or gate["candidate_tree"], {**fields, **terms})
    owner = load_signer(repo.parent / "keys" / "owner.pem")
    data = sign_envelope(signer or owner, payload, PAYLOAD_TYPE)
    waiver = parse_waiver(data, where=f"{pair['task']}.dsse")
    waived = waive(gate, [waiver])
    # one that does not fit is listed all the same, as by a stage that does not look
    lie = {"waivers": [waiver.entry()], "verdict": "PASS_WITH_WAIVERS"}
    (repo / VERDICT / FOLDER).mkdir(exist_ok=True)
    (repo / VERDICT / FOLDER / waiver.file).write_bytes(data)
    write_json(file, {**waived, **lie})


def write_full_documents(repo: Path, params: Mapping[str, Any]) -> None:
    """The documents, from the links and files in ``repo``."""
    _, documents = build_documents(
        Inputs(
            root=repo,
            links=Path("links"),
            declarations=Path("cards/declarations.yaml"),
            trust=Path("trust"),
            base=Path("data/base/base.json"),
            ledger=Path(f"{LEDGER}/root.json"),
            verdict=Path(VERDICT),
            params=params,
        )
    )
    public = {name: data for name, data in documents.items() if not name.startswith(_APART)}
    write_documents(public, repo / DOCUMENTS)
    apart = {name.removeprefix(_APART): documents[name] for name in documents.keys() - public}
    write_documents(apart, repo / RESTRICTED)


def write_json(file: Path, value: Any) -> None:
    """A canonical JSON file; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(strictjson.dumps(value))


def edit_json(path: str, change: Callable[[dict[str, Any]], object]) -> Edit:
    """An edit of one JSON file."""

    def edit(repo: Path) -> None:
        file = repo / path
        value = json.loads(file.read_bytes())
        change(value)
        write_json(file, value)

    return edit


def edit_text(path: str, old: str, new: str) -> Edit:
    """An edit of one text file: every ``old`` becomes ``new``; there must be one."""

    def edit(repo: Path) -> None:
        text = (repo / path).read_text(encoding="utf-8")
        assert old in text
        (repo / path).write_text(text.replace(old, new), encoding="utf-8")

    return edit


def _curate(repo: Path) -> None:
    kept, intake = [], []
    for role, texts in _TEXTS.items():
        rows = []
        for text in texts:
            data = text.encode()
            key = document_key(data)
            source = "pydoc-topics" if role == "replay" else "icd10cm"
            licence = "PSF-2.0" if role == "replay" else "LicenseRef-PublicDomain-US"
            kept.append(LedgerRow(key, len(data), licence, source, role))
            if role != "instruction":
                intake.append(IntakeRow(key, len(data), f"kept:{key}", source))
            named = {"id": f"{source}:{key}", "source": source, "licence": licence}
            rows.append({**named, "text": text})
        lines = b"".join(strictjson.dumps(row) for row in rows)
        file = write(repo, f"data/curate/corpus/{role}.jsonl", "")
        file.write_bytes(lines)
    for text, fate in _DROPPED.items():
        data = text.encode()
        intake.append(IntakeRow(document_key(data), len(data), f"dropped:{fate}", "icd10cm"))
    kept, intake = merge_copies(kept), merge_copies(intake)
    write(repo, f"{LEDGER}/kept.jsonl", "").write_bytes(render_rows(kept))
    write(repo, f"{LEDGER}/intake.jsonl", "").write_bytes(render_rows(intake))
    write_json(repo / LEDGER / "root.json", descriptor(kept, intake))
    write(repo, "data/curate/golden/mc4.jsonl", '{"id":"q0"}\n')


def _write_checkpoint(repo: Path, name: str) -> None:
    """A checkpoint of one tensor whose values follow from the stage's name."""
    folder = repo / "data" / name / "checkpoint"
    write_json(folder / "config.json", {"model_type": "llama"})
    header = json.dumps({"w": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + hashlib.sha256(name.encode()).digest()
    (folder / "model.safetensors").write_bytes(weights)


def _item(number: int, *, value: float) -> dict[str, Any]:
    key = f"q{number:04}"
    return {
        "id": key, "item_sha256": _sha256(key.encode()), "stratum": "A", "cluster": key,
        "requests": [], "output_sha256": _sha256(f"{key} {value}".encode()), "extracted": "0",
        "value": value, "components": {}, "flags": [], "judge": None,
    }  # fmt: skip


def _stage(name: str, deps: Sequence[str], outs: Sequence[Out]) -> Stage:
    base = name.partition("@")[0]
    metric = [Out(f"data/{base}/metrics.json", is_dir=False, metric=True)]
    options = f"--out {outs[0].path}"
    if name == "document":
        options += f" --links links --base data/base/base.json --ledger {LEDGER}/root.json"
        options += f" --verdict {VERDICT} --declarations cards/declarations.yaml --trust trust"
    lacks = {"measure", "document", "attest"}
    every = [*outs, *(metric if base not in lacks else ()), Out(f"links/{name}.link", is_dir=False)]
    return Stage(
        name=name,
        cmd=f"forebear record {name} -- python -m stages.{base} {options}",
        deps=tuple(sorted({*deps, f"stages/{base}.py"})),
        outs=tuple(sorted(every, key=lambda out: out.path)),
    )


def _finished(stage: Stage, values: Mapping[str, Any], ship: Mapping[str, Sequence[str]]) -> Stage:
    section = stage.name.partition("@")[0]
    shipped = list(ship.get(stage.name, ()))
    return Stage(
        name=stage.name,
        cmd=stage.cmd,
        deps=stage.deps,
        params={"seed": values["seed"], section: values[section]},
        outs=stage.outs,
        meta={"forebear": {"ship": shipped}} if shipped else {},
    )


def _dirs(*names: str, of: str) -> list[Out]:
    return [Out(f"data/{of}/{name}", is_dir=True) for name in names]


def _model(name: str) -> Out:
    return Out(f"data/{name}/checkpoint", is_dir=True, kind="model")


def _declared(pipeline: Pipeline) -> dict[str, Any]:
    """``dvc.yaml``; the runs stand in one ``foreach``, as in the real one."""
    declared: dict[str, Any] = {}
    for stage in pipeline.stages:
        name, _, run = stage.name.partition("@")
        body: dict[str, Any] = {
            "cmd": stage.cmd,
            "deps": list(stage.deps),
            "params": ["seed", name],
            "outs": [{out.path: {"type": out.kind}} if out.kind else out.path
                     for out in stage.outs if not out.metric],
            "metrics": [out.path for out in stage.outs if out.metric],
            "meta": stage.meta,
        }  # fmt: skip
        if not run:
            declared[name] = body
        elif run == "final":
            text = json.dumps(body).replace("measure@final", "measure@${key}")
            text = text.replace("measure/final", "measure/${key}")
            text = text.replace(CHECKPOINT, "${item.checkpoint}")
            each = {key: {"checkpoint": model} for key, model in RUNS.items()}
            declared[name] = {"foreach": each, "do": json.loads(text)}
    return declared


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
