"""The base stage: pinned, checked, a base model; or a clear refusal."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.base import (
    BaseParams,
    PackageSource,
    build_base,
    card_evidence,
    chat_template,
    require_base_only,
    tuned_names,
)
from forebear.train.base_sources import (
    load_gguf,
    package_file,
    require_stated,
)
from forebear.train.stage import validate_section

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RANDOM = {"random": {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 400}}
ALLOW = [{"rule": "base-only", "reason": "only copy that a package carries", "by": "the tests"}]


def params(source: dict[str, object], **more: object) -> BaseParams:
    section = {"source": source, "licence": "Apache-2.0", "repo": "org/Model-1B", **more}
    checked = validate_section(BaseParams, "base", {"seed": 7, "base": section})
    assert isinstance(checked, BaseParams)
    return checked


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = []
    for name in ("first", "second"):
        folder = tmp_path_factory.mktemp(name)
        build_base(
            params(RANDOM),
            out=folder / "checkpoint",
            facts=folder / "base.json",
            metrics=folder / "metrics.json",
        )
        folders.append(folder)
    return folders


def test_two_builds_give_the_same_bytes(built: list[Path]) -> None:
    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in built
    )
    assert first == second
    assert not [name for name in first if name.suffix in {".bin", ".pt", ".pkl"}]


def test_the_checkpoint_loads_with_the_pinned_template_and_type(built: list[Path]) -> None:
    from forebear.train.checkpoint import load_model, load_tokenizer

    checkpoint = built[0] / "checkpoint"
    tokenizer = load_tokenizer(checkpoint)
    assert tokenizer.chat_template == chat_template()
    assert load_model(checkpoint).config.hidden_size == 32
    config = strictjson.parse((checkpoint / "config.json").read_bytes(), where="config.json")
    assert config["dtype"] == "bfloat16"


def test_tied_weights_are_stored_once(built: list[Path]) -> None:
    from safetensors import safe_open

    with safe_open(built[0] / "checkpoint" / "model.safetensors", framework="numpy") as handle:
        assert "lm_head.weight" not in set(handle.keys())


def test_the_facts_state_parameters_and_an_absent_signature(built: list[Path]) -> None:
    facts = strictjson.parse_canonical((built[0] / "base.json").read_bytes(), where="base.json")
    assert facts["parameters"]["total"] > 0
    assert facts["upstream_signature"] == "absent"
    assert facts["instruction_tuned"] == {"allowed": False, "evidence": []}
    assert facts["source"]["kind"] == "random"


def test_the_template_renders_question_and_answer_without_a_system_prompt() -> None:
    import jinja2

    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    template = jinja2.Environment(autoescape=False).from_string(chat_template())  # noqa: S701
    assert template.render(messages=turns) == (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    )
    assert template.render(messages=turns[:1], add_generation_prompt=True).endswith(
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("source", [{}, {**RANDOM, "path": "somewhere"}], ids=["none", "two"])
def test_exactly_one_kind_of_source_is_accepted(source: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refused:
        params(source)
    assert "exactly one" in refused.value.what


@pytest.mark.parametrize("name", ["org/Model-1B-Instruct", "org/model-chat", "org/gemma-2b-it"])
def test_an_instruct_name_is_refused_and_passes_with_an_allowance(name: str) -> None:
    refused = params({"hub": {"repo": name, "revision": COMMIT}}, repo=name)
    with pytest.raises(ConfigError) as error:
        build_base(refused, out=Path("x"), facts=Path("y"), metrics=Path("z"))
    assert error.value.where == "params.yaml: base.source"
    assert "base-only" in error.value.fix
    allowed = params({"hub": {"repo": name, "revision": COMMIT}}, repo=name, allow=ALLOW)
    require_base_only(allowed, tuned_names(allowed))


@pytest.mark.parametrize("name", ["org/Model-1B", "org/Bitnet", "org/instructor-xl"])
def test_a_base_name_passes(name: str) -> None:
    assert tuned_names(params({"hub": {"repo": name, "revision": COMMIT}}, repo=name)) == []


def test_a_card_that_names_a_base_model_is_evidence(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\nbase_model: org/Model\n---\n# Model\n")
    assert card_evidence(card)
    card.write_text("---\nlicense: mit\n---\nbase_model: in prose\n")
    assert not card_evidence(card)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper(), ""])
def test_a_branch_or_tag_is_refused_and_says_how_to_pin_it(revision: str) -> None:
    with pytest.raises(ConfigError) as error:
        params({"hub": {"repo": "org/model", "revision": revision}})
    assert f"forebear base pin org/model {revision}" in error.value.what
    params({"hub": {"repo": "org/model", "revision": COMMIT}})


def test_the_facts_table_knows_a_tuned_model_whose_name_does_not_tell() -> None:
    phi = {"hub": {"repo": "microsoft/phi-4", "revision": COMMIT}}
    found = tuned_names(params(phi, repo="microsoft/phi-4"))
    assert found == ["the facts table lists 'microsoft/phi-4' as instruction-tuned"]
    with pytest.raises(ConfigError):
        require_base_only(params(phi, repo="microsoft/phi-4"), found)
    qwen = {"hub": {"repo": "Qwen/Qwen3-4B-Base", "revision": COMMIT}}
    assert tuned_names(params(qwen, repo="Qwen/Qwen3-4B-Base")) == []


def test_a_fetched_file_that_differs_from_the_stated_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    stated = {"model.safetensors": hashlib.sha256(b"weights").hexdigest(), "other.bin": "0" * 64}
    require_stated(tmp_path, stated)
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(FormatError) as error:
        require_stated(tmp_path, stated)
    assert error.value.where == "model.safetensors"


def test_a_missing_package_names_what_to_install() -> None:
    with pytest.raises(EnvironmentFailure) as error:
        package_file(PackageSource(name="no-such-weights", version="1.0", file="w.gguf"))
    assert error.value.fix == "pip install no-such-weights==1.0"


def test_another_installed_version_is_refused() -> None:
    with pytest.raises(EnvironmentFailure) as error:
        package_file(PackageSource(name="pydantic", version="0.0.1", file="w.gguf"))
    assert metadata.version("pydantic") in error.value.what


def test_a_file_that_the_package_lacks_is_named() -> None:
    version = metadata.version("pydantic")
    with pytest.raises(EnvironmentFailure) as error:
        package_file(PackageSource(name="pydantic", version=version, file="w.gguf"))
    assert "w.gguf" in error.value.what


@pytest.mark.parametrize("data", [b"no weights", b"GGUF\x03\x00\x00\x00"], ids=["magic", "cut"])
def test_a_damaged_gguf_file_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "w.gguf"
    file.write_bytes(data)
    with pytest.raises(FormatError) as error:
        load_gguf(file)
    assert error.value.where == "w.gguf"
    assert "\n" not in error.value.what
