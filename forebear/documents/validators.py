"""Validates the machine-readable documents: our own checks, then each format's own validator.

The validators are optional: what is not installed leaves its document *unchecked*, said by name,
and never passes for checked. Everything runs offline.

Source: compliance page, sections 2 (exit 3), 6 (C150) and 13, tests 11 to 14.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Self

from forebear.documents import croissant, cyclonedx, hubcard, spdx
from forebear.documents.bill import read_bill
from forebear.documents.consistency import cyclonedx_faults, hub_card_faults, spdx_faults
from forebear.documents.croissant_check import lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebear.documents.values import Facts

_SPDX_SCHEMA = "spdx-3.0.1.schema.json"
# Gaps that are a person's to fill: said once, as a missing declaration, and not again as a fault.
_OWED: Mapping[str, tuple[str, ...]] = {
    "has no license": ("model.licence",),
    "lacks license": ("data.sets",),
    "lacks url": ("data.sets", "provider.contact", "use.channels"),
    "lacks creator": ("data.sets", "provider.legal_name"),
    "lacks creator.url": ("data.sets", "provider.contact", "use.channels"),
    "lacks inLanguage": ("data.sets",),
}
_SHOWN = 300  # characters of a validator's message


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one document; the check code is C150."""

    document: str
    file: str
    message: str


@dataclass(frozen=True, slots=True)
class Unvalidated:
    """A document whose validator is not installed."""

    document: str
    file: str
    package: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What the validators found, and which of them were not there."""

    faults: tuple[Fault, ...]
    unchecked: tuple[Unvalidated, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Our own check, and the format's own validator with the package that brings it."""

    document: str
    own: Callable[[bytes], list[str]]
    library: Callable[[bytes], list[str]]
    package: str


def validate(files: Mapping[str, bytes], facts: Facts, *, libraries: bool = True) -> Validation:
    """Faults of the files among ``files`` that this module knows, in the order of their names.

    Args:
        files: documents by name.
        facts: what they were made of.
        libraries: also ask each format's own validator; loading them takes seconds.
    """
    missing = {entry.field for entry in facts.missing}
    faults: list[Fault] = []
    unchecked: list[Unvalidated] = []
    for name, data in sorted(files.items()):
        plan = _plan(name, facts)
        if plan is None:
            continue
        faults += [
            Fault(plan.document, name, text)
            for text in plan.own(data)
            if missing.isdisjoint(_OWED.get(text, ()))
        ]
        if not libraries:
            continue
        try:
            faults += [Fault(plan.document, name, text[:_SHOWN]) for text in plan.library(data)]
        except ImportError:
            unchecked.append(Unvalidated(plan.document, name, plan.package))
    return Validation(tuple(faults), tuple(unchecked))


def _plan(name: str, facts: Facts) -> _Plan | None:
    """How the file of this name is checked; None where it is none of ours."""
    if name == cyclonedx.FILE:
        return _Plan(
            cyclonedx.ID,
            lambda data: cyclonedx_faults(json.loads(data)),
            validate_cyclonedx,
            "cyclonedx-python-lib[validation]",
        )
    if name == spdx.FILE:
        return _Plan(
            spdx.ID,
            lambda data: spdx_faults(json.loads(data)),
            lambda data: [*validate_spdx_schema(json.loads(data)), *validate_spdx_bindings(data)],
            "spdx-python-model and jsonschema",
        )
    if name.startswith(croissant.FOLDER):
        return _Plan(
            croissant.ID,
            lambda data: [
                f"lacks {text}"
                for text in lacking(json.loads(data), trained=name not in _measured_only(facts))
            ],
            validate_croissant,
            "mlcroissant",
        )
    if name == hubcard.FILE:
        return _Plan(
            hubcard.ID,
            lambda _: hub_card_faults(hubcard.front_matter(facts)),
            validate_hub_card,
            "huggingface_hub",
        )
    return None


def _measured_only(facts: Facts) -> set[str]:
    """Files of the sets that nothing was trained on."""
    sets = read_bill(facts).sets
    return {croissant.file_name(part.cells.key) for part in sets if not part.trains}


# ── libraries ──────────────────────────────────────────────────────────────────────────────────


def validate_cyclonedx(data: bytes) -> list[str]:
    """Faults by the strict validator of CycloneDX 1.7."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_7).validate_str(data.decode())
    return [] if error is None else [str(error.data)]


def validate_spdx_schema(document: Mapping[str, Any]) -> list[str]:
    """Faults by the bundled JSON Schema of SPDX 3.0.1.

    Each element is held against the class that its ``type`` names, and a reference is first tried
    as the address that it nearly always is: the schema as written tries all 78 classes for each,
    which takes seconds for a hundred elements and finds the same.
    """
    from jsonschema import Draft202012Validator

    schema = _addresses_first(spdx_schema())
    body: dict[str, Any] = {"@context": document.get("@context"), "@graph": []}
    faults = [error.message for error in Draft202012Validator(schema).iter_errors(body)]
    classes = {entry["$ref"].rsplit("/", 1)[1] for entry in schema["$defs"]["AnyClass"]["anyOf"]}
    validators: dict[str, Draft202012Validator] = {}
    for element in document.get("@graph", []):
        kind = str(element.get("type"))
        if kind not in classes:
            faults.append(f"{element.get('spdxId')} is of no known class: {kind}")
            continue
        if kind not in validators:
            validators[kind] = Draft202012Validator(
                {"$defs": schema["$defs"], "$ref": f"#/$defs/{kind}",
                 "unevaluatedProperties": False}
            )  # fmt: skip
        faults += [
            f"{element.get('spdxId')}: {error.json_path}: {error.message}"
            for error in validators[kind].iter_errors(element)
        ]
    return faults


def _addresses_first(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, the alternatives of a reference in another order."""
    for definition in schema["$defs"].values():
        alternatives = definition.get("anyOf", [])
        if {"$ref": "#/$defs/BlankNodeOrIRI"} in alternatives:
            definition["anyOf"] = sorted(alternatives, key=lambda entry: "$ref" not in entry)
    return schema


def spdx_schema() -> dict[str, Any]:
    """The bundled schema."""
    file = resources.files("forebear") / "data" / "schemas" / _SPDX_SCHEMA
    loaded: dict[str, Any] = json.loads(file.read_bytes())
    return loaded


def validate_spdx_bindings(data: bytes) -> list[str]:
    """Faults by SPDX's own reader, which refuses unknown fields, and its writer, which refuses
    missing ones; what was read is written again and must name the same elements.
    """  # noqa: D205  # one sentence
    from spdx_python_model.bindings import v3_0_1 as model

    objects, written = model.SHACLObjectSet(), io.BytesIO()
    try:
        model.JSONLDDeserializer().read(io.BytesIO(data), objects)
        missing = objects.link()
        model.JSONLDSerializer().write(objects, written)
    except (ValueError, KeyError, TypeError) as error:
        return [str(error)]
    faults = [f"refers to {name}, which is nowhere" for name in sorted(missing)]
    again = {element.get("spdxId") for element in json.loads(written.getvalue())["@graph"]}
    lost = {element.get("spdxId") for element in json.loads(data)["@graph"]} - again
    return [*faults, *(f"{name} is lost in reading" for name in sorted(map(str, lost)))]


def validate_croissant(data: bytes) -> list[str]:
    """Errors and warnings of the reference validator."""
    import mlcroissant

    with _Absl() as heard:
        try:
            dataset = mlcroissant.Dataset(jsonld=json.loads(data))
        except (mlcroissant.ValidationError, ValueError, KeyError) as error:
            return [" ".join(str(error).split())]
    issues = dataset.metadata.ctx.issues
    return [*sorted(issues.errors), *sorted(issues.warnings), *heard.lines]


def validate_hub_card(data: bytes) -> list[str]:
    """What the hub's own library cannot read of the card."""
    from huggingface_hub import ModelCard

    try:
        card = ModelCard(data.decode(), ignore_metadata_errors=False)
    except (ValueError, TypeError, KeyError) as error:
        return [" ".join(str(error).split())]
    names = {result.dataset_type for result in getattr(card.data, "eval_results", None) or []}
    return [] if all(names) else ["has a result without a data set"]


class _Absl:
    """Hears what the reference validator says through its logger."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        import logging

        self._logger = logging.getLogger("absl")
        self._handler = logging.Handler(logging.WARNING)
        self._handler.emit = self._hear  # type: ignore[method-assign]  # one method is all it needs
        self._logger.addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)

    def _hear(self, record: Any) -> None:
        self.lines.append(record.getMessage())


def unchecked_sentences(validation: Validation) -> Iterator[str]:
    """One sentence for each validator that is not installed."""
    for entry in validation.unchecked:
        yield f"{entry.file} was not validated: {entry.package} is not installed"
