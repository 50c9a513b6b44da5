"""The registry of declared facts: id, type, label, who supplies it, what to write.

Labels and suppliers are what a reader of a document sees; ids are the keys of
``cards/declarations.yaml``. Only facts that the documents of this version show stand here.

Source: compliance page, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_TEXT = "unknown"

_PROVIDER = "the provider's legal department"
_OWNER = "the model owner"
_COMPLIANCE = "the compliance officer"
_DATA = "the data owner"


@dataclass(frozen=True, slots=True)
class Field:
    """One declared fact.

    Attributes:
        kind: text, list (of texts), rows (list of mappings), bool, int, choice, date, url,
            contact (http(s) address or e-mail), country.
        supplier: who can supply it, as a reader is told.
        hint: guidance shown beside the field in the template; never a value.
        choices: accepted literals, for ``choice`` all of them.
        columns: keys of each mapping, for ``rows``.
        unknown_ok: whether the literal ``unknown`` is accepted.
    """

    id: str
    kind: str
    label: str
    supplier: str
    hint: str = ""
    required: bool = True
    choices: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    unknown_ok: bool = False


_LEVELS = ("low", "medium", "high", UNKNOWN_TEXT)

FIELDS: tuple[Field, ...] = (
    Field(
        "provider.legal_name",
        "text",
        "Provider",
        _PROVIDER,
        "registered name of the organisation that answers for the model",
    ),
    Field(
        "provider.contact",
        "contact",
        "Contact",
        _PROVIDER,
        "e-mail or web address that a stranger may use",
    ),
    Field(
        "provider.country",
        "country",
        "Country of the provider",
        _PROVIDER,
        "two capitals, as in DE or US",
    ),
    Field(
        "provider.size",
        "choice",
        "Size of the provider",
        _PROVIDER,
        "size class of the organisation",
        choices=("sme", "mid", "large"),
    ),
    Field(
        "provider.role",
        "choice",
        "Role towards the model",
        _COMPLIANCE,
        "provider: places it on the market; modifier: changed another's; internal_only",
        required=False,
        choices=("provider", "modifier", "internal_only", UNKNOWN_TEXT),
        unknown_ok=True,
    ),
    Field(
        "provider.is_base_provider",
        "bool",
        "Same body trained the base model",
        _PROVIDER,
        "true only if your organisation also trained the base",
    ),
    Field("model.release_date", "date", "Release date", _OWNER, "day of the release"),
    Field(
        "model.eu_market_date",
        "date",
        "Placed on the Union market",
        _COMPLIANCE,
        "day of placing on the market in the EU, or not_placed",
        choices=("not_placed",),
    ),
    Field(
        "model.licence",
        "text",
        "Licence of the model",
        _PROVIDER,
        "SPDX identifier or LicenseRef- name of the released weights",
    ),
    Field("model.licence_url", "url", "Licence text", _PROVIDER, "address of the licence text"),
    Field(
        "model.licence_category",
        "choice",
        "Licence category",
        _PROVIDER,
        "kind of licence",
        choices=("free_open_source", "open_weights_restricted", "proprietary"),
    ),
    Field(
        "model.open.weights_public",
        "bool",
        "Weights are public",
        _OWNER,
        "whether anyone may download the weights",
    ),
    Field(
        "model.open.architecture_public",
        "bool",
        "Architecture is public",
        _OWNER,
        "whether the architecture is described in public",
    ),
    Field(
        "model.open.usage_info_public",
        "bool",
        "Usage information is public",
        _OWNER,
        "whether instructions for use are public",
    ),
    Field(
        "model.open.monetised",
        "bool",
        "Offered against payment",
        _PROVIDER,
        "whether money or personal data is asked for it",
    ),
    Field(
        "model.languages", "list", "Intended languages", _OWNER, "language codes, as in en or pt-BR"
    ),
    Field("use.summary", "text", "Summary", _OWNER, "one or two sentences for a lay reader"),
    Field("use.intended", "list", "Intended uses", _OWNER, "one line for each use"),
    Field(
        "use.out_of_scope",
        "list",
        "Out of scope",
        _OWNER,
        "uses that were not considered or do not work",
    ),
    Field("use.prohibited", "list", "Prohibited uses", _COMPLIANCE, "uses that you forbid"),
    Field("use.users", "list", "Intended users", _OWNER, "who is expected to use it"),
    Field(
        "use.aup",
        "url",
        "Acceptable use policy",
        _COMPLIANCE,
        "address of the policy, or none",
        choices=("none",),
    ),
    Field("use.sectors", "list", "Sectors", _OWNER, "economic sectors of the intended use"),
    Field(
        "use.criticality",
        "choice",
        "Criticality of the intended use",
        _COMPLIANCE,
        "how much depends on it working",
        choices=_LEVELS,
        unknown_ok=True,
    ),
    Field(
        "use.channels",
        "rows",
        "Distribution channels",
        _OWNER,
        "where it can be had, and who gets access",
        columns=("channel", "access", "url"),
    ),
    Field(
        "use.affected",
        "list",
        "People affected",
        _COMPLIANCE,
        "groups whom the outputs may touch, users or not",
    ),
    Field(
        "use.rights_impact",
        "text",
        "Effect on rights",
        _COMPLIANCE,
        "which rights could be touched, and how",
    ),
    Field(
        "use.autonomy",
        "choice",
        "Autonomy",
        _OWNER,
        "how far a system acts on the output without a person",
        choices=("none", "low", "medium", "high", UNKNOWN_TEXT),
        unknown_ok=True,
    ),
    Field(
        "train.objective",
        "text",
        "Objective of the training",
        _OWNER,
        "what the training should achieve",
    ),
    Field(
        "train.rationale",
        "text",
        "Rationale of the main choices",
        _OWNER,
        "why this base, these stages, this data",
    ),
    Field("train.assumptions", "text", "Assumptions", _OWNER, "what was taken for granted"),
    Field(
        "data.continuous",
        "bool",
        "Keeps learning from new data after release",
        _OWNER,
        "true if training goes on after release",
    ),
    Field(
        "data.selection",
        "text",
        "How the data were selected",
        _DATA,
        "criteria by which sources were chosen",
    ),
    Field(
        "data.bias_measures",
        "text",
        "Measures against bias",
        _DATA,
        "what was done to find and lessen bias",
    ),
    Field(
        "data.unsuitability_measures",
        "text",
        "Measures against unsuitable sources",
        _DATA,
        "what was done to detect unsuitable sources",
    ),
    Field(
        "data.pii.method",
        "text",
        "Personal data",
        _DATA,
        "how personal data were found and removed",
    ),
    Field(
        "data.illegal_content.method",
        "text",
        "Illegal content",
        _DATA,
        "how illegal content was kept out",
    ),
    Field(
        "data.optout.method",
        "text",
        "Rights reservations (opt-outs)",
        _DATA,
        "which opt-outs were honoured, and when they were checked",
    ),
    Field(
        "data.takedown.method",
        "text",
        "Takedown requests",
        _DATA,
        "how requests for removal are handled",
    ),
    Field(
        "eval.redteam.summary",
        "text",
        "Red teaming",
        _OWNER,
        "what was tried, by whom, with which result",
        required=False,
        unknown_ok=True,
    ),
    Field("limit.known", "list", "Known limitations", _OWNER, "one line for each limitation"),
    Field(
        "risk.items",
        "rows",
        "Risks",
        _COMPLIANCE,
        "each risk with what remains of it",
        columns=("name", "likelihood", "severity", "mitigation", "residual"),
    ),
    Field(
        "risk.fairness",
        "rows",
        "Fairness",
        _COMPLIANCE,
        "groups that gain or lose",
        required=False,
        columns=("group", "benefits", "harms", "mitigation"),
    ),
    Field(
        "oversight.measures",
        "list",
        "Human oversight",
        _OWNER,
        "how a person can understand, stop or correct the model's use",
    ),
    Field(
        "oversight.monitoring",
        "text",
        "Monitoring after release",
        _OWNER,
        "what is watched after release, and by whom",
    ),
    Field(
        "oversight.incident_contact",
        "contact",
        "Contact for incidents",
        _COMPLIANCE,
        "e-mail or web address for reports of harm",
    ),
    Field(
        "oversight.incident_procedure",
        "text",
        "Procedure for incidents",
        _COMPLIANCE,
        "what happens after a report, and how fast",
    ),
    Field(
        "oversight.output_marking",
        "text",
        "Marking of outputs",
        _OWNER,
        "how outputs are marked as made by AI, or that they are not",
    ),
    Field(
        "copyright.owner",
        "text",
        "Owner of the copyright policy",
        _COMPLIANCE,
        "person or office that answers for the policy",
    ),
    Field(
        "copyright.contact",
        "contact",
        "Contact for rights holders",
        _COMPLIANCE,
        "e-mail or web address for complaints",
    ),
    Field(
        "copyright.complaint_days",
        "int",
        "Days until a complaint is answered",
        _COMPLIANCE,
        "a whole number of days",
    ),
    Field(
        "copyright.lawful_access",
        "text",
        "Lawful access",
        _COMPLIANCE,
        "how you make sure that access to each source was lawful",
    ),
    Field(
        "copyright.protocols",
        "list",
        "Opt-out protocols honoured",
        _DATA,
        "for instance robots.txt (RFC 9309)",
    ),
    Field(
        "copyright.third_party_check",
        "text",
        "Checks of third-party data sets",
        _DATA,
        "what was checked again in data that others compiled",
    ),
    Field(
        "copyright.output_measures",
        "text",
        "Measures against infringing outputs",
        _COMPLIANCE,
        "tests, filters or contract terms",
    ),
    Field(
        "copyright.review_date",
        "date",
        "Next review of the policy",
        _COMPLIANCE,
        "day of the next review",
    ),
    Field(
        "publish.compute_energy",
        "bool",
        "Compute and energy are published",
        _COMPLIANCE,
        "false keeps compute, time and energy out of public documents",
        required=False,
    ),
)

FIELDS_BY_ID = {field.id: field for field in FIELDS}
