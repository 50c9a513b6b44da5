"""Facts of the training: one row per stage, and compute in its two meanings.

*Update compute* is what the passes cost that moved parameters; *cumulative* compute adds the
generation of training text that is not public. Left out, as the guidelines say: evaluation, sweeps
of learning rates, training of teachers. A stage's own counter comes first, then 6·N·D over the
tokens it saw, padding included; a part that nobody recorded makes a sum a lower bound.

Source: compliance page, sections 5 and 9.2; Commission guidelines on GPAI, annex A.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents.ancestors import reported
from forebear.documents.basemodels import find
from forebear.documents.derive import GENERATED, PRODUCT, TRAINED, derived, total
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer, value_of
from forebear.documents.fields import GENERATORS
from forebear.documents.values import (
    Row,
    Tables,
    Value,
    Values,
    leaf_id,
    not_applicable,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STAGES = "train.stages"
_NO_TRAINING = "the stage records no training steps, so it updates no parameters"
_NO_TEXT = "the stage generates no training text"
_SAID = "not recorded by the stage"


def collect_training(
    values: Values, tables: Tables, evidence: Evidence, declared: Mapping[str, tuple[Row, ...]]
) -> None:
    """Adds ``train.stages`` and the totals; ``declared`` tells the size of outside generators."""
    bounds = {row.key: row.cells["params_active_max"] for row in declared.get(GENERATORS, ())
              if "params_active_max" in row.cells}  # fmt: skip
    rows = tuple(_stage_row(evidence, stage, bounds) for stage in evidence.stages)
    tables[STAGES] = rows
    flop = "train.flop_modification"
    values[flop] = _total(rows, ("flop",), "FLOP", estimate=True, what="compute")
    values[f"{flop}_cumulative"] = _total(
        rows, ("flop", "flop_sampling"), "FLOP", estimate=True, what="compute"
    )
    values["train.wall_seconds"] = _total(rows, ("wall",), "seconds", what="time")
    values["train.device_seconds"] = _total(rows, ("device_seconds",), "seconds", what="time")
    values["train.cpu_seconds"] = _total(rows, ("cpu",), "seconds", what="processor time")
    values["train.peak_memory"] = _total(rows, ("memory",), "bytes", what="memory", largest=True)
    values["train.energy_modification"] = _total(rows, ("energy",), "kWh", what="energy")
    _add_base(values)


def _add_base(values: Values) -> None:
    """The original's compute from what its publisher states, and the sum with ours."""
    name = values["model.base.name"].value
    row = find(name) if isinstance(name, str) else None
    parts = ("model.base.params_active", "model.base.tokens")
    reason = "no published figure for the original model is known"
    values |= {f"model.base.{cell}": value for cell, value in reported(str(name)).items()}
    values |= dict.fromkeys(
        ("model.base.documents_url", "model.base.summary_url"),
        unknown("the publisher of the original names no such document that is known here"),
    )
    if row is None:
        values |= dict.fromkeys((*parts, "train.flop_base"), unknown(reason))
    else:
        values[parts[0]] = row.reported(row.active, unit="parameters", what="parameter count")
        values[parts[1]] = row.reported(row.tokens, unit="tokens", what="number of tokens")
        values["train.flop_base"] = row.flop(parts)
    values["train.energy_base"] = unknown(reason)
    values["train.flop_cumulative"] = total(
        {name: values[name] for name in ("train.flop_base", "train.flop_modification_cumulative")},
        unit="FLOP", what="compute", estimate=True,
    )  # fmt: skip


def _stage_row(evidence: Evidence, stage: str, bounds: Mapping[str, Value]) -> Row:
    link = evidence.link(stage)
    figures = evidence.metrics(stage)
    of = value_of(figures, "the stage writes no figures")

    def run(*names: str, unit: str | None = None) -> Value:
        return link.value(
            pointer(*RUN, *names), reason="not recorded in the stage's link", unit=unit
        )

    section = stage.partition("@")[0]
    cells = {
        "name": link.value("/name"),
        "method": of("/method")
        if figures is not None and figures.get("/method") is not None
        else not_applicable("the stage names no method"),
        **_training(stage, figures),
        **_generation(stage, figures, bounds),
        "params": run("params", section),
        "params_sha256": link.value(
            pointer("materials", f"params:{stage}", "sha256"), reason="the link names no params"
        ),
        "seed": run("params", "seed"),
        "started": run("started"),
        "ended": run("ended"),
        "wall": run("wall_s", unit="seconds"),
        "cpu": run("cpu_s", unit="seconds"),
        "memory": run("max_rss_bytes", unit="bytes"),
        "energy": link.value(
            pointer(*RUN, "energy", "kwh"), unit="kWh", reason="no meter was read"
        ),
        "energy_method": _said(run("energy", "method"), "no meter was read"),
        "processor": run("machine", "cpu"),
        "cores": run("machine", "cores", unit="cores"),
        "environment": run("environment", "digest"),
        "python": run("environment", "python"),
        "commit": run("git", "commit"),
        "uncommitted": run("git", "dirty"),
        "confinement": run("confinement", "level"),
        "allowances": _counted(run("allowances")),
    }
    cells |= _devices(stage, link, cells["wall"])
    return Row(key=stage, cells=cells)


def _said(value: Value, reason: str) -> Value:
    """The text, unless it says itself that nothing is known."""
    return unknown(reason) if value.value in (None, "unknown") else value


def _counted(value: Value) -> Value:
    """The number of entries of a list, resting on the list itself."""
    if not isinstance(value.value, list):
        return value
    return value.model_copy(update={"value": len(value.value), "method": "count"})


def _devices(stage: str, link: SignedFile, wall: Value) -> dict[str, Value]:
    """Accelerators where there are any, else the machine's processors as one device."""
    at = pointer(*RUN, "machine", "gpus")
    found = link.get(at)
    if not isinstance(found, list):
        reason = unknown("not recorded in the stage's link")
        return dict.fromkeys(("devices", "device_model", "device_seconds"), reason)
    devices = _counted(link.value(at, unit="accelerators"))
    model = link.value(f"{at}/0/name", f"{at}/0", reason="no accelerator was used")
    if not found:
        # a processor works for as long as the stage runs
        return {
            "devices": devices,
            "device_model": not_applicable("no accelerator was used"),
            "device_seconds": wall,
        }
    parts = {leaf_id(STAGES, stage, "wall"): wall, leaf_id(STAGES, stage, "devices"): devices}
    return {
        "devices": devices,
        "device_model": model,
        "device_seconds": derived(PRODUCT, parts, unit="seconds"),
    }


def _training(stage: str, figures: SignedFile | None) -> dict[str, Value]:
    """What a stage that updates parameters did; not applicable for the others."""
    names = ("params_active", "tokens", "tokens_padded", "flop", "flop_method", "loss_first",
             "loss_last", "steps")  # fmt: skip
    if figures is None or figures.get("/flop", "/steps", "/loss_first") is None:
        return dict.fromkeys(names, not_applicable(_NO_TRAINING))
    cells = {
        "params_active": figures.value("/n_params_active", "/n_params", unit="parameters"),
        "tokens": figures.value("/tokens", unit="tokens"),
        "tokens_padded": figures.value("/tokens_padded", unit="tokens"),
        "flop": figures.value(
            "/flop", unit="FLOP", estimate=True, method=str(figures.get("/flop_method") or TRAINED)
        ),
        "flop_method": figures.value("/flop_method"),
        "loss_first": figures.value("/loss_first"),
        "loss_last": figures.value("/loss_last"),
        "steps": figures.value("/steps", unit="steps"),
    }
    if cells["flop"].kind == "unknown":
        seen = "tokens" if cells["tokens_padded"].value is None else "tokens_padded"
        parts = {leaf_id(STAGES, stage, name): cells[name] for name in ("params_active", seen)}
        cells["flop"] = derived(TRAINED, parts, unit="FLOP", estimate=True, reason=_SAID)
    return cells


def _generation(
    stage: str, figures: SignedFile | None, bounds: Mapping[str, Value]
) -> dict[str, Value]:
    """Compute of training text that the stage had written, discarded answers included."""
    names = ("tokens_prompted", "tokens_generated", "flop_sampling")
    sampled = figures is not None and isinstance(figures.get("/sampling"), dict)
    answers = figures.get("/pairs_from_policy", "/policy_tree") if figures is not None else None
    if figures is None or not (sampled or answers):
        return dict.fromkeys(names, not_applicable(_NO_TEXT))
    cells = {
        "tokens_prompted": figures.value("/sampling/prompt_tokens", unit="tokens"),
        "tokens_generated": figures.value("/sampling/answer_tokens", unit="tokens"),
        "flop_sampling": figures.value(
            "/sampling/flop", unit="FLOP", estimate=True,
            method=str(figures.get("/sampling/flop_method") or GENERATED),
        ),
    }  # fmt: skip
    teacher = str(figures.get("/teacher/name"))
    if cells["flop_sampling"].kind == "unknown" and sampled:
        reason = "the size of the model that wrote the text is not known"
        size = bounds.get(teacher, unknown("not declared"))
        parts = {leaf_id(GENERATORS, teacher, "params_active_max"): size}
        parts |= {leaf_id(STAGES, stage, name): cells[name] for name in names[:2]}
        cells["flop_sampling"] = derived(
            GENERATED, parts, unit="FLOP", estimate=True, reason=reason
        )
    return cells


def _total(  # noqa: PLR0913  # named arguments, each said once per total
    rows: Sequence[Row],
    columns: Sequence[str],
    unit: str,
    *,
    what: str,
    estimate: bool = False,
    largest: bool = False,
) -> Value:
    cells = {leaf_id(STAGES, row.key, c): row.cells[c] for row in rows for c in columns}
    return total(cells, unit=unit, what=what, estimate=estimate, largest=largest)
