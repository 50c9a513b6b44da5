"""A small finished pipeline: files, and links signed with a real recorder key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.documents.build import Inputs
from forebear.formats import strictjson
from forebear.formats.link import PAYLOAD_TYPE, TREE, Link, render_link
from forebear.hashing.digest import hash_tree
from forebear.signing.keys import Signer, create_key, load_signer
from forebear.signing.signer import sign_envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

PARAMS: dict[str, Any] = {
    "seed": 7,
    "document": {"name": "acme-icd-135m", "version": "1.0.0", "notes": ["first release"]},
}
FINAL = "c0ffee" + "0" * 58
CHECKPOINTS = {
    "base": "ba5e" + "0" * 60, "cpt": "c4" + "0" * 62, "sft": "5f7" + "0" * 61,
    "distill": "d157" + "0" * 60, "merge": FINAL,
}  # fmt: skip

SOURCES = [
    {
        "id": "icd10cm", "kind": "package", "package": "simple-icd-10-cm", "version": "1.5.0",
        "licence": "LicenseRef-PublicDomain-US", "modality": "text", "role": "domain",
        "publisher": "US National Center for Health Statistics",
        "collected_from": "2024-10", "collected_to": "2025-09",
    },
    {
        "id": "pydoc-topics", "kind": "package", "package": "pydoc_data.topics",
        "version": "stdlib", "licence": "PSF-2.0", "modality": "text", "role": "replay",
        "publisher": "Python Software Foundation",
        "collected_from": "2023-01", "collected_to": "2023-12",
    },
    {
        "id": "mmlu-pro", "kind": "jsonl", "path": "data/benchmarks/mmlu_pro/test_280.jsonl",
        "licence": "MIT", "modality": "text", "role": "eval", "publisher": "TIGER-Lab",
        "collected_from": "2024-05", "collected_to": "2024-06",
    },
]  # fmt: skip
BASE_ALLOWANCE = {
    "at": "base.allow",
    "rule": "base-only",
    "reason": "the only weights that a package carries are the Instruct derivative",
    "by": "Forebear maintainers",
}


def _score(value: float, low: float, high: float) -> dict[str, Any]:
    interval = {"low": low, "high": high, "level": 0.95, "method": "wilson"}
    return {"value": value, "n": 200, "interval": interval}


COMPARISON = {
    "schema": "forebear/comparison/v1",
    "candidate": "final",
    "tasks": [
        {
            "task": task, "reference": "base", "gates": True, "n": 200, "b": 5, "c": 60,
            "scores": {
                "candidate": _score(0.7, 0.633, 0.759),
                "reference": _score(0.28, 0.222, 0.346),
            },
            "delta": 0.42,
            "interval": {"low": 0.34, "high": 0.49, "level": 0.95, "method": "tango"},
            "lower": 0.355, "p": 1.0, "lost": [], "gained": [], "reasons": [],
        }
        for task in ("mc4_far", "mmlu_pro")
    ],
}  # fmt: skip
GATE = {
    "schema": "forebear/gate/v1", "candidate": "final", "candidate_tree": FINAL,
    "profile": "default", "alpha": 0.05, "references": [], "limits": [], "waivers": [],
    "label": "screening gate: rules out only drops of ten points or more",
    "pairs": [
        {
            "task": "mmlu_pro", "metric": "acc", "reference": "base", "n": 200, "b": 5, "c": 60,
            "delta": 0.42, "lower": 0.355, "p": 1.0, "p_holm": 1.0, "margin": 0.1,
            "verdict": "PASS", "reasons": [],
        }
    ],
    "verdict": "PASS", "params_sha256": "0" * 64, "inputs": [],
}  # fmt: skip
BASE = {
    "repo": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "0.1.2", "licence": "Apache-2.0",
    "architecture": "LlamaForCausalLM", "parameters": {"total": 134515008, "active": 134515008},
    "context_length": 8192, "vocabulary": 49152, "languages": ["en"], "dtype": "bfloat16",
    "relation": "quantized copy of the named repository, dequantized",
    "upstream_signature": "absent", "chat_template_sha256": "a" * 64,
    "instruction_tuned": {"evidence": ["the name says 'Instruct'"], "allowed": True},
}  # fmt: skip


CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 30,
    "hidden_size": 576, "num_attention_heads": 9, "max_position_embeddings": 8192,
    "vocab_size": 49152, "rms_norm_eps": 1e-05,
}  # fmt: skip
_FILE = {"size_bytes": 1000, "rows": 10}
_TEXT, _ASKED = ["id", "licence", "source", "text"], ["answer", "id", "licence", "prompt", "source"]
SOFTWARE = {"torch": "2.13.0", "transformers": "5.23.0"}
RUN_FINAL = {
    "schema": "forebear/run/v2", "name": "final", "not_run": {"humaneval": "no sandbox"},
    "tasks": {
        task: {"identity": {"software": SOFTWARE}, "shown_name": task}
        for task in ("mc4_far", "mmlu_pro")
    },
}  # fmt: skip
SUMMARY_FINAL = {
    "name": "final",
    "records": [
        {
            "suite": task, "task": task, "metric": "acc", "value": 0.7, "n": 200,
            "setting": "0-shot", "decoding": "log-likelihood", "licence": "MIT",
            "prompt_sha256": "9" * 64, "data_sha256": "8" * 64, "judge": None, "slices": [
                {"stratum": "chapter-02", "value": 0.6, "n": 40,
                 "interval": {"low": 0.4, "high": 0.7, "level": 0.95, "method": "wilson"}},
            ],
        }
        for task in ("mc4_far", "mmlu_pro")
    ],
}  # fmt: skip


def _trained(tokens: int, **more: Any) -> dict[str, Any]:
    return {
        "n_params": 134515008, "tokens": tokens, "tokens_padded": tokens + 100,
        "flop": 6 * 134515008 * (tokens + 100), "flop_method": "6·N·D, dense, padding included",
        "steps": 40, "loss_first": 3.07, "loss_last": 1.97, **more,
    }  # fmt: skip


FILES: dict[str, Any] = {
    "data/base/base.json": BASE,
    "data/base/metrics.json": {"parameters_total": 134515008},
    "data/curate/metrics.json": {
        "read": {
            "icd10cm": {"documents": 1800, "derived": 3600},
            "pydoc-topics": {"documents": 80, "derived": 0},
            "mmlu-pro": {"documents": 280, "derived": 0},
        },
        "kept": {
            "icd10cm": {
                "domain": {"documents": 1700, "bytes": 400000},
                "instruction": {"documents": 3500, "bytes": 500000},
            },
            "pydoc-topics": {"replay": {"documents": 78, "bytes": 300000}},
        },
        "files": {
            "domain.jsonl": {**_FILE, "fields": _TEXT},
            "replay.jsonl": {**_FILE, "fields": _TEXT},
            "instruction.jsonl": {**_FILE, "fields": _ASKED},
            "golden/mc4.jsonl": {**_FILE, "fields": ["answer", "id", "question"]},
        },
        "golden": {"n": 200},
        "decontaminated_against": {"mmlu-pro": 280},
        "takedown": {"documents": 0, "entries": 0, "matched": 0, "list_sha256": "5" * 64},
        "rows": {"domain": 1700, "replay": 78, "instruction": 3500},
        "bytes": {"domain": 400000, "replay": 300000, "instruction": 500000},
        "dropped": {"quality": {"too short": 3}, "exact_copy": {}, "decontamination": {"13": 2}},
    },
    "data/curate/ledger/root.json": {
        "version": 1,
        "kept": {"root": "b" * 64, "documents": 5278},
        "intake": {"root": "d" * 64, "documents": 1880},
    },
    "data/curate/corpus/domain.jsonl": "domain",
    "data/curate/corpus/replay.jsonl": "replay",
    "data/curate/corpus/instruction.jsonl": "instruction",
    "data/curate/golden/mc4.jsonl": "golden",
    "data/tokenize/metrics.json": {
        "fertility": {"domain": {"tokens_per_byte": 0.25}, "replay": {"tokens_per_byte": 0.2}},
        "replay_share": {"asked": 0.15, "realised": 0.15},
    },
    "data/cpt/metrics.json": _trained(40000, validation={"forgetting": -0.05}),
    "data/sft/metrics.json": _trained(20000, method="full"),
    "data/distill/metrics.json": _trained(
        9000, method="rejection-sampling self-distillation",
        teacher={"kind": "checkpoint", "name": "sft", "tree": CHECKPOINTS["sft"]},
        sampling={"flop": 2 * 134515008 * 3000, "prompt_tokens": 2000, "answer_tokens": 1000,
                  "prompts": 100},
        files={"kept.jsonl": {**_FILE, "fields": ["id", "prompt", "response"]}},
        **{"yield": {"answers": 100, "kept": 10}},
    ),
    "data/distill/trajectories/kept.jsonl": "kept",
    "data/merge/metrics.json": {
        "method": "slerp", "n_params": 134515008, "dtype": "float32",
        "inputs": {"sft": CHECKPOINTS["sft"], "distill": CHECKPOINTS["distill"]},
    },
    **{f"data/{stage}/checkpoint/config.json": CONFIG for stage in CHECKPOINTS},
    "data/measure/final/run.json": RUN_FINAL,
    "data/measure/final/summary.json": SUMMARY_FINAL,
    "data/eval/verdict/gate.json": GATE,
    "data/eval/verdict/comparison.json": COMPARISON,
}  # fmt: skip
PRODUCTS: dict[str, tuple[str, ...]] = {
    "base": ("data/base/base.json", "data/base/metrics.json"),
    "curate": (
        "data/curate/metrics.json", "data/curate/ledger", "data/curate/corpus/domain.jsonl",
        "data/curate/corpus/replay.jsonl", "data/curate/corpus/instruction.jsonl",
        "data/curate/golden/mc4.jsonl",
    ),
    "tokenize": ("data/tokenize/metrics.json",),
    "cpt": ("data/cpt/metrics.json",),
    "sft": ("data/sft/metrics.json",),
    "distill": ("data/distill/metrics.json", "data/distill/trajectories/kept.jsonl"),
    "merge": ("data/merge/metrics.json",),
    "measure@final": ("data/measure/final/run.json", "data/measure/final/summary.json"),
    "eval": ("data/eval/verdict",),
}  # fmt: skip
# what a stage reads of what others wrote: their checkpoints, and files
_READS: dict[str, tuple[str, ...]] = {
    "tokenize": ("base", "data/curate/corpus/domain.jsonl", "data/curate/corpus/replay.jsonl"),
    "cpt": ("base", "data/tokenize/metrics.json"),
    "sft": ("cpt", "data/curate/corpus/instruction.jsonl"),
    "distill": ("sft", "data/curate/corpus/instruction.jsonl"),
    "merge": ("sft", "distill"),
    "measure@final": ("merge", "data/curate/golden/mc4.jsonl"),
    "eval": ("data/measure/final/run.json",),
}
_STAGE_PARAMS: dict[str, dict[str, Any]] = {
    "distill": {"distill": {"teacher": {"terms": "Apache-2.0, the pipeline's own checkpoint"}}},
}
_STAGE_ALLOWANCES: dict[str, list[dict[str, Any]]] = {"base": [BASE_ALLOWANCE]}


@dataclass
class Project:
    """A repository on disk; ``sign`` writes a stage's link over the files as they are now.

    Attributes:
        params: of the stage that writes the documents.
        products: files of each stage.
        sources: that the stage ``curate`` reads.
    """

    root: Path
    signer: Signer
    params: dict[str, Any] = field(default_factory=lambda: dict(PARAMS))
    products: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(PRODUCTS))
    sources: list[dict[str, Any]] = field(default_factory=lambda: list(SOURCES))

    def inputs(self) -> Inputs:
        """What the document stage would be given."""
        return Inputs(
            root=self.root,
            links=Path("links"),
            declarations=Path("cards/declarations.yaml"),
            trust=Path("trust"),
            base=Path("data/base/base.json"),
            ledger=Path("data/curate/ledger/root.json"),
            verdict=Path("data/eval/verdict"),
            params=self.params,
        )

    def write(self, path: str, value: Any) -> None:
        """Writes a JSON file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(strictjson.dumps(value))

    def declare(self, text: str) -> None:
        """Writes the declarations."""
        file = self.root / "cards" / "declarations.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def sign(self, stage: str, *, signer: Signer | None = None) -> Path:
        """Writes ``links/<stage>.link``."""
        products: dict[str, str] = {}
        for path in self.products[stage]:
            file = self.root / path
            if file.is_dir():
                products[TREE + path] = hash_tree(file).digest
            else:
                products[path] = hashlib.sha256(file.read_bytes()).hexdigest()
        if stage in CHECKPOINTS:
            products[f"{TREE}data/{stage}/checkpoint"] = CHECKPOINTS[stage]
            config = f"data/{stage}/checkpoint/config.json"
            products[config] = hashlib.sha256((self.root / config).read_bytes()).hexdigest()
        materials = {
            f"{TREE}data/{one}/checkpoint" if one in CHECKPOINTS else one: CHECKPOINTS.get(one)
            or hashlib.sha256((self.root / one).read_bytes()).hexdigest()
            for one in _READS.get(stage, ())
        }
        if stage == "curate":
            materials[SOURCES[2]["path"]] = "7" * 64
        minute = list(PRODUCTS).index(stage)
        read = {"curate": {"curate": {"sources": self.sources}}}
        run = {
            "schema": "forebear.run/v1",
            "params": {"seed": 7, **_STAGE_PARAMS.get(stage, {}), **read.get(stage, {})},
            "started": f"2026-11-24T10:0{minute}:00Z", "ended": f"2026-11-24T10:0{minute}:50Z",
            "wall_s": 50.25, "cpu_s": 96.5, "max_rss_bytes": 3 * 2**30,
            "machine": {"cpu": "Some CPU | 2.0 GHz", "cores": 2, "gpus": []},
            "git": {"commit": "f" * 40, "dirty": False, "changed": []},
            "allowances": _STAGE_ALLOWANCES.get(stage, []),
            "confinement": {"level": "unchecked"}, "energy": {"method": "unknown"},
        }  # fmt: skip
        byproducts: Mapping[str, Any] = {"return-value": 0, "forebear": run}
        link = Link(stage, ("python", "-m", f"stages.{stage}"), materials, products, byproducts)
        target = self.root / "links" / f"{stage}.link"
        target.parent.mkdir(exist_ok=True)
        payload = render_link(link)
        target.write_bytes(sign_envelope(signer or self.signer, payload, PAYLOAD_TYPE))
        return target


def make_project(root: Path, keys: Path) -> Project:
    """A finished pipeline below ``root``; its recorder's public key stands in ``trust``."""
    if not keys.exists():
        create_key("recorder", keys, None)
    project = Project(root, load_signer(keys / "recorder.pem"))
    trust = root / "trust" / "recorders"
    trust.mkdir(parents=True)
    (trust / "machine.pub").write_bytes((keys / "recorder.pub").read_bytes())
    for path, value in FILES.items():
        project.write(path, value)
    for stage in PRODUCTS:
        project.sign(stage)
    return project
