"""What people write about judges and judged suites in ``params.yaml``.

No model is named here: judges retire. A hosted one says on which day, and is refused after it.

Source: evaluation page, section 3.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from forebear.train.evaluate.backends import EndpointSettings, Price

ALPACA_LICENCE = "CC-BY-NC-4.0"
_DAY = r"^\d{4}-\d{2}-\d{2}$"


def _day_text(value: object) -> object:
    """YAML reads an unquoted day as a date; the recorder's params file holds it as text."""
    return value.isoformat() if isinstance(value, dt.date) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class JudgeSettings(_Strict):
    """One judge.

    Attributes:
        kind: ``rules`` needs nothing else; ``local`` a checkpoint folder; the others an endpoint.
        path: the checkpoint folder of a local judge.
        snapshot: the id that the endpoint must return; another one stops the run.
        retires: last day on which the judge may be used.
        prompts: ``published`` takes MT-Bench's own words for grades and pairs, ``classifier`` those
            of ``template`` for harm.
        template: the prompt of a harm classifier, a file below the benchmarks' folder.
        logprobs: ask for the log-probabilities of a one-letter verdict (OpenAI-compatible only).
        ancestors: names or digests of what the judge descends from, itself included.
    """

    kind: Literal["rules", "local", "openai", "anthropic"]
    path: str | None = Field(default=None, min_length=1)
    base_url: str | None = Field(default=None, pattern="^https?://[^@]+$")
    model: str | None = Field(default=None, min_length=1)
    snapshot: str | None = Field(default=None, min_length=1)
    api_key_env: str | None = Field(default=None, pattern="^[A-Z_][A-Z0-9_]*$")
    price: Price | None = None
    retires: Annotated[str | None, BeforeValidator(_day_text), Field(pattern=_DAY)] = None
    prompts: Literal["fenced", "published", "classifier"] = "fenced"
    template: str | None = Field(default=None, min_length=1)
    logprobs: bool = False
    ancestors: tuple[str, ...] = Field(default=(), strict=False)
    max_tokens: int = Field(default=1024, ge=1)
    timeout_s: float = Field(default=120, gt=0)
    concurrency: int = Field(default=4, ge=1, le=256)
    requests_per_minute: float = Field(default=600, gt=0)
    max_attempts: int = Field(default=6, ge=1, le=20)
    send_seed: bool = True
    send_temperature: bool = True
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105  # a field's name

    @model_validator(mode="after")
    def _complete(self) -> JudgeSettings:
        hosted = self.kind in {"openai", "anthropic"}
        needed = {
            "local": ("path",),
            "openai": ("base_url", "model", "snapshot"),
            "anthropic": ("base_url", "model", "snapshot"),
        }.get(self.kind, ())
        lacking = [name for name in needed if getattr(self, name) is None]
        if lacking:
            raise ValueError(f"a judge of kind {self.kind} needs {', '.join(lacking)}")
        if not hosted and any((self.base_url, self.snapshot, self.api_key_env, self.price)):
            raise ValueError(f"a judge of kind {self.kind} has no endpoint")
        if (self.prompts == "classifier") != (self.template is not None):
            raise ValueError("prompts: classifier needs a template, and nothing else takes one")
        if self.logprobs and self.kind != "openai":
            raise ValueError("logprobs are had from OpenAI-compatible endpoints only")
        if self.retires is not None:
            dt.date.fromisoformat(self.retires)  # a day that exists
        return self

    def endpoint(self) -> EndpointSettings:
        """How a hosted judge is reached."""
        return EndpointSettings(
            api="anthropic" if self.kind == "anthropic" else "openai",
            base_url=str(self.base_url),
            model=str(self.model),
            snapshot=self.snapshot,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            max_attempts=self.max_attempts,
            send_seed=self.send_seed,
            send_temperature=self.send_temperature,
            token_field=self.token_field,
            price=self.price,
        )


class JudgedChoice(_Strict):
    """How much of a judged suite is measured, and who judges.

    Attributes:
        limit: items to take, spread over the suite's strata; all when ``None``.
        max_tokens: of one answer; the published number when left out.
        judge: name under ``judges``.
        labels: people's values of some of the answers, a file below the benchmarks' folder.
    """

    limit: int | None = Field(default=None, ge=1)
    labels: str | None = Field(default=None, min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    judge: str = Field(default="main", min_length=1)


_Baseline = Annotated[str, Field(pattern="^(file|checkpoint|release):.")]


class MtBenchChoice(JudgedChoice):
    """MT-Bench.

    Attributes:
        mode: ``single`` grades each answer, ``pairwise`` compares with ``baseline``.
        baseline: ``file:`` below the benchmarks' folder, ``checkpoint:`` or ``release:``.
    """

    mode: Literal["single", "pairwise"] = "single"
    baseline: _Baseline | None = None

    @model_validator(mode="after")
    def _has_baseline(self) -> MtBenchChoice:
        if (self.mode == "pairwise") != (self.baseline is not None):
            raise ValueError("mode pairwise needs a baseline, and mode single takes none")
        if self.mode == "single" and self.labels is not None:
            raise ValueError("labels correct shares, and grades are none")
        return self


class AlpacaEvalChoice(JudgedChoice):
    """AlpacaEval 2; its data are the user's own copy.

    Attributes:
        data: file below the benchmarks' folder: records ``instruction``, ``output``, ``dataset``.
        licence_ack: ``CC-BY-NC-4.0``, written by whoever answers for the use.
    """

    data: str | None = Field(default=None, min_length=1)
    licence_ack: Literal["CC-BY-NC-4.0"] | None = None


class ArenaHardChoice(JudgedChoice):
    """Arena-Hard.

    Attributes:
        version: which questions.
        baseline: whose answers are the opponent's; ``file:`` is below the benchmarks' folder.
    """

    version: Literal["v0.1", "v2.0"] = "v0.1"
    baseline: _Baseline = "file:arena_hard/baseline_v0.1_gpt-4-0314.jsonl.gz"


class SafetyChoice(JudgedChoice):
    """HarmBench or JailbreakBench.

    Attributes:
        judge: name under ``judges``.
        templates: the user's own attack templates, a file below the benchmarks' folder with records
            ``id`` and ``template`` (holding ``{request}``); requests are sent as they are without.
    """

    judge: str = Field(default="safety", min_length=1)
    templates: str | None = Field(default=None, min_length=1)


class XsTestChoice(JudgedChoice):
    """XSTest.

    Attributes:
        judge: name under ``judges``.
    """

    judge: str = Field(default="safety", min_length=1)
