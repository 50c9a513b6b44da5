"""Tables and groups of lines that several documents share."""

from __future__ import annotations

from forebear.documents.plans import Lines, Table

STEPS = Table(
    "train.stages",
    ("name", "method", "steps", "tokens", "tokens_padded", "loss_first", "loss_last"),
    key="train.stages.training",
    skip="flop",
)
COMPUTE = Table(
    "train.stages",
    ("name", "flop", "flop_sampling", "wall", "cpu", "memory", "energy"),
    key="train.stages.compute",
    compute=True,
    skip="flop",
)
SIGNED = Table(
    "train.stages",
    ("name", "started", "ended", "commit", "uncommitted", "confinement"),
    key="train.stages.signed",
)
LINEAGE = Table("train.stages", ("name", "takes", "method"), key="train.stages.lineage")
HARDWARE = Table(
    "train.stages",
    ("name", "processor", "cores", "wall", "cpu"),
    key="train.stages.hardware",
    compute=True,
)
TOTALS = Lines(
    (
        "train.flop_modification",
        "train.flop_modification_cumulative",
        "train.flop_base",
        "train.flop_cumulative",
        "train.wall_seconds",
        "train.cpu_seconds",
        "train.device_seconds",
        "train.peak_memory",
        "train.energy_modification",
        "train.energy_base",
    ),
    compute=True,
)
SETS = Table(
    "data.sets",
    ("id", "role", "origin", "publisher", "licence", "version", "collected_from", "collected_to"),
)
SIZES = Table(
    "data.sets",
    ("id", "documents_read", "documents", "derived", "bytes", "tokens", "share"),
    key="data.sets.sizes",
)
SETS_IN_FULL = Table(
    "data.sets",
    (
        "id", "role", "origin", "source_url", "publisher", "licence", "licence_url",
        "legal_basis", "version", "collected_from", "collected_to", "modality", "content_types",
        "languages", "documents_read", "documents", "derived", "bytes", "tokens", "share",
        "known_bias", "sensitive", "redistribution",
    ),
    key="data.sets.full",
    records=True,
)  # fmt: skip
ROLES = Table("data.roles", ("role", "rows", "bytes"))
FILTERS = Table("data.filters", ("filter", "dropped"))
LANGUAGES = Table("data.languages", ("language", "documents", "tokens"))
GENERATORS = Table(
    "data.generators",
    ("model", "revision", "provider", "set", "terms", "accepted", "rejected"),
)
DECONTAMINATION = Table("data.decontamination", ("suite", "items", "ngram", "removed"))
RESULTS = Table(
    "eval.results",
    ("task", "metric", "reference", "n", "reference_score", "candidate_score", "delta"),
    score="candidate_score",
)
PAIRS = Table(
    "eval.pairs",
    ("task", "metric", "reference", "margin", "lower", "p_holm", "verdict", "reasons"),
)
VERDICT = Lines(("eval.gate.verdict", "eval.gate.profile", "eval.gate.label", "eval.gate.waivers"))
WAIVERS = Table("eval.waivers", ("task", "reference", "delta", "reason", "approver", "expires"))
JUDGES = Table(
    "eval.judges",
    ("judge", "provider", "model", "revision", "kappa", "n", "position_bias", "self_judging"),
)
FOUND = Table("limit.found", ("text",))
SLICES = Table("eval.slices", ("task", "slice", "metric", "n", "score"))
NOT_RUN = Table("eval.not_run", ("task", "reason"))
CONTAMINATION = Table("eval.contamination", ("task", "n", "rate", "max_rate", "unknown"))
LABELS = Table("model.labels", ("kind", "label", "source", "through"))
ALLOWANCES = Table("limit.allowances", ("stage", "rule", "reason", "by"))
ANCESTORS = Table("model.ancestors", ("name", "relation", "revision", "licence"))
RISKS = Table("risk.items", ("name", "likelihood", "severity", "mitigation", "residual"))
FAIRNESS = Table("risk.fairness", ("group", "benefits", "harms", "mitigation"))
CHANNELS = Table("use.channels", ("channel", "access", "url"))
SOFTWARE = Table("use.software", ("name", "version"))
STANDARDS = Table("standards", ("id", "scope"))
LICENCE = Lines(("model.licence", "model.licence_url", "model.licence_category"))
DUTIES = Table("licences.obligations", ("duty", "origin", "met", "source"))
CONFLICTS = Table("licences.conflicts", ("rule", "items", "reason", "source"))
ARCHITECTURE = Lines(
    (
        "model.architecture",
        "model.architecture_family",
        "model.params_total",
        "model.params_active",
        "model.context_length",
        "model.vocab_size",
        "model.dtype",
    )
)
MODALITIES = Lines(
    ("model.modalities_in", "model.modalities_out", "model.max_input", "model.max_output")
)
COPYRIGHT = Lines(
    (
        "copyright.owner",
        "copyright.contact",
        "copyright.complaint_days",
        "copyright.lawful_access",
        "copyright.protocols",
        "copyright.third_party_check",
        "copyright.output_measures",
        "copyright.review_date",
    )
)
REASONS = Lines(("train.objective", "train.rationale", "train.assumptions"))
