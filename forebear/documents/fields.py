"""The registry of declared facts: id, type, label, who supplies it, what to write.

Labels and suppliers are what a reader of a document sees; ids are the keys of
``cards/declarations.yaml``. A fact that evidence gives may be confirmed here: the statement is then
kept beside the figure, under ``declared.<id>``, and a contradiction is an error.

Source: compliance page, section 3.1, 9.1 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_TEXT = "unknown"
DECLARED = "declared."
GENERATORS = "train.generators"

_PROVIDER = "the provider's legal department"
_OWNER = "the model owner"
_COMPLIANCE = "the compliance officer"
_DATA = "the data owner"
_SECURITY = "the security team"


@dataclass(frozen=True, slots=True)
class Column:
    """One key of a mapping in a list; ``kind`` and ``choices`` as for a field."""

    name: str
    kind: str = "text"
    choices: tuple[str, ...] = ()
    required: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One declared fact.

    Attributes:
        kind: text, list (of texts), rows (list of mappings), bool, int, choice, date, month, url,
            contact (http(s) address or e-mail), country.
        supplier: who can supply it, as a reader is told.
        hint: guidance shown beside the field in the template; never a value.
        choices: accepted literals, for ``choice`` all of them.
        columns: keys of each mapping, for ``rows``.
        key: column whose text identifies a row; its number where empty.
        unknown_ok: whether the literal ``unknown`` is accepted.
        confirms: evidence gives the fact, and this statement stands beside it.
        when: condition that makes an optional field required, one of
            :data:`forebear.documents.conditions.CONDITIONS`.
    """

    id: str
    kind: str
    label: str
    supplier: str
    hint: str = ""
    required: bool = True
    choices: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    key: str = ""
    unknown_ok: bool = False
    confirms: bool = False
    when: str = ""

    @property
    def fact(self) -> str:
        """Id under which the facts hold the statement."""
        return f"{DECLARED}{self.id}" if self.confirms else self.id


_LEVELS = ("low", "medium", "high", UNKNOWN_TEXT)
_YES_NO = ("yes", "no", UNKNOWN_TEXT)
ORIGINS = (
    "public", "licensed", "third_party_private", "crawled", "user_model", "user_other",
    "synthetic", "own", "other",
)  # fmt: skip
ANSWERS = (
    "public", "licensed", "third_party", "crawled", "user_model", "user_other", "synthetic",
    "other",
)  # fmt: skip
LEGAL_BASES = (
    "licence", "contract", "tdm_art4", "tdm_art3_research", "public_domain", "own", UNKNOWN_TEXT,
)  # fmt: skip
_SET = (
    Column("id"),
    Column("origin", "choice", ORIGINS),
    Column("source_url", "url", ("none",)),
    Column("licence_url", "url", ("none",), required=False),
    Column("legal_basis", "choice", LEGAL_BASES),
    Column("content_types"),
    Column("languages", "list"),
    Column("redistribution", "choice", ("allowed", "digests_only", "no")),
    Column("sensitive", "choice", _YES_NO),
    Column("known_bias", required=False),
    Column("collected_from", "month", required=False),
    Column("collected_to", "month", required=False),
    Column("publisher", required=False),
    Column("licence", required=False),
    Column("crawler_name", required=False),
    Column("crawler_user_agent", required=False),
    Column("crawler_behaviour", required=False),
    Column("crawler_purpose", required=False),
)  # fmt: skip
_REVIEW = (
    Column("item"), Column("conclusion"), Column("lifts", "choice", ("yes", "no")),
    Column("by"), Column("role"), Column("date", "date"),
    Column("document_sha256", "text", required=False),
)  # fmt: skip
_GENERATOR = (
    Column("name"), Column("provider"), Column("on_market", "choice", ("yes", "no")),
    Column("summary_url", "url", ("none",)), Column("terms", required=False),
    Column("params_active_max", "int", required=False),
)  # fmt: skip
_DOMAIN = (
    Column("set"), Column("domain"), Column("bytes", "int"), Column("documents", "int"),
)  # fmt: skip


def _columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name) for name in names)


def _answers() -> tuple[Field, ...]:
    says = {
        "public": "publicly available data sets",
        "licensed": "data licensed by rights holders",
        "third_party": "private data sets of other third parties",
        "crawled": "data of your own or commissioned crawlers",
        "user_model": "users' interactions with a model",
        "user_other": "data of users of other products",
        "synthetic": "text made by a model",
        "other": "data from other sources",
    }
    return tuple(
        Field(f"data.answers.{name}", "bool", f"Trained on {says[name]}", _DATA,
              "true or false; compared with the origins of the sets", confirms=True)
        for name in ANSWERS
    )  # fmt: skip


FIELDS: tuple[Field, ...] = (
    Field("provider.legal_name", "text", "Provider", _PROVIDER,
          "registered name of the organisation that answers for the model"),
    Field("provider.contact", "contact", "Contact", _PROVIDER,
          "e-mail or web address that a stranger may use"),
    Field("provider.country", "country", "Country of the provider", _PROVIDER,
          "two capitals, as in DE or US"),
    Field("provider.size", "choice", "Size of the provider", _PROVIDER,
          "size class of the organisation", choices=("sme", "mid", "large")),
    Field("provider.role", "choice", "Role towards the model", _COMPLIANCE,
          "provider: places it on the market; modifier: changed another's; internal_only",
          required=False, choices=("provider", "modifier", "internal_only", UNKNOWN_TEXT),
          unknown_ok=True),
    Field("provider.is_base_provider", "bool", "Same body trained the base model", _PROVIDER,
          "true only if your organisation also trained the base"),
    Field("provider.eu_representative", "text", "Authorised representative in the Union", _PROVIDER,
          "name and address of the representative", required=False, when="representative"),
    Field("provider.mau", "int", "Monthly active users", _PROVIDER,
          "of all your products and affiliates, in the month before the release",
          required=False, when="user_cap"),
    Field("provider.mau_month", "month", "Month of that count", _PROVIDER, "YYYY-MM",
          required=False, when="user_cap"),
    *(
        Field(f"provider.code_signatory.{chapter}", "choice",
              f"Signatory of the Code of Practice, {chapter}", _COMPLIANCE,
              "whether you signed this chapter", choices=_YES_NO, unknown_ok=True)
        for chapter in ("transparency", "copyright", "safety")
    ),
    Field("model.release_date", "date", "Release date", _OWNER, "day of the release"),
    Field("model.eu_market_date", "date", "Placed on the Union market", _COMPLIANCE,
          "day of placing on the market in the EU, or not_placed", choices=("not_placed",)),
    Field("model.licence", "text", "Licence of the model", _PROVIDER,
          "SPDX identifier or LicenseRef- name of the released weights"),
    Field("model.licence_url", "url", "Licence text", _PROVIDER, "address of the licence text"),
    Field("model.licence_category", "choice", "Licence category", _PROVIDER, "kind of licence",
          choices=("free_open_source", "open_weights_restricted", "proprietary")),
    Field("model.base_licence", "text", "Licence of the base model", _PROVIDER,
          "SPDX identifier, as you read it at the source", required=False, confirms=True),
    Field("model.params_total", "int", "Parameters, as you state them", _OWNER,
          "a whole number; compared with the weights", required=False, confirms=True),
    Field("model.context_length", "int", "Context length, as you state it", _OWNER,
          "in tokens; compared with the configuration", required=False, confirms=True),
    Field("model.open.weights_public", "bool", "Weights are public", _OWNER,
          "whether anyone may download the weights"),
    Field("model.open.architecture_public", "bool", "Architecture is public", _OWNER,
          "whether the architecture is described in public"),
    Field("model.open.usage_info_public", "bool", "Usage information is public", _OWNER,
          "whether instructions for use are public"),
    Field("model.open.monetised", "bool", "Offered against payment", _PROVIDER,
          "whether money or personal data is asked for it"),
    Field("model.languages", "list", "Intended languages", _OWNER,
          "language codes, as in en or pt-BR"),
    Field("use.summary", "text", "Summary", _OWNER, "one or two sentences for a lay reader"),
    Field("use.intended", "list", "Intended uses", _OWNER, "one line for each use"),
    Field("use.out_of_scope", "list", "Out of scope", _OWNER,
          "uses that were not considered or do not work"),
    Field("use.prohibited", "list", "Prohibited uses", _COMPLIANCE, "uses that you forbid"),
    Field("use.users", "list", "Intended users", _OWNER, "who is expected to use it"),
    Field("use.system_types", "list", "Types of AI systems", _OWNER,
          "systems into which it may be built, for instance chat assistants"),
    Field("use.aup", "url", "Acceptable use policy", _COMPLIANCE,
          "address of the policy, or none", choices=("none",)),
    Field("use.sectors", "list", "Sectors", _OWNER, "economic sectors of the intended use"),
    Field("use.criticality", "choice", "Criticality of the intended use", _COMPLIANCE,
          "how much depends on it working", choices=_LEVELS, unknown_ok=True),
    Field("use.channels", "rows", "Distribution channels", _OWNER,
          "where it can be had, and who gets access", columns=_columns("channel", "access", "url")),
    Field("use.affected", "list", "People affected", _COMPLIANCE,
          "groups whom the outputs may touch, users or not"),
    Field("use.rights_impact", "text", "Effect on rights", _COMPLIANCE,
          "which rights could be touched, and how"),
    Field("use.autonomy", "choice", "Autonomy", _OWNER,
          "how far a system acts on the output without a person",
          choices=("none", "low", "medium", "high", UNKNOWN_TEXT), unknown_ok=True),
    Field("use.integration", "text", "Integration", _OWNER,
          "what a developer needs to build it into a system"),
    Field("use.hardware", "text", "Hardware", _OWNER, "what it runs on, and how much memory"),
    Field("use.interaction", "text", "Interaction with other systems", _OWNER,
          "hardware or software outside the model that it works with, or none"),
    Field("train.objective", "text", "Objective of the training", _OWNER,
          "what the training should achieve"),
    Field("train.rationale", "text", "Rationale of the main choices", _OWNER,
          "why this base, these stages, this data"),
    Field("train.assumptions", "text", "Assumptions", _OWNER, "what was taken for granted"),
    Field("train.generators", "rows", "Generators of training text", _DATA,
          "each outside model that wrote training text; the most parameters it may have, if known",
          required=False, columns=_GENERATOR, key="name"),
    Field("train.energy_withheld.supplier", "text", "Supplier who withholds energy figures",
          _OWNER, "only if a supplier of computing refused the figures", required=False),
    Field("train.energy_withheld.reason", "text", "Reason of that supplier", _OWNER,
          "as the supplier gave it", required=False),
    Field("data.sets", "rows", "Data sets", _DATA,
          "each source of the lineage by its id, with what only a person can say of it",
          columns=_SET, key="id", confirms=True),
    Field("data.domains", "rows", "Domains of crawled data", _DATA,
          "registrable domains of a crawled set with the bytes and documents kept",
          required=False, columns=_DOMAIN),
    *_answers(),
    Field("data.continuous", "bool", "Keeps learning from new data after release", _OWNER,
          "true if training goes on after release"),
    Field("data.selection", "text", "How the data were selected", _DATA,
          "criteria by which sources were chosen"),
    Field("data.bias_measures", "text", "Measures against bias", _DATA,
          "what was done to find and lessen bias"),
    Field("data.unsuitability_measures", "text", "Measures against unsuitable sources", _DATA,
          "what was done to detect unsuitable sources"),
    Field("data.pii.method", "text", "Personal data", _DATA,
          "how personal data were found and removed"),
    Field("data.illegal_content.method", "text", "Illegal content", _DATA,
          "how illegal content was kept out"),
    Field("data.optout.method", "text", "Rights reservations (opt-outs)", _DATA,
          "which opt-outs were honoured, and how"),
    Field("data.optout.checked_on", "date", "Day of the last check of opt-outs", _DATA,
          "day on which reservations were last looked up", required=False),
    Field("data.takedown.method", "text", "Takedown requests", _DATA,
          "how requests for removal are handled"),
    Field("data.takedown.requests", "rows", "Requests for removal", _DATA,
          "each request with its date and what was done: removed, retrained, or refused and why",
          required=False, columns=_columns("request", "date", "action"), key="request"),
    Field("eval.redteam.summary", "text", "Red teaming", _OWNER,
          "what was tried, by whom, with which result", required=False, unknown_ok=True,
          when="systemic"),
    Field("eval.redteam.internal", "text", "Red teaming inside the organisation", _OWNER,
          "teams and methods", required=False, unknown_ok=True, when="systemic"),
    Field("eval.redteam.external", "text", "Red teaming by others", _OWNER,
          "who, how, and where it is published", required=False, unknown_ok=True, when="systemic"),
    Field("eval.inference_benchmark.flop", "text", "Compute of an inference benchmark", _OWNER,
          "FLOP of the task below", required=False),
    Field("eval.inference_benchmark.task", "text", "Task of that benchmark", _OWNER,
          "for instance 100,000 tokens generated", required=False),
    Field("eval.inference_benchmark.hardware", "text", "Hardware of that benchmark", _OWNER,
          "processors and their number", required=False),
    Field("limit.known", "list", "Known limitations", _OWNER, "one line for each limitation"),
    Field("risk.items", "rows", "Risks", _COMPLIANCE, "each risk with what remains of it",
          columns=_columns("name", "likelihood", "severity", "mitigation", "residual")),
    Field("risk.fairness", "rows", "Fairness", _COMPLIANCE, "groups that gain or lose",
          required=False, columns=_columns("group", "benefits", "harms", "mitigation")),
    Field("oversight.measures", "list", "Human oversight", _OWNER,
          "how a person can understand, stop or correct the model's use"),
    Field("oversight.monitoring", "text", "Monitoring after release", _OWNER,
          "what is watched after release, and by whom"),
    Field("oversight.incident_contact", "contact", "Contact for incidents", _COMPLIANCE,
          "e-mail or web address for reports of harm"),
    Field("oversight.incident_procedure", "text", "Procedure for incidents", _COMPLIANCE,
          "what happens after a report, and how fast"),
    Field("oversight.output_marking", "text", "Marking of outputs", _OWNER,
          "how outputs are marked as made by AI, or that they are not"),
    Field("copyright.owner", "text", "Owner of the copyright policy", _COMPLIANCE,
          "person or office that answers for the policy"),
    Field("copyright.contact", "contact", "Contact for rights holders", _COMPLIANCE,
          "e-mail or web address for complaints"),
    Field("copyright.complaint_days", "int", "Days until a complaint is answered", _COMPLIANCE,
          "a whole number of days"),
    Field("copyright.lawful_access", "text", "Lawful access", _COMPLIANCE,
          "how you make sure that access to each source was lawful"),
    Field("copyright.excluded_lists", "list", "Lists of excluded sites", _DATA,
          "names of the lists of sites that are never read; kept out of the public copy",
          required=False),
    Field("copyright.protocols", "list", "Opt-out protocols honoured", _DATA,
          "for instance robots.txt (RFC 9309)"),
    Field("copyright.third_party_check", "text", "Checks of third-party data sets", _DATA,
          "what was checked again in data that others compiled"),
    Field("copyright.output_measures", "text", "Measures against infringing outputs", _COMPLIANCE,
          "tests, filters or contract terms"),
    Field("copyright.review_date", "date", "Next review of the policy", _COMPLIANCE,
          "day of the next review"),
    Field("licences.reviews", "rows", "Reviews of licences", _PROVIDER,
          "a lawyer's conclusion on an item that the licence table cannot decide",
          required=False, columns=_REVIEW, key="item"),
    Field("standards", "rows", "Standards", _COMPLIANCE, "standards applied, and to what",
          required=False, columns=_columns("id", "scope"), key="id"),
    Field("security.vex", "rows", "Known vulnerabilities", _SECURITY,
          "vulnerabilities of components with their state, as VEX gives it", required=False,
          columns=_columns("id", "component", "state", "justification", "detail"), key="id"),
    Field("approvals.required", "rows", "Approvals required", _COMPLIANCE,
          "roles that must approve the facts, and how many people of each", required=False,
          columns=(Column("role"), Column("count", "int")), key="role"),
    Field("annex_iv.enabled", "bool", "Inputs for a high-risk system's file", _COMPLIANCE,
          "true to write what the provider of a high-risk system needs", required=False),
    Field("annex_iv.enterprise_size", "choice", "Size of the enterprise, for that file",
          _COMPLIANCE, "size class", required=False, choices=("sme", "mid", "large"),
          when="annex_iv"),
    Field("annex_iv.risk_level", "choice", "Risk level, for that file", _COMPLIANCE,
          "of the system that is planned", required=False, choices=("high", "limited", "minimal"),
          when="annex_iv"),
    Field("annex_iv.use_cases", "list", "Use cases, for that file", _COMPLIANCE,
          "one line for each use case", required=False, when="annex_iv"),
    Field("publish.compute_energy", "bool", "Compute and energy are published", _COMPLIANCE,
          "false keeps compute, time and energy out of public documents", required=False),
)  # fmt: skip

FIELDS_BY_ID = {field.id: field for field in FIELDS}
