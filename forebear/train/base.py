"""The base stage: one pinned model becomes the pipeline's first checkpoint.

It refuses a source that is not pinned, a file whose digest is not the one its publisher recorded,
and an instruction-tuned model, unless an allowance for the rule ``base-only`` is declared. Where
the weights come from is the concern of :mod:`forebear.train.base_sources`.

Source: training page, section base.
"""

from __future__ import annotations

import hashlib
import os
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forebear.errors import ConfigError
from forebear.planning.facts import by_repo, load_facts
from forebear.train.base_signature import Signer
from forebear.train.stage import StageParams, stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from forebear.train.base_sources import Loaded

_RULE = "base-only"

# Name parts that publishers give to models tuned after pre-training.
_TUNED_NAME = re.compile(
    r"(?:^|[-_./ ])(instruct|chat|it|sft|dpo|rlhf|assistant|zephyr|hermes)(?=$|[-_./ ])",
    re.IGNORECASE,
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PackageSource(_Part):
    """A weight file that an installed package carries.

    ``version`` must be the installed one; ``file`` is the file's name inside the package.
    """

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    file: str = Field(min_length=1)


class HubSource(_Part):
    """A repository of a model hub at one commit (``revision``, 40 hex digits)."""

    repo: str = Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")
    revision: str

    @model_validator(mode="after")
    def _is_pinned(self) -> HubSource:
        if re.fullmatch(r"[0-9a-f]{40}", self.revision) is None:
            raise ValueError(
                f"revision {self.revision[:60]!r} can move: pin the commit that "
                f"`forebear base pin {self.repo} {self.revision[:60]}` prints"
            )
        return self


class RandomSource(_Part):
    """A small Llama with random weights and a tokenizer trained on the spot, for the tests."""

    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    vocab_size: int = Field(ge=300)
    context_length: int = Field(default=512, ge=16)

    @model_validator(mode="after")
    def _divides(self) -> RandomSource:
        if self.hidden_size % (2 * self.heads):
            raise ValueError("hidden_size must be a multiple of twice the number of heads")
        return self


class BaseSource(_Part):
    """Exactly one of the four kinds of source."""

    package: PackageSource | None = None
    hub: HubSource | None = None
    path: str | None = None
    random: RandomSource | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> BaseSource:
        if len(self.kinds()) != 1:
            raise ValueError("needs exactly one of package, hub, path, random")
        return self

    def kinds(self) -> list[str]:
        """Names of the kinds that are given."""
        return [k for k in ("package", "hub", "path", "random") if getattr(self, k) is not None]


class BaseParams(StageParams):
    """Section ``base`` of the params.

    Attributes:
        repo: the name the upstream model is known by, also when a package carries a copy of it.
        licence: SPDX id of the weights.
        dtype: type that the checkpoint is stored in.
        languages: what the publisher says the model covers.
        signer: who must have signed the upstream model; None where nobody has.
    """

    source: BaseSource
    licence: str = Field(min_length=2)
    repo: str = Field(min_length=1)
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    languages: tuple[str, ...] = Field(default=("en",), strict=False)
    signer: Signer | None = None


def build_base(params: BaseParams, *, out: Path, facts: Path, metrics: Path) -> None:
    """Writes the base checkpoint to ``out``, what is known of it to ``facts``, and figures.

    Raises:
        ConfigError: the source is not pinned, or is instruction-tuned without allowance.
        EnvironmentFailure: package, file or network is not there.
        FormatError: the weights are damaged or not what their publisher recorded.
    """
    if params.source.hub is not None:
        # the hub's client reads it once, when torch's friends import it; the recorder alone
        # decides whether there is a network at all
        os.environ["HF_HUB_OFFLINE"] = "0"
    import torch

    from forebear.train.base_sources import load_source
    from forebear.train.checkpoint import count_active_parameters, count_parameters, save_checkpoint
    from forebear.train.metrics import write_json
    from forebear.train.runtime import configure_torch

    early = tuned_names(params)
    require_base_only(params, early)
    seed = stage_seed(params.seed, "base")
    configure_torch(seed)
    loaded = load_source(params, seed=seed)
    evidence = [*early, *loaded.tuned_evidence]
    require_base_only(params, evidence)
    template = chat_template()
    loaded.tokenizer.chat_template = template
    loaded.model.config.name_or_path = params.repo  # else the machine's own folder
    # cast here, not while saving: copies of tied weights would be stored twice
    loaded.model.to(getattr(torch, params.dtype))
    save_checkpoint(loaded.model, loaded.tokenizer, out, params.dtype)
    total = count_parameters(loaded.model)
    parameters = {"total": total, "active": count_active_parameters(loaded.model)}
    write_json(facts, _facts(params, loaded, parameters, evidence, template))
    write_json(
        metrics,
        {
            "parameters_total": total,
            "parameters_active": parameters["active"],
            "checkpoint_bytes": sum(f.stat().st_size for f in out.rglob("*") if f.is_file()),
            "vocabulary": len(loaded.tokenizer),
            "context_length": int(loaded.model.config.max_position_embeddings),
        },
    )


def chat_template() -> str:
    """Text of the one chat template that every checkpoint of the pipeline carries."""
    file = resources.files("forebear").joinpath("data", "chat_template.jinja")
    return file.read_text(encoding="utf-8")


def tuned_names(params: BaseParams) -> list[str]:
    """Signs of instruction tuning in names and in the facts table; one sentence each."""
    source = params.source
    names = [params.repo]
    if source.package is not None:
        names.append(source.package.file)
    if source.hub is not None:
        names.append(source.hub.repo)
    if source.path is not None:
        names.append(Path(source.path).name)
    found = []
    table = load_facts()
    for name in dict.fromkeys(names):
        match = _TUNED_NAME.search(name)
        if match is not None:
            found.append(f"the name {name!r} says {match.group(1)!r}")
        known = by_repo(table, name)
        if known is not None and known.tuned:
            found.append(f"the facts table lists {name!r} as instruction-tuned")
    return found


def known_base(repo: str) -> bool:
    """Whether the facts table lists ``repo`` as a base: some carry a chat template all the same."""
    known = by_repo(load_facts(), repo)
    return known is not None and known.tuned is False


def tokenizer_evidence(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Signs of instruction tuning in the upstream tokenizer, before ours replaces its template."""
    return ["its tokenizer carries a chat template"] if tokenizer.chat_template else []


def card_evidence(card: Path) -> list[str]:
    """Signs of instruction tuning in a model card: a ``base_model`` in its front matter."""
    if not card.is_file():
        return []
    match = re.match(
        r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL
    )
    if match is not None and re.search(r"^base_model\s*:", match.group(1), re.MULTILINE):
        return ["its card names a base_model, so it is a derivative"]
    return []


def require_base_only(params: BaseParams, evidence: list[str]) -> None:
    """Refuses an instruction-tuned model without allowance.

    Raises:
        ConfigError: there is evidence, and ``base-only`` is not allowed.
    """
    if not evidence or params.allows(_RULE):
        return
    raise ConfigError(
        f"the base must be a base model, but {'; '.join(evidence)}",
        where="params.yaml: base.source",
        fix=f"choose the base checkpoint, or add to base.allow: "
        f"{{rule: {_RULE}, reason: …, by: …}}; it will be shown on the model card",
    )


def _facts(
    params: BaseParams,
    loaded: Loaded,
    parameters: dict[str, int],
    evidence: list[str],
    template: str,
) -> dict[str, Any]:
    """What is known of the base, for the documents and for later checks."""
    config = loaded.model.config
    return {
        "repo": params.repo,
        "source": loaded.origin,
        "revision": loaded.revision,
        "files": loaded.files,
        "licence": params.licence,
        "architecture": str((config.architectures or [type(loaded.model).__name__])[0]),
        "parameters": parameters,
        "context_length": int(config.max_position_embeddings),
        "vocabulary": len(loaded.tokenizer),
        "languages": list(params.languages),
        "dtype": params.dtype,
        "relation": loaded.relation,
        "upstream_signature": loaded.signature,
        "instruction_tuned": {
            "evidence": evidence,
            "allowed": bool(evidence) and params.allows(_RULE),
        },
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }
