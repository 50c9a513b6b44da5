"""Where base weights come from: an installed package, a model hub, a folder, or chance.

Each loader checks the files against what their publisher recorded before anything parses them,
and refuses a damaged file in one sentence.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, MissingExtra
from forebear.train.base import (
    BaseParams,
    HubSource,
    PackageSource,
    RandomSource,
    card_evidence,
    known_base,
    require_base_only,
    tokenizer_evidence,
)
from forebear.train.base_signature import NAME as SIGNATURE
from forebear.train.base_signature import RULE as SIGNATURE_RULE
from forebear.train.base_signature import check_signature

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# No pickles: a hub repository may carry them beside its safetensors.
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md", "model.sig")


@dataclass(frozen=True)
class Loaded:
    """A model in memory and what is known of where it came from.

    Attributes:
        files: name -> {"sha256", "size_bytes"} of each source file.
        origin: the source as plain data.
        revision: commit or package version; None where there is none.
        relation: what the weights are to the upstream model.
        signature: of upstream: ``absent``, ``verified by`` whom, or ``present, not verified``.
        tuned_evidence: signs of instruction tuning, one sentence each.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    files: dict[str, dict[str, Any]]
    origin: dict[str, Any]
    revision: str | None
    relation: str
    signature: str = "absent"
    tuned_evidence: list[str] = field(default_factory=list)


def load_source(params: BaseParams, *, seed: int) -> Loaded:
    """The model that the params name, checked and in memory as float32."""
    source = params.source
    if source.package is not None:
        return _load_package(source.package)
    if source.hub is not None:
        return _load_hub(source.hub, params)
    if source.path is not None:
        return _load_path(Path(source.path), params)
    if source.random is not None:
        return _random(source.random, seed)
    raise ConfigError("no source is given", where="params.yaml: base.source")


def package_file(source: PackageSource) -> Path:
    """The weight file of an installed package, checked against the package's own record.

    Raises:
        EnvironmentFailure: package or file is not there, or another version is installed.
        FormatError: the file's digest is not the one that the package's RECORD holds.
    """
    where = f"package {source.name}"
    install = f"pip install {source.name}=={source.version}"
    try:
        installed = metadata.version(source.name)
    except metadata.PackageNotFoundError:
        raise EnvironmentFailure("is not installed", where=where, fix=install) from None
    if installed != source.version:
        raise EnvironmentFailure(
            f"version {installed} is installed, the params pin {source.version}",
            where=where,
            fix=f"{install}, or pin the installed version in base.source.package.version",
        )
    for entry in metadata.files(source.name) or []:
        if entry.name == source.file:
            file = Path(str(entry.locate()))
            if not file.is_file():
                break
            _require_recorded(file, entry.hash, install)
            return file
    raise EnvironmentFailure(f"carries no file {source.file!r}", where=where, fix=install)


def _require_recorded(file: Path, recorded: metadata.FileHash | None, install: str) -> None:
    """Compares a file with the digest in its package's RECORD, where there is one."""
    if recorded is None or recorded.mode != "sha256":
        return
    padded = recorded.value + "=" * (-len(recorded.value) % 4)
    if _sha256(file) != urlsafe_b64decode(padded).hex():
        raise FormatError(
            "is damaged: its SHA-256 is not the one that its package recorded",
            where=file.name,
            fix=f"{install} --force-reinstall",
        )


def _load_package(source: PackageSource) -> Loaded:
    file = package_file(source)
    model, tokenizer = load_gguf(file)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        files=_digests([file], file.parent),
        origin={"kind": "package", "package": source.name, "file": source.file},
        revision=source.version,
        relation="quantized copy of the named repository, dequantized",
        tuned_evidence=tokenizer_evidence(tokenizer),
    )


def load_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (float32) and tokenizer of a GGUF file, its packed weights unpacked.

    Raises:
        FormatError: the file is cut short, or is not GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _require_magic(file)
    try:
        _log.info("unpacking %s", file.name)
        # without dequantize the weights stay packed, train slowly and refuse to be saved
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, IndexError, KeyError, RuntimeError, struct.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(
            f"is no whole GGUF file: {first[:200]}",
            where=file.name,
            fix="fetch the file again",
        ) from error
    return model, tokenizer


def _require_magic(file: Path) -> None:
    with file.open("rb") as handle:
        magic = handle.read(4)
    if magic != b"GGUF":
        raise FormatError("is no GGUF file: the first four letters differ", where=file.name)


def _load_path(folder: Path, params: BaseParams) -> Loaded:
    if folder.is_file():
        model, tokenizer = load_gguf(folder)
        return Loaded(
            model=model,
            tokenizer=tokenizer,
            files=_digests([folder], folder.parent),
            origin={"kind": "path", "name": folder.name},
            revision=None,
            relation="GGUF file, dequantized",
            tuned_evidence=tokenizer_evidence(tokenizer),
        )
    if not folder.is_dir():
        raise EnvironmentFailure(
            "there is no such folder or file", "params.yaml: base.source.path", "check the path"
        )
    return _load_folder(
        folder,
        params,
        origin={"kind": "path", "name": folder.name},
        revision=None,
        relation="identical to the local checkpoint",
    )


def _load_hub(source: HubSource, params: BaseParams) -> Loaded:
    return _load_folder(
        fetch_hub(source),
        params,
        origin={"kind": "hub", "repo": source.repo},
        revision=source.revision,
        relation="identical to the named repository",
    )


def _load_folder(
    folder: Path, params: BaseParams, *, origin: dict[str, Any], revision: str | None, relation: str
) -> Loaded:
    """The checkpoint in ``folder``; its signature is checked before anything parses a file."""
    from forebear.train.checkpoint import load_model, load_tokenizer

    signature = check_signature(folder, params.signer, allowed=params.allows(SIGNATURE_RULE))
    files = _digests([f for f in folder.rglob("*") if f.is_file()], folder)
    tokenizer = load_tokenizer(folder)
    evidence = card_evidence(folder / "README.md")
    if "repo" not in origin or not known_base(origin["repo"]):
        evidence += tokenizer_evidence(tokenizer)
    require_base_only(params, evidence)  # before the weights, which may take hours to read
    return Loaded(
        model=load_model(folder, params.dtype),
        tokenizer=tokenizer,
        files=files,
        origin=origin,
        revision=revision,
        relation=relation,
        signature=signature,
        tuned_evidence=evidence,
    )


def fetch_hub(source: HubSource, *, endpoint: str | None = None) -> Path:
    """Folder of a hub repository at one commit; each large file has the digest the hub states.

    Args:
        source: repository and commit.
        endpoint: address of another hub; the client's own default when left out.

    Raises:
        EnvironmentFailure: no network, no access, or no such commit.
        FormatError: a file's digest is not the one that the hub's metadata states, or the hub
            answers with another commit.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    except ImportError:
        raise MissingExtra("train", "a hub source") from None
    try:
        info = HfApi(endpoint=endpoint).model_info(
            source.repo, revision=source.revision, files_metadata=True
        )
        siblings = info.siblings or []
        # a signature covers every file, also those that nothing here would open
        signed = any(entry.rfilename == SIGNATURE for entry in siblings)
        folder = Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                allow_patterns=None if signed else list(_WANTED),
                endpoint=endpoint,
            )
        )
    except (OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EnvironmentFailure(
            f"cannot fetch the repository: {first[:200]}",
            where=f"hub: {source.repo}",
            fix="let the stage reach the network: `meta: {forebear: {network: true}}` in dvc.yaml; "
            "a gated repository needs HF_TOKEN",
        ) from error
    if info.sha != source.revision:
        raise FormatError(
            f"the hub answers with commit {info.sha}, asked for was {source.revision}",
            where=f"hub: {source.repo}",
        )
    require_stated(
        folder, {entry.rfilename: entry.lfs.sha256 for entry in siblings if entry.lfs is not None}
    )
    return folder


def require_stated(folder: Path, stated: dict[str, str]) -> None:
    """Compares each fetched file with the SHA-256 that its publisher states.

    Args:
        folder: the fetched files.
        stated: name relative to ``folder`` -> SHA-256; names not fetched are passed over.

    Raises:
        FormatError: the first file that differs.
    """
    for name, digest in sorted(stated.items()):
        file = folder / name
        if file.is_file() and _sha256(file) != digest:
            raise FormatError(
                "is damaged: its SHA-256 is not the one that the hub states",
                where=name,
                fix="delete the file from the hub cache and fetch it again",
            )


def _random(source: RandomSource, seed: int) -> Loaded:
    """A random Llama and a byte-level BPE tokenizer trained on Python's own help topics."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(source.vocab_size)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=source.hidden_size,
        intermediate_size=2 * source.hidden_size,
        num_hidden_layers=source.layers,
        num_attention_heads=source.heads,
        num_key_value_heads=source.heads,
        max_position_embeddings=source.context_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Loaded(
        model=LlamaForCausalLM(config),
        tokenizer=tokenizer,
        files={},
        origin={"kind": "random", **source.model_dump()},
        revision=None,
        relation="random weights, for tests only",
    )


def train_tokenizer(vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of at most ``vocab_size`` tokens, the special ones first."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator((topics[name] for name in sorted(topics)), trainer)
    end, start, stop = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=start, eos_token=stop, pad_token=stop, unk_token=end
    )


def _digests(files: list[Path], root: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(root).as_posix(): {
            "sha256": _sha256(file),
            "size_bytes": file.stat().st_size,
        }
        for file in sorted(files)
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
