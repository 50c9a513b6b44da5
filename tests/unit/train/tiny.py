"""A tiny random Llama with a byte-level tokenizer, as a checkpoint folder, and rows to teach it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = Path(__file__).parents[3] / "forebear" / "data" / "chat_template.jinja"


def write_checkpoint(
    folder: Path, *, seed: int = 0, hidden: int = 32, extra_tokens: Sequence[str] = ()
) -> Path:
    """Writes a two-layer Llama with random weights and its tokenizer; returns ``folder``."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*_SPECIAL, *alphabet, *extra_tokens))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(_SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = _TEMPLATE.read_text(encoding="utf-8")
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(file: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """Writes instruction rows of title and code; returns ``file``."""
    lines = [
        json.dumps(
            {
                "id": f"made:{number:04d}",
                "prompt": f"Code of {title}?",
                "answer": code,
                "code": code,
                "title": title,
                "form": "code",
                "source": "made",
                "licence": "CC0-1.0",
            },
            sort_keys=True,
        )
        for number, (title, code) in enumerate(rows)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_taught_checkpoint(folder: Path, rows: Path, *, steps: int = 150) -> Path:
    """A tiny checkpoint that answers most of ``rows`` right; returns ``folder``."""
    import torch

    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
    from forebear.train.sft import encode_rows, read_rows

    write_checkpoint(folder, seed=1, hidden=64)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    encoded = encode_rows(read_rows(rows), tokenizer)
    width = max(len(row["input_ids"]) for row in encoded)
    ids = torch.zeros(len(encoded), width, dtype=torch.long)
    labels = torch.full((len(encoded), width), -100)
    for number, row in enumerate(encoded):
        n_tokens = len(row["input_ids"])
        ids[number, :n_tokens] = torch.tensor(row["input_ids"])
        answer = torch.tensor(row["completion_mask"], dtype=torch.bool)
        labels[number, :n_tokens][answer] = ids[number, :n_tokens][answer]
    torch.set_num_threads(1)  # tiny products: a second thread only waits
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        optimizer.step()
    save_checkpoint(model, tokenizer, folder)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below ``folder``, by relative path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
