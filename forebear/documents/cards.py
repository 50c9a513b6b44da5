"""What the OECD-profile model card (D1) and the hub card (D2) show, section by section.

The OECD publishes no form for model cards; the profile says so. A section is a plan over fact
ids, so a value that is not among the facts cannot be shown. The front matter of the hub card
leaves unknown values out: there is no null that a hub would read as "none".

Source: compliance page, section 8, D1 and D2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from forebear.documents.layout import Lines, Section, Table, Text

if TYPE_CHECKING:
    from forebear.documents.values import Facts, Value

_MAX_METRICS = 50  # the hub's own limit for one card
_HUB_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0",
    "cc-by-sa-4.0", "cc-by-nc-4.0", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "gemma", "llama4",
}  # fmt: skip
NAMES = {
    "mmlu_pro": "MMLU-Pro, multiple choice",
    "mc4": "Title to code, one sibling and two codes of another chapter beside it",
    "mc4_far": "Title to code, four options of four chapters",
    "mc4_hard": "Title to code, four close options",
    "golden": "Golden set",
    "domain": "domain text",
    "replay": "general text (replay)",
    "instruction": "instructions",
    "quality": "quality",
    "exact_copy": "exact copies",
    "decontamination": "overlap with an evaluation set",
    "takedown": "takedown list",
}

TRAINING = Table(
    "train.stages",
    "Training stages",
    (
        ("name", "Stage"), ("method", "Method"), ("steps", "Steps"), ("tokens", "Tokens"),
        ("tokens_padded", "With padding"), ("loss_first", "First loss"), ("loss_last", "Last loss"),
    ),
    "no stage that trains is recorded.",
    skip="flop",
)  # fmt: skip
COMPUTE = Table(
    "train.stages",
    "Compute of each training stage",
    (
        ("name", "Stage"), ("flop", "Training"), ("flop_sampling", "Generating text"),
        ("wall", "Time"), ("cpu", "Processor time"), ("memory", "Peak memory"),
        ("energy", "Energy"),
    ),
    "no stage that trains is recorded.",
    compute=True,
    skip="flop",
)  # fmt: skip
TOTALS = Lines(
    (
        ("train.flop_modification", "Compute of the training, all stages"),
        ("train.flop_modification_cumulative", "Compute including generated text"),
        ("train.flop_base", "Compute of the original model"),
        ("train.wall_seconds", "Time of all stages"),
        ("train.cpu_seconds", "Processor time of all stages"),
        ("train.peak_memory", "Peak memory"),
        ("train.energy_modification", "Energy"),
    ),
    compute=True,
)
DATA = Table(
    "data.sets",
    "Data sets",
    (
        ("id", "Name"), ("role", "Role"), ("publisher", "Publisher"), ("licence", "Licence"),
        ("version", "Version"), ("collected_from", "Collected from"), ("collected_to", "to"),
        ("documents", "Documents read"), ("derived", "Texts derived"),
    ),
    "no source is recorded.",
)  # fmt: skip
ROLES = Table(
    "data.roles",
    "Texts kept for training",
    (("role", "Used as"), ("rows", "Texts"), ("bytes", "Size")),
    "not counted.",
)
FILTERS = Table(
    "data.filters",
    "Texts dropped by filters",
    (("filter", "Filter"), ("dropped", "Dropped")),
    "not counted.",
)
RESULTS = Table(
    "eval.results",
    "Scores: share of items answered correctly",
    (
        ("task", "Task"), ("reference", "Compared with"), ("n", "Items"),
        ("reference_score", "Its score"), ("candidate_score", "This model"),
        ("delta", "Difference"),
    ),
    "no evaluation is recorded.",
)  # fmt: skip
GATE = Table(
    "eval.pairs",
    "What the release gate tested",
    (
        ("task", "Task"), ("reference", "Compared with"), ("margin", "Accepted loss"),
        ("lower", "Lower bound of the difference"), ("p_holm", "Adjusted p of being worse"),
        ("verdict", "Verdict"), ("reasons", "Reasons"),
    ),
    "no gate is recorded.",
)  # fmt: skip
VERDICT = Lines(
    (
        ("eval.gate.verdict", "Verdict of the release gate"),
        ("eval.gate.profile", "Profile of the evaluation"),
        ("eval.gate.label", "What the gate can rule out"),
        ("eval.gate.waivers", "Waivers used"),
    )
)
WAIVERS = Table(
    "eval.waivers",
    "Faults of the evaluation that a person let pass",
    (
        ("task", "Task"), ("reference", "Compared with"), ("delta", "Difference"),
        ("reason", "Reason given"), ("approver", "Waived by"), ("expires", "Until"),
    ),
    "none.",
)  # fmt: skip
ALLOWANCES = Table(
    "limit.allowances",
    "Rules of the pipeline that were set aside",
    (("stage", "Stage"), ("rule", "Rule"), ("reason", "Reason given"), ("by", "Taken on by")),
    "none.",
)
ANCESTORS = Table(
    "model.ancestors",
    "Models it descends from",
    (
        ("name", "Model"), ("relation", "Relation"), ("revision", "Revision"),
        ("licence", "Licence"),
    ),
    "no base model is recorded.",
)  # fmt: skip
RISKS = Table(
    "risk.items",
    "Risks",
    (
        ("name", "Risk"), ("likelihood", "Likelihood"), ("severity", "Severity"),
        ("mitigation", "Mitigation"), ("residual", "What remains"),
    ),
    "none declared.",
)  # fmt: skip
LICENCE = Lines((("model.licence", ""), ("model.licence_url", ""), ("model.licence_category", "")))


def _own(*ids: str) -> Lines:
    """Lines of declared facts under the registry's labels."""
    return Lines(tuple((fact, "") for fact in ids))


OECD_SECTIONS: tuple[Section, ...] = (
    Section(
        "Identification",
        (
            Lines((("model.name", "Model"), ("model.version", "Version"),
                   ("model.digest", "Digest of the weights"))),
            _own("model.release_date", "model.eu_market_date", "provider.legal_name",
                 "provider.contact", "provider.country", "provider.size", "provider.role",
                 "provider.is_base_provider"),
            ANCESTORS,
        ),
        ("Actors", "Principle 1.5"),
    ),
    Section(
        "Intended use",
        (_own("use.summary", "use.intended", "use.out_of_scope", "use.prohibited", "use.users",
              "use.aup"),),
        ("Task & Output", "Principle 1.3"),
    ),
    Section(
        "Economic context",
        (
            _own("use.sectors", "use.criticality", "model.licence_category",
                 "model.open.monetised"),
            Table("use.channels", "Distribution channels",
                  (("channel", "Channel"), ("access", "Access"), ("url", "Address")),
                  "none declared."),
        ),
        ("Economic Context",),
    ),
    Section(
        "People and planet",
        (
            _own("use.affected", "use.rights_impact"),
            Table("risk.fairness", "Fairness",
                  (("group", "Group"), ("benefits", "Benefits"), ("harms", "Harms"),
                   ("mitigation", "Mitigation")),
                  "nothing is declared."),
            Lines((("train.energy_modification", "Energy of the training"),), compute=True),
        ),
        ("People & Planet", "Principles 1.1, 1.2"),
    ),
    Section(
        "Model",
        (
            Lines((("model.architecture", "Architecture"),
                   ("model.params_total", "Parameters"),
                   ("model.params_active", "Parameters active for each token"),
                   ("model.context_length", "Context length"),
                   ("model.vocab_size", "Vocabulary"),
                   ("model.dtype", "Number format"),
                   ("use.chat_template_sha256", "Digest of the chat template"))),
            Text("The model reads text and writes text."),
            TRAINING,
            _own("train.objective", "train.rationale", "train.assumptions"),
            COMPUTE,
            TOTALS,
        ),
        ("AI Model",),
    ),
    Section(
        "Training data summary",
        (
            DATA,
            ROLES,
            Lines((("data.replay_share", "Share of general text in the training mix"),
                   ("data.latest_collection", "Latest collection"),
                   ("data.ledger.kept_documents", "Documents in the training ledger"),
                   ("data.ledger.kept", "Merkle root of the documents kept"),
                   ("data.ledger.intake", "Merkle root of all documents read"))),
            _own("data.continuous"),
            Lines((("model.base.languages", "Languages of the base, as its publisher says"),)),
            Text("What the base model was trained on is known only as far as its publisher "
                 "tells; this table covers the stages of this pipeline."),
        ),
        ("Data & Input",),
    ),
    Section(
        "Data governance",
        (
            _own("data.selection", "data.pii.method", "data.illegal_content.method",
                 "data.optout.method", "data.takedown.method", "data.bias_measures",
                 "data.unsuitability_measures"),
            FILTERS,
            Lines((("data.takedown.entries", "Entries of the takedown list"),
                   ("data.takedown.documents", "Documents dropped for it"))),
        ),
        ("Data & Input", "Reporting framework 2"),
    ),
    Section(
        "Copyright posture",
        (
            LICENCE,
            _own("copyright.owner", "copyright.contact", "copyright.complaint_days",
                 "copyright.lawful_access", "copyright.protocols", "copyright.third_party_check",
                 "copyright.output_measures", "copyright.review_date"),
        ),
        ("Reporting framework 2",),
    ),
    Section(
        "Tasks, outputs, autonomy",
        (
            Text("Output: text."),
            _own("use.autonomy", "oversight.output_marking", "model.languages"),
        ),
        ("Task & Output", "Reporting framework 5"),
    ),
    Section(
        "Evaluation results",
        (RESULTS, VERDICT, GATE, WAIVERS, _own("eval.redteam.summary")),
        ("Principle 1.4", "Reporting framework 1"),
    ),
    Section(
        "Known limitations and risks",
        (
            _own("limit.known"),
            ALLOWANCES,
            WAIVERS,
            Lines((("train.forgetting",
                    "Rise of the loss on general text during continued pre-training"),
                   ("model.base.tuned", "Signs that the base had been instruction-tuned"))),
            RISKS,
        ),
        ("Principles 1.3, 1.4", "Reporting framework 1"),
    ),
    Section(
        "Human oversight and security",
        (
            _own("oversight.measures", "oversight.monitoring", "oversight.incident_contact",
                 "oversight.incident_procedure"),
            Lines((("model.base.signature", "Signature of the base's publisher"),)),
            Text("Anyone can check the release without trusting this card: run "
                 "`forebear verify RELEASE --trust owner.pub` with the owner's public key."),
        ),
        ("Principle 1.4", "Reporting framework 2, 4"),
    ),
    Section(
        "Accountability",
        (
            Table("train.stages", "Signed record of each stage",
                  (("name", "Stage"), ("started", "Started"), ("ended", "Ended"),
                   ("commit", "Commit of the code"), ("uncommitted", "Uncommitted changes"),
                   ("confinement", "Confinement")),
                  "no stage is recorded."),
            Lines((("release.changes", "Changes in this release"),)),
            _own("provider.contact"),
            Text("Approvals: none are recorded in this version of the card."),
        ),
        ("Principle 1.5", "Reporting framework 3, 4"),
    ),
)  # fmt: skip

HUB_SECTIONS: tuple[Section, ...] = (
    Section("Summary", (_own("use.summary"),
                        Lines((("model.version", "Version"), ("model.params_total", "Parameters"),
                               ("model.context_length", "Context length"),
                               ("eval.gate.verdict", "Verdict of the release gate"))),
                        ANCESTORS)),
    Section("How to verify", (
        Text("`forebear verify RELEASE --trust owner.pub` checks every figure marked ● back to "
             "the signed record of the stage that measured it."),
        Lines((("model.digest", "Digest of the weights"),)))),
    Section("Intended and out-of-scope use", (
        _own("use.intended", "use.out_of_scope", "use.prohibited", "use.users"),)),
    Section("Training", (TRAINING, _own("train.objective"))),
    Section("Data", (DATA, ROLES, Lines((("data.latest_collection", "Latest collection"),)))),
    Section("Evaluation", (RESULTS, VERDICT, WAIVERS)),
    Section("Limitations", (_own("limit.known"), ALLOWANCES)),
    Section("Energy and compute", (TOTALS,)),
    Section("Licence and notices", (LICENCE, _own("copyright.contact"))),
)  # fmt: skip


def front_matter(facts: Facts) -> dict[str, Any]:
    """The hub card's metadata, unknown values left out."""
    values = facts.values
    matter: dict[str, Any] = {}
    languages = _known(values, "model.languages")
    if languages:
        matter["language"] = languages
    matter.update(_licence(facts))
    matter["library_name"] = "transformers"
    matter["pipeline_tag"] = "text-generation"
    base = next((r.cells["name"] for r in facts.tables["model.ancestors"] if r.key == "base"), None)
    if base is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", str(base.value)):
        matter["base_model"] = base.value
        matter["base_model_relation"] = "finetune"
    sets = [str(row.cells["id"].value) for row in facts.tables["data.sets"]]
    if sets:
        matter["datasets"] = sets
    matter["tags"] = ["forebear", "provenance"]
    name = _known(values, "model.name")
    results = _results(facts)
    if name and results:
        matter["model-index"] = [{"name": name, "results": results}]
    return matter


def _known(values: dict[str, Value], fact: str) -> Any:
    return values[fact].value if fact in values else None


def _licence(facts: Facts) -> dict[str, Any]:
    licence = _known(facts.values, "model.licence")
    if not licence:
        return {}
    if str(licence).lower() in _HUB_LICENCES:
        return {"license": str(licence).lower()}
    url = _known(facts.values, "model.licence_url")
    other = {"license": "other", "license_name": str(licence).lower()}
    return {**other, "license_link": url} if url else other


def _results(facts: Facts) -> list[dict[str, Any]]:
    """One result per task, in the order of the evaluation; the pair (task, metric) is unique."""
    results: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in facts.tables["eval.results"]:
        score, task = row.cells["candidate_score"], str(row.cells["task"].value)
        if not isinstance(score.value, (int, float)) or task in seen:
            continue
        seen.add(task)
        arguments: dict[str, Any] = {"n": row.cells["n"].value}
        if score.interval is not None:
            arguments |= {
                "interval_low": score.interval.low,
                "interval_high": score.interval.high,
                "level": score.interval.level,
                "method": score.interval.method,
            }
        results.append(
            {
                "task": {"type": "text-generation", "name": "Text generation"},
                "dataset": {"type": task, "name": NAMES.get(task, task)},
                "metrics": [
                    {
                        "type": "accuracy",
                        "value": score.value,
                        "name": "Share of items answered correctly",
                        "args": arguments,
                    }
                ],
            }
        )
    return results[:_MAX_METRICS]
