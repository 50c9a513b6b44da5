"""JSON Schemas of the documents: made from the models, committed, and printed on request.

What is printed is the committed file; a test fails when the models have moved on.

Source: compliance page, section 12.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from forebear.documents.body import Body
from forebear.documents.plans import SCHEMAS
from forebear.documents.values import Facts
from forebear.errors import UsageError

_BODIES = {
    "model-card.oecd": "D1",
    "annex-xi": "D3",
    "annex-xii": "D4",
    "training-content-summary": "D5",
    "model-documentation-form": "D6",
    "copyright-policy": "D7",
    "licences": "D11",
    "changes": "D12",
    "applicability": "applicability",
}
NAMES = ("facts", "documents", *_BODIES)
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> bytes:
    """The committed schema.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in NAMES:
        known = ", ".join(NAMES)
        raise UsageError(f"there is no schema {name[:40]!a}", "--schema", f"one of {known}")
    return (resources.files("forebear") / "data" / "schemas" / f"{name}.json").read_bytes()


def make_schema(name: str) -> bytes:
    """The schema as the models give it, for the committed file."""
    if name == "facts":
        body = Facts.model_json_schema()
    elif name == "documents":
        body = _INDEX
    else:
        body = Body.model_json_schema(by_alias=True)
        body["properties"]["id"] = {"const": _BODIES[name]}
        body["properties"]["$schema"] = {"const": f"{SCHEMAS}/{name}.json"}
        if name == "training-content-summary":
            body["properties"].update(_SUMMARY)
            body["required"] += list(_SUMMARY)
    whole = {"$schema": _DIALECT, "$id": f"{SCHEMAS}/{name}.json", **body}
    return (json.dumps(whole, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_INDEX: dict[str, Any] = {
    "title": "Index of the documents",
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "draft", "language", "facts_sha256", "generator_sha256", "documents"],
    "properties": {
        "schema": {"type": "string"},
        "draft": {"type": "boolean"},
        "language": {"type": "string"},
        "facts_sha256": _HEX,
        "generator_sha256": _HEX,
        "documents": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["path", "sha256", "draft", "audience"],
                "properties": {
                    "path": {"type": "string"},
                    "sha256": _HEX,
                    "id": {"type": "string"},
                    "schema": {"type": "string"},
                    "draft": {"type": "boolean"},
                    "audience": {"type": "string"},
                    "language": {"type": "string"},
                },
            },
        },
    },
}


def _form(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


_TEXT = {"type": "string"}
_YES = {"type": "boolean"}
_TEXTS = {"type": "array", "items": _TEXT}
_MONTH = {"type": "string", "pattern": "^(0[1-9]|1[0-2])/[0-9]{4}$"}
_DAY = {"type": "string", "pattern": "^(0[1-9]|[12][0-9]|3[01])/(0[1-9]|1[0-2])/[0-9]{4}$"}
_MODALITY = _form(
    modality=_TEXT, other_modality_name=_TEXT, size_range=_TEXT,
    custom_size_value={"type": "number"}, custom_size_unit=_TEXT, types_of_content=_TEXT,
)  # fmt: skip
_LARGE = _form(
    identifier_or_name=_TEXT, link=_TEXT, description=_TEXT, collection_start_date=_MONTH,
    collection_end_date=_MONTH,
)  # fmt: skip
_SUMMARY: dict[str, Any] = {
    "version": _TEXT,
    "last_update": _DAY,
    "previous_versions": _TEXTS,
    "general_information": _form(
        provider_identification=_form(
            provider_name_and_contact=_TEXT, authorised_representative_name_and_contact=_TEXT
        ),
        model_identification=_form(
            versioned_model_names=_TEXTS, model_dependencies=_TEXT,
            date_of_placement_on_union_market={
                "anyOf": [_DAY, {"const": "Not placed on the Union market"}]
            },
        ),
        modalities={"type": "array", "items": _MODALITY},
        latest_data_collection_date=_MONTH,
        continuously_trained_on_new_data=_YES,
        linguistic_characteristics=_TEXT,
        other_characteristics=_TEXT,
        additional_comments=_TEXT,
    ),
    "data_sources": _form(
        publicly_available_datasets=_form(
            used=_YES, modalities_covered=_TEXTS,
            large_datasets={"type": "array", "items": _LARGE},
            other_datasets_general_description=_TEXT, additional_comments=_TEXT,
        ),
        private_third_party_datasets=_form(
            licensed=_form(has_licensing_agreements=_YES, modalities_covered=_TEXTS),
            other_third_party=_form(
                obtained=_YES, modalities_covered=_TEXTS, publicly_known_datasets=_TEXTS,
                general_description=_TEXT, additional_comments=_TEXT,
            ),
        ),
        crawled_data=_form(
            crawlers_used=_YES, crawler_names=_TEXTS, crawler_purposes=_TEXT,
            crawler_behaviour_description=_TEXT, collection_period_start=_MONTH,
            collection_period_end=_MONTH, content_and_sources_description=_TEXT,
            modalities_covered=_TEXTS, top_domains_summary=_TEXT, top_domains_file=_TEXT,
            additional_comments=_TEXT,
        ),
        user_data=_form(
            model_interaction_data_used=_YES, other_product_interaction_data_used=_YES,
            services_or_products_description=_TEXT, modalities_covered=_TEXTS,
            additional_comments=_TEXT,
        ),
        synthetic_data=_form(
            used=_YES, modalities_covered=_TEXTS,
            generating_models={
                "type": "array",
                "items": _form(
                    name=_TEXT, version=_TEXT, provider=_TEXT, summary_link=_TEXT, terms=_TEXT
                ),
            },
            other_generating_models_description=_TEXT, additional_comments=_TEXT,
        ),
        other_sources=_form(used=_YES, description=_TEXT, additional_comments=_TEXT),
    ),
    "data_processing_aspects": _form(
        tdm_reservation_respect=_form(
            is_code_of_practice_signatory=_YES, measures_description=_TEXT,
            additional_comments=_TEXT,
        ),
        illegal_content_removal=_form(measures_description=_TEXT),
        other_information=_TEXT,
    ),
}  # fmt: skip
