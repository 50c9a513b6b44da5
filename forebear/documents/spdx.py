"""D9: the bill of materials of the release, SPDX 3.0.1 with its AI and data set profiles.

Written as plain JSON, so that no library is needed to make it again. A mandatory field whose value
is unknown says ``NOASSERTION`` or ``noAssertion``; where the profile demands a time that nobody
recorded, the document's own time stands there and an annotation says so.

Source: compliance page, section 8, D9; SPDX 3.0.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from forebear.documents.bill import read_bill
from forebear.documents.bill_sets import dropped_by_filters
from forebear.documents.cyclonedx_card import TASK, limits
from forebear.documents.cyclonedx_parts import describe
from forebear.documents.parts import SHOWN, Bill, reference
from forebear.documents.reading import Reader
from forebear.documents.results import results
from forebear.documents.spdxgraph import Graph, entries, sha256
from forebear.documents.spdxlicence import NOASSERTION
from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebear.documents.parts import DataSet, Model, Part
    from forebear.documents.reading import Cells
    from forebear.documents.values import Facts

ID = "D9"
FILE = "bom.spdx.json"
FILES = (FILE,)
SHOWS = {ID: SHOWN | {"use.autonomy", "use.prohibited", "use.sectors", "standards"}}

_PROFILES = ["core", "software", "ai", "dataset", "simpleLicensing"]
_TREE = "SHA-256 over the manifest of the directory"
_MODALITIES = {"text", "image", "audio", "video"}
_AUTONOMY = {"none": "no", "low": "yes", "medium": "yes", "high": "yes"}
_AVAILABLE = {"allowed": "directDownload"}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTH = re.compile(r"\d{4}-\d{2}")
_TRAINING_STAGES, _TUNING_STAGES = ("cpt",), ("sft", "prefer")
_NO_HYPER = {"allow"}  # a rule set aside is no hyperparameter; the card shows it
_HYPER_MAX = 200  # entries; the whole of the params stands in the links


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The file by its name."""
    return {FILE: strictjson.dumps(_Writer(facts, language).document())}


class _Writer:
    """Writes one release."""

    def __init__(self, facts: Facts, language: str) -> None:
        self._reader = Reader(facts, language)
        self._bill: Bill = read_bill(facts, language)
        self._time = facts.document_time
        self._graph = Graph(facts.evidence_root, facts.document_time)
        self._provider = self._reader.release.text("provider.legal_name")

    def document(self) -> dict[str, Any]:
        """Elements and relationships; the document and its bill come last."""
        graph, bill = self._graph, self._bill
        creator = graph.agent(self._provider)
        tool = graph.add("tool", "Tool", name="forebear")
        data_licence = graph.add(
            "licence/CC0-1.0", "simplelicensing_LicenseExpression",
            simplelicensing_licenseExpression="CC0-1.0",
        )  # fmt: skip
        for model in bill.models:
            self._model(model)
        for part in (*bill.sets, *bill.undisclosed):
            self._data_set(part)
        for library in bill.libraries:
            iri = graph.add(library.ref, "software_Package", name=library.name,
                            software_packageVersion=library.version,
                            software_packageUrl=library.purl,
                            software_primaryPurpose="library" if library.purl
                            else "application")  # fmt: skip
            self._common(iri, library)
        self._files()
        self._relationships()
        self._bound()
        parts = graph.ids
        sbom = graph.add("sbom", "software_Sbom", rootElement=[graph.iri(bill.final.ref)],
                         element=parts, software_sbomType=["build"],
                         profileConformance=_PROFILES)  # fmt: skip
        graph.add("document", "SpdxDocument", name=f"{bill.final.name} {bill.final.version}",
                  rootElement=[sbom], element=[*parts, sbom], dataLicense=data_licence,
                  profileConformance=_PROFILES)  # fmt: skip
        return graph.write(creator, tool)

    # ── models ─────────────────────────────────────────────────────────────────────────────────

    def _model(self, model: Model) -> None:
        release = self._reader.release
        released, known = self._released(model)
        fields: dict[str, Any] = {
            "name": model.name,
            "software_packageVersion": model.version,
            "software_downloadLocation": self._location(model),
            "software_primaryPurpose": "model",
            "suppliedBy": self._graph.agent(model.supplier),
            "releaseTime": released,
            "verifiedUsing": sha256(model.digest, _TREE),
            "ai_typeOfModel": [t for t in (model.architecture, model.family) if t] or [NOASSERTION],
            "ai_domain": [TASK],
            "ai_autonomyType": "noAssertion",
            "ai_useSensitivePersonalInformation": "noAssertion",
            "ai_informationAboutTraining": NOASSERTION,
            "ai_informationAboutApplication": NOASSERTION,
        }
        if model.role == "final":
            fields |= self._final_fields()
        elif model.role == "checkpoint":
            fields["ai_informationAboutTraining"] = (
                f"An intermediate state of {self._bill.final.name}."
            )
        iri = self._graph.add(model.ref, "ai_AIPackage", **fields)
        self._common(iri, model)
        if not known:
            self._graph.note(iri, [("forebear:release-time", "unknown; the document's time")])
        if model.role == "final":
            self._graph.note(iri, self._final_lines(release.names()))

    def _final_fields(self) -> dict[str, Any]:
        reader, release = self._reader, self._reader.release
        told = [*release.texts("limit.known"), *limits(reader)]
        application = [
            *_said("Summary", release.texts("use.summary")),
            *_said("Intended uses", release.texts("use.intended")),
            *_said("Out of scope", release.texts("use.out_of_scope")),
            *_said("Prohibited", release.texts("use.prohibited")),
        ]
        training = [
            *_said("Objective", release.texts("train.objective")),
            *_said("Rationale", release.texts("train.rationale")),
            *_said("Stages", [row.text("name") or row.key for row in reader.rows("train.stages")]),
        ]
        sectors = release.texts("use.sectors")
        return {
            "summary": release.text("use.summary"),
            "ai_domain": [TASK, *sectors],
            "ai_hyperparameter": entries(self._hyperparameters()),
            "ai_metric": entries((result.label, result.text) for result in results(reader)),
            "ai_limitation": "\n".join(told) or NOASSERTION,
            "ai_informationAboutTraining": "\n".join(training) or NOASSERTION,
            "ai_informationAboutApplication": "\n".join(application) or NOASSERTION,
            "ai_modelDataPreprocessing": release.texts("data.selection") or [NOASSERTION],
            "ai_standardCompliance": [
                text for row in reader.rows("standards") if (text := row.text("id")) is not None
            ],
            "ai_autonomyType": _AUTONOMY.get(release.text("use.autonomy") or "", "noAssertion"),
            "ai_useSensitivePersonalInformation": self._sensitive(),
            "ai_energyConsumption": self._energy(),
        }

    def _final_lines(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """What the final model's figures and statements rest on."""
        reader = self._reader
        shown = [n for n in names if n.startswith(("use.", "limit.", "train.", "data.selection"))]
        if reader.withheld:
            shown = [n for n in shown if not n.startswith("train.")]
        lines = [line for n in shown for line in reader.evidence(n, reader.release.value(n))]
        for result in results(reader):
            lines += reader.evidence(result.label, result.score)
        for row in self._trained():
            lines += reader.evidence(f"{row.key}.params", row.value("params"))
            for name in _HYPER_CELLS:
                lines += reader.evidence(f"{row.key}.{name}", row.value(name))
        for row in [] if reader.withheld else reader.rows("train.stages"):
            lines += reader.evidence(f"{row.key}.energy", row.value("energy", "energy_kwh"))
        for table in ("limit.known", "limit.found"):
            for row in reader.rows(table):
                lines += reader.evidence(table, row.value("text"))
        if not self._energy():
            known = "withheld" if reader.withheld else "unknown"
            lines.append(("forebear:energy", known))
        return lines

    def _hyperparameters(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for row in self._trained():
            stage = row.text("name") or row.key
            for name in _HYPER_CELLS:
                text = row.text(name)
                if text is not None:
                    pairs.append((f"{stage}.{name}", text))
            pairs += [
                (f"{stage}.{name}", text)
                for name, text in _flat(row.value("params").value)
                if name not in _NO_HYPER
            ]
        return pairs[:_HYPER_MAX]

    def _trained(self) -> list[Cells]:
        """The stages that made weights: those that name a method or count steps."""
        rows = self._reader.rows("train.stages")
        return [row for row in rows if row.text("method", "steps") is not None]

    def _energy(self) -> dict[str, Any] | None:
        """Energy of pre-training and of tuning, where a stage measured it."""
        if self._reader.withheld:
            return None
        groups = (("ai_trainingEnergyConsumption", _TRAINING_STAGES),
                  ("ai_finetuningEnergyConsumption", _TUNING_STAGES))  # fmt: skip
        body: dict[str, Any] = {}
        for name, stages in groups:
            found = [
                {"type": "ai_EnergyConsumptionDescription", "ai_energyQuantity": kwh,
                 "ai_energyUnit": "kilowattHour"}
                for row in self._reader.rows("train.stages")
                if (row.text("name") or row.key).startswith(stages)
                and (kwh := row.number("energy", "energy_kwh")) is not None
            ]  # fmt: skip
            if found:
                body[name] = found
        return {"type": "ai_EnergyConsumption", **body} if body else None

    def _sensitive(self) -> str:
        told = {part.cells.text("sensitive") for part in self._bill.sets if part.trains}
        if "yes" in told:
            return "yes"
        return "no" if told == {"no"} else "noAssertion"

    # ── data sets ──────────────────────────────────────────────────────────────────────────────

    def _data_set(self, part: DataSet) -> None:
        cells = part.cells
        built = self._stage_end(cells.key)
        modality = (cells.text("modality") or "").lower()
        sensitive = cells.text("sensitive") or ""
        size = cells.number("tokens", "documents", "documents_read")
        iri = self._graph.add(
            part.ref,
            "dataset_DatasetPackage",
            name=part.name,
            software_packageVersion=part.version,
            software_downloadLocation=part.url or NOASSERTION,
            software_primaryPurpose="data",
            suppliedBy=self._graph.agent(part.supplier),
            originatedBy=[self._graph.agent(part.supplier)],
            builtTime=built or self._time,
            releaseTime=self._time,
            verifiedUsing=sha256(part.digest),
            description=describe(part),
            dataset_datasetType=[modality if modality in _MODALITIES else "noAssertion"],
            dataset_datasetSize=None if size is None else int(size),
            dataset_dataCollectionProcess=_collection(part) or NOASSERTION,
            dataset_dataPreprocessing=dropped_by_filters(self._reader, cells.key) or [NOASSERTION],
            dataset_hasSensitivePersonalInformation=sensitive
            if sensitive in ("yes", "no")
            else "noAssertion",
            dataset_knownBias=cells.texts("known_bias") or [NOASSERTION],
            dataset_intendedUse=cells.text("role") or NOASSERTION,
            dataset_datasetAvailability=_AVAILABLE.get(cells.text("redistribution") or ""),
        )
        self._common(iri, part)
        self._graph.relate(iri, "contains", [self._data_file(*file) for file in part.files])
        lines = [("forebear:release-time", "unknown; the document's time")]
        if built is None:
            lines.append(("forebear:built-time", "unknown; the document's time"))
        self._graph.note(iri, lines)

    def _data_file(self, path: str, digest: str) -> str:
        """A file of a corpus; sets that share it share the element."""
        return self._graph.add(
            reference("file", path),
            "software_File",
            name=path,
            verifiedUsing=sha256(digest),
            software_primaryPurpose="data",
        )

    def _stage_end(self, key: str) -> str | None:
        """When the stage ended that read the set; its name stands before the colon."""
        stage = key.split(":", maxsplit=1)[0]
        for row in self._reader.rows("train.stages"):
            if stage in (row.key, row.text("name")):
                return row.text("ended")
        return None

    # ── the rest ───────────────────────────────────────────────────────────────────────────────

    def _common(self, iri: str, part: Part) -> None:
        self._graph.licence(iri, part.licence, part.licence_url)
        lines = list(part.lines)
        if part.licence is None:
            lines.append(("forebear:licence", "unknown"))
        if lines:
            self._graph.note(iri, lines)

    def _files(self) -> None:
        for file in self._bill.files:
            iri = self._graph.add(file.ref, "software_File", name=file.name,
                                  verifiedUsing=sha256(file.digest),
                                  software_primaryPurpose="file")  # fmt: skip
            self._common(iri, file)

    def _relationships(self) -> None:
        graph, bill = self._graph, self._bill
        for model in bill.models:
            graph.relate(graph.iri(model.ref), "trainedOn", [graph.iri(ref) for ref in model.sets])
            descendants = [graph.iri(m.ref) for m in bill.models if model.ref in m.parents]
            graph.relate(graph.iri(model.ref), "ancestorOf", descendants)
        final = graph.iri(bill.final.ref)
        graph.relate(final, "testedOn", [graph.iri(p.ref) for p in bill.sets if not p.trains])
        graph.relate(final, "contains", [graph.iri(p.ref) for p in bill.files])
        graph.relate(final, "dependsOn", [graph.iri(p.ref) for p in bill.libraries])

    def _bound(self) -> None:
        """The links, which the final model has as evidence."""
        links = {
            file.link: file.link_sha256
            for file in self._reader.facts.evidence
            if file.link_sha256 is not None
        }
        found = [
            self._graph.add(
                f"evidence/{link}",
                "software_File",
                name=link,
                verifiedUsing=sha256(digest),
                software_primaryPurpose="evidence",
            )
            for link, digest in sorted(links.items())
        ]
        self._graph.relate(self._graph.iri(self._bill.final.ref), "hasEvidence", found)

    def _location(self, model: Model) -> str:
        if model.url:
            return model.url
        if model.role != "final":
            return NOASSERTION
        channels = (row.text("url") or "" for row in self._reader.rows("use.channels"))
        return next((url for url in channels if url.startswith("http")), NOASSERTION)

    def _released(self, model: Model) -> tuple[str, bool]:
        """The release time, and whether it is known."""
        text = self._reader.release.text("model.release_date") or ""
        if model.role == "final" and _DATE.fullmatch(text):
            return f"{text}T00:00:00Z", True
        return self._time, False


_HYPER_CELLS = ("method", "steps", "tokens", "tokens_padded", "seed")


def _said(label: str, texts: list[str]) -> list[str]:
    return [f"{label}: {'; '.join(texts)}"] if texts else []


def _collection(part: DataSet) -> str:
    cells = part.cells
    period = [text for name in ("collected_from", "collected_to")
              if (text := cells.text(name)) is not None and _MONTH.match(text)]  # fmt: skip
    return "; ".join([
        *_said("Origin", cells.texts("origin")),
        *_said("Publisher", cells.texts("publisher")),
        *_said("Collected", [" to ".join(period)] if period else []),
        *_said("Legal basis", cells.texts("legal_basis")),
    ])  # fmt: skip


def _flat(raw: Any, at: str = "") -> list[tuple[str, str]]:
    """Params as dotted names and texts."""
    if isinstance(raw, dict):
        return [
            pair
            for name in sorted(raw)
            for pair in _flat(raw[name], f"{at}.{name}" if at else str(name))
        ]
    if raw in (None, []) or not at:
        return []
    return [(at, raw if isinstance(raw, str) else strictjson.canonical(raw).decode())]
