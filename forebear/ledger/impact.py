"""Which checkpoints saw a document: from its ledgers along the links to all descendants.

Walks links, and reads the stages' outs where they lie on disk with the digest that the link names:
the corpus (which file holds the text), the sequence index (which sequences), the training log
(which checkpoint was the first after them). Where an out is not here or a stage keeps no record of
its choice, the answer is *may*, never *no*. Verifies no signature and knows no stage by name:

- a **ledger** is a product ``…/ledger/root.json`` with its rows beside it;
- a **row** is a JSON line with an ``id`` that ends in the SHA-256 of its text;
- a **sequence index** is a product ``…/index.jsonl`` of lines ``{split, sequence, documents}``;
- a **training log** is a JSON-lines product of lines ``{sequences, parent, tree, tokens, …}``.

Rests on: provenance page, sections 3 and 9; training page, sections tokenize and cpt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError
from forebear.formats.link import TREE, Link, is_virtual
from forebear.ledger.build import IntakeRow, key_of_digest
from forebear.ledger.derived import derived_keys
from forebear.ledger.found import Checkpoint, Held, How, Impact, Met, weakness
from forebear.ledger.outs import Outs, ledger_roots
from forebear.ledger.prove import Ledger, open_ledger
from forebear.ledger.rowfile import ROOT_FILE
from forebear.ledger.words import kept_as

TRAIN = "train"
_WEIGHTS = (".safetensors", ".gguf", ".pt", ".pth")

_LISTED: Mapping[How, str] = {
    "saw": "names the text among the rows trained on",
    "may": "names the text among the rows to choose from",
    "measured": "names the text among rows not trained on",
    "untouched": "names the rows used, and the text is not among them",
}


def impact(
    digest: bytes,
    links: Mapping[str, Link],
    root: Path,
    *,
    salt: bytes | None = None,
    models: Collection[str] = (),
) -> Impact:
    """What became of the document with this SHA-256.

    Args:
        digest: of its exact bytes.
        links: by stage.
        root: where outs lie, by the paths that links name.
        salt: of salted ledgers.
        models: outs that are checkpoints; found by their files where a caller does not know.
    Raises:
        FormatError: an out that a link vouches for is malformed.
    """
    return _Walk(digest, links, Outs(root), salt, models).run()


def _use(row: Mapping[str, Any]) -> How:
    """What a list of rows says of one: its split tells, else the verdict on what came of it."""
    if "split" in row:
        return "saw" if row["split"] == TRAIN else "measured"
    return "measured" if row.get("verdict") == "rejected" else "may"


@dataclass
class _Walk:
    digest: bytes
    links: Mapping[str, Link]
    outs: Outs
    salt: bytes | None
    models: Collection[str]
    found: Impact = field(default_factory=Impact)
    how: dict[str, Met] = field(default_factory=dict)
    marks: dict[str, list[Checkpoint]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.consumers: dict[tuple[str, str], list[str]] = defaultdict(list)
        for stage, link in self.links.items():
            for path, hexed in link.materials.items():
                if not is_virtual(path) or path.startswith(TREE):
                    self.consumers[path, hexed].append(stage)

    def run(self) -> Impact:
        for stage, path, hexed in ledger_roots(self.links):
            held = self._look_up(stage, path, hexed)
            self.found.ledgers.append(held)
            if held.texts:
                self._follow_texts(stage, path, set(held.texts))
        self._descend()
        self.found.met = list(self.how.values())
        for met in self.found.met:
            self.found.checkpoints += self._checkpoints(met)
        return self.found

    # ── the ledger ─────────────────────────────────────────────────────────────────────────────

    def _look_up(self, stage: str, path: str, hexed: str) -> Held:
        if not self.outs.has(path, hexed):
            self.found.unknown.append(
                f"{path} of stage {stage!r} is not here as its link names it: the ledger is unread"
            )
            return Held(stage, path, "unknown: the ledger is not here")
        try:
            with open_ledger(self.outs.root / path.removesuffix(ROOT_FILE)) as ledger:
                if ledger.descriptor.salted and self.salt is None:
                    self.found.unknown.append(f"{path} is salted, and no salt was given")
                    return Held(stage, path, "unknown: its keys are salted")
                return self._ask(ledger, stage, path)
        except ForebearError as error:
            self.found.unknown.append(f"{path}: {error.what}")
            return Held(stage, path, f"unknown: {error.what}")

    def _ask(self, ledger: Ledger, stage: str, path: str) -> Held:
        key = key_of_digest(self.digest, self.salt if ledger.descriptor.salted else None)
        texts: list[str] = []
        says = "never seen"
        read = ledger.claim("intake", key).leaves[0].row
        if isinstance(read, IntakeRow) and read.key == key:
            became = kept_as(read)
            says = f"read, {read.fate}"
            texts += [became] if became is not None else []
        if ledger.claim("kept", key).kind == "included":
            says, texts = (f"kept as {key}" if says == "never seen" else says), [*texts, key]
        made = [one for one in derived_keys(ledger.folder, {key, *texts}) if one not in texts]
        if made:
            says += f"; {len(made)} kept text(s) made from it"
        return Held(stage, path, says, tuple(dict.fromkeys([*texts, *made])))

    # ── the texts ──────────────────────────────────────────────────────────────────────────────

    def _follow_texts(self, stage: str, root: str, texts: set[str]) -> None:
        """From the files of the ledger's stage that hold the texts to the stages that read them."""
        for path, hexed in sorted(self.links[stage].products.items()):
            if is_virtual(path) or path.startswith(root.removesuffix(ROOT_FILE)):
                continue
            names = self._names(path, hexed, texts)
            if names == set():
                continue
            for reader in self.consumers[path, hexed]:
                self._read(reader, path, names, texts)

    def _names(self, path: str, hexed: str, texts: set[str]) -> set[str] | None:
        """Ids of the texts in a file of rows; None when the file cannot be looked at."""
        if not path.endswith(".jsonl"):
            return set()
        if not self.outs.has(path, hexed):
            self.found.unknown.append(f"{path} is not here: it may hold the text")
            return None
        return {name for name in self.outs.ids(path) if self._key(name) in texts}

    def _key(self, name: str) -> str:
        """Key of the text that a row's id names; empty for an id of another form."""
        try:
            digest = bytes.fromhex(name.rpartition(":")[2])
        except ValueError:
            return ""
        if len(digest) != 32:
            return ""
        return key_of_digest(digest, self.salt)

    def _read(self, stage: str, path: str, names: set[str] | None, texts: set[str]) -> None:
        """A stage that read a file with the text: what is known of its choice of rows."""
        index = self._index(stage)
        if index is not None:
            self._packed(stage, index, texts)
            return
        if names is None:
            self._note(stage, "may", f"read {path}, which may hold the text")
            return
        listed = self._listed(stage, path, names)
        if listed is None:
            why = f"read {path}, which holds the text; which rows it used is not recorded"
            self._note(stage, "may", why)
        else:
            self._note(stage, *listed)

    def _listed(self, stage: str, path: str, names: set[str]) -> tuple[How, str] | None:
        """What a list of used rows among the stage's outs says; None when there is no such list."""
        known = set(self.outs.ids(path))
        answer: tuple[How, str] | None = None
        for out, hexed in sorted(self.links[stage].products.items()):
            if not out.endswith(".jsonl") or not self.outs.has(out, hexed):
                continue
            used = [row for row in self.outs.rows(out) if row.get("id") in known]
            mine = [_use(row) for row in used if row["id"] in names]
            how: How = min(mine, key=weakness) if mine else "untouched"
            if used and (answer is None or weakness(how) < weakness(answer[0])):
                answer = (how, f"{out} {_LISTED[how]}")
        return answer

    # ── sequences ──────────────────────────────────────────────────────────────────────────────

    def _index(self, stage: str) -> str | None:
        """The stage's sequence index, when it has one that is here."""
        for path, hexed in sorted(self.links[stage].products.items()):
            if path.endswith("/index.jsonl") and self.outs.has(path, hexed):
                first = next(self.outs.rows(path), {})
                if first.keys() >= {"split", "sequence", "documents"}:
                    return path
        return None

    def _packed(self, stage: str, index: str, texts: set[str]) -> None:
        """From the sequences that hold the texts to the stages that read the sequences."""
        splits: dict[str, set[int]] = defaultdict(set)
        for row in self.outs.rows(index):
            if any(self._key(str(piece.get("id"))) in texts for piece in row["documents"]):
                splits[row["split"]].add(row["sequence"])
        if not splits:
            self._note(stage, "untouched", f"{index}: no sequence holds the text")
            return
        where = ", ".join(f"{len(found)} of split {split}" for split, found in splits.items())
        self._note(stage, "measured", f"{index}: the text is in {where}")
        folder = index.removesuffix("index.jsonl")
        readers = {
            reader
            for path, hexed in self.links[stage].products.items()
            if path.startswith(folder) and not is_virtual(path)
            for reader in self.consumers[path, hexed]
        }
        for reader in sorted(readers):
            self._trained(reader, folder, splits.get(TRAIN, set()))

    def _trained(self, stage: str, folder: str, sequences: set[int]) -> None:
        """A stage that read the sequences: its log tells when."""
        if not sequences:
            self._note(stage, "measured", f"{folder} holds the text for validation alone")
            return
        log = self._log(stage)
        if log is None:
            why = f"read {folder}, which holds the text; no training log says what it used"
            self._note(stage, "may", why)
            return
        path, entries = log
        place = seen = 0
        marks: list[Checkpoint] = []
        for entry in entries:
            order = list(entry["sequences"])
            hits = [seen + at for at, number in enumerate(order, 1) if number in sequences]
            place = place or (hits[0] if hits else 0)
            seen += len(order)
            marks.append(self._mark(stage, entry, place, seen))
        if place:
            why = f"{path}: first as sequence {place} of {seen}{self._step(stage, place)}"
            self._note(stage, "saw", why)
            self.marks[stage] = marks
        else:
            self._note(stage, "untouched", f"{path}: its sequences were never drawn")

    def _mark(self, stage: str, entry: Mapping[str, Any], place: int, seen: int) -> Checkpoint:
        tokens = entry.get("tokens")
        after = f"after {seen} sequences" + (f", {tokens} tokens" if tokens else "")
        how: How = "saw" if place else "untouched"
        why = f"{after}; the text came as sequence {place}" if place else f"{after}: not yet seen"
        return Checkpoint(stage, self._folder(stage, tokens), str(entry["tree"]), how, why)

    def _folder(self, stage: str, tokens: object) -> str:
        """The folder of an intermediate checkpoint inside the stage's outs, as its name tells."""
        name = f"{tokens:09d}" if type(tokens) is int else ""
        for path in sorted(self.links[stage].products):
            head, found, _ = path.partition(f"/{name}/")
            if name and found and not is_virtual(path):
                return f"{head}/{name}"
        return ""

    def _step(self, stage: str, place: int) -> str:
        """The optimizer step of a sequence, where the signed params tell how many make one."""
        run = self.links[stage].byproducts.get("forebear")
        params = run.get("params") if isinstance(run, dict) else None
        for section in params.values() if isinstance(params, dict) else ():
            if isinstance(section, dict) and type(section.get("batch_sequences")) is int:
                per_step = section["batch_sequences"] * int(section.get("grad_accumulation", 1))
                return f", in step {-(-place // per_step)}" if per_step > 0 else ""
        return ""

    def _log(self, stage: str) -> tuple[str, list[dict[str, Any]]] | None:
        """The stage's training log, when it has one that is here."""
        for path, hexed in sorted(self.links[stage].products.items()):
            if not path.endswith(".jsonl") or not self.outs.has(path, hexed):
                continue
            entries = list(self.outs.rows(path))
            if entries and all(
                one.keys() >= {"sequences", "parent", "tree"} and isinstance(one["sequences"], list)
                for one in entries
            ):
                return path, entries
        return None

    # ── descendants ────────────────────────────────────────────────────────────────────────────

    def _descend(self) -> None:
        """Marks every stage that was made from a checkpoint of a stage that met the document."""
        open_stages = [met.stage for met in self.how.values() if met.how in {"saw", "may"}]
        while open_stages:
            stage = open_stages.pop(0)
            met = self.how[stage]
            how: How = "may" if met.how == "may" else "inherits"
            for path, hexed in self.links[stage].products.items():
                for reader in self.consumers[path, hexed]:
                    known = self.how.get(reader)
                    if known is None or weakness(how) < weakness(known.how):
                        self._note(
                            reader, how, f"made from {path.removeprefix(TREE)} of stage {stage!r}"
                        )
                        open_stages.append(reader)

    def _note(self, stage: str, how: How, why: str) -> None:
        known = self.how.get(stage)
        if known is None or weakness(how) < weakness(known.how):
            self.how[stage] = Met(stage, how, why)

    def _checkpoints(self, met: Met) -> list[Checkpoint]:
        """Outs of the stage that are checkpoints; those in its log one by one."""
        if met.how in {"measured", "untouched"}:
            return []
        finals: list[Checkpoint] = []
        products = self.links[met.stage].products
        logged = {mark.tree: mark for mark in self.marks.get(met.stage, [])}
        for path, tree in sorted(products.items()):
            out = path.removeprefix(TREE)
            if not path.startswith(TREE) or not self._is_model(out, products):
                continue
            mark = logged.pop(tree, None)
            finals.append(Checkpoint(met.stage, out, tree, met.how, mark.why if mark else met.why))
        return [*logged.values(), *finals]

    def _is_model(self, out: str, products: Mapping[str, str]) -> bool:
        if self.models:
            return out in self.models
        return any(
            path.startswith(f"{out}/") and "/" not in path.removeprefix(f"{out}/")
            for path in products
            if path.endswith(_WEIGHTS)
        )
