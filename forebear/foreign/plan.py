"""What ``forebear init`` makes of a ``dvc.yaml``, and how it is taken back; it writes nothing.

Each stage's command is put under the recorder, its link becomes one more cached out, and a stage
``attest`` is added that signs releases. What comes out is resolved by DVC and compared with what
was meant, before anybody sees it. Refuses, all faults in one message, what could not be recorded.

Rests on: provenance page, sections 4 and 6.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from forebear.errors import ConfigError, ForebearError
from forebear.evidence.names import LAYOUT
from forebear.foreign import command
from forebear.foreign.dvcyaml import MARK, Document, Edit, StageText, apply, parse_document
from forebear.foreign.signing_stage import RELEASE, attest_stage, signs
from forebear.formats.layout import ATTEST, DISK, LINKS, SOURCE, shipped_outs
from forebear.pipeline import (
    DVC_FILE,
    PARAMS_FILE,
    Pipeline,
    Stage,
    Template,
    inner_argv,
    link_path,
    load_pipeline,
    resolve_text,
)

_RECORDED = "forebear record "
_EXAMPLE = "dvc stage add -n train -d train.py -o model python train.py"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks for.

    Attributes:
        ship: outs that a release is to carry, relative to the root.
        shell: runs commands that are more than plain words.
        params_as_deps: whether a stage with ``params`` may read the params file itself.
    """

    ship: tuple[str, ...] = ()
    shell: str = "sh"
    params_as_deps: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A changed ``dvc.yaml``.

    Attributes:
        before: its text now.
        after: its text to be.
        notes: what the user should know about it.
    """

    before: str
    after: str
    notes: tuple[str, ...] = ()

    @property
    def diff(self) -> str:
        """The change as a unified diff; empty when there is none."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{DVC_FILE}",
            f"b/{DVC_FILE}",
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in lines
        )


def plan_init(root: Path, wishes: Wishes) -> Plan:
    """The ``dvc.yaml`` with every stage recorded and a stage that signs releases.

    Args:
        root: the DVC root.
        wishes: what the user asks for.

    Raises:
        ConfigError: DVC refuses the pipeline, or a stage cannot be recorded; one line per fault.
    """
    text = read_text(root)
    document = parse_document(text)
    pipeline = load_pipeline(root)
    work = _Init(root, document, pipeline, resolve_text(root, text), wishes)
    work.add_stages()
    if not work.faults:
        work.add_release()
    if work.faults:
        lines = "\n".join(f"  {fault}" for fault in work.faults)
        raise ConfigError(f"{len(work.faults)} fault(s), nothing was changed\n{lines}", DVC_FILE)
    after = apply(text, work.edits) if work.edits else text
    _require_as_meant(resolve_text(root, after), work.meant)
    return Plan(text, after, tuple(work.notes))


def plan_undo(root: Path) -> Plan:
    """The ``dvc.yaml`` without what init added, whatever else was changed since.

    Raises:
        ConfigError: something of it was changed so that the former text is not known.
    """
    text = read_text(root)
    document = parse_document(text)
    edits: list[Edit] = []
    for stage in document.stages:
        edits += _undo_stage(document, stage)
    return Plan(text, apply(text, edits))


def read_text(root: Path) -> str:
    """The text of ``dvc.yaml``.

    Raises:
        ConfigError: there is none, or it is no text.
    """
    file = root / DVC_FILE
    if not file.is_file():
        raise ConfigError(
            "does not exist, so there are no stages to record",
            where=DVC_FILE,
            fix=f"declare what you run as a stage first, for example: {_EXAMPLE}",
        )
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8", where=DVC_FILE) from error


class _Init:
    """Edits, notes and faults, as they are found."""

    def __init__(
        self,
        root: Path,
        document: Document,
        pipeline: Pipeline,
        templates: Mapping[str, Template],
        wishes: Wishes,
    ) -> None:
        self._root = root
        self._document = document
        self._pipeline = pipeline
        self._templates = templates
        self._wishes = wishes
        self._by_name = {stage.name: stage for stage in pipeline.stages}
        self.edits: list[Edit] = []
        self.notes: list[str] = []
        self.faults: list[str] = []
        self.meant: dict[str, tuple[str, ...]] = {}

    def add_stages(self) -> None:
        """Every stage of the root's ``dvc.yaml`` under the recorder."""
        for stage in self._pipeline.stages:
            if ":" in stage.name:
                self.faults.append(
                    f"{stage.name}: only stages of the {DVC_FILE} at the root can be recorded; "
                    "move it there (`wdir:` keeps its paths), or `dvc freeze` it: its outs are "
                    "then sources"
                )
        for text in self._document.stages:
            if text.name == ATTEST:
                continue
            template = self._templates[text.name]
            stages = [self._by_name[name] for name in template.stages if name in self._by_name]
            if not stages:
                self.notes.append(f"{text.name} is frozen: left as it is, its outs are sources")
                continue
            self.faults += [fault for stage in stages for fault in _unfit(stage)]
            try:
                self._add_stage(text, template, stages)
            except ForebearError as error:
                self.faults.append(str(error).replace("\n  fix:", ";"))

    def _add_stage(self, text: StageText, template: Template, stages: Sequence[Stage]) -> None:
        if all(stage.cmd.startswith(_RECORDED) for stage in stages):
            for stage in stages:
                inner_argv(stage)
                if all(out.path != link_path(stage) for out in stage.outs):
                    self.faults.append(
                        f"{stage.name}: is recorded already, but its link is no out; "
                        f"add {link_path(stage)}"
                    )
            return
        if template.each is None:
            self.faults.append(
                f"{text.name}: `foreach` over a list of mappings gives its stages no name to "
                "record under; make it a mapping"
            )
            return
        commands = [template.stages[stage.name] for stage in stages]
        shell = "" if all(command.is_plain(one) for one in commands) else self._wishes.shell
        name = f"{text.name}@{template.each}" if template.each else text.name
        document = self._document
        # a list's end and a new item may stand at the same place: the command's edits come first
        self.edits += command.wrap(document, text, name, shell)
        self.edits += document.add_items(text.body, "deps", self._params_files(text, stages[0]))
        link = _from(stages[0].wdir, link_path(name))
        self.edits += document.add_items(text.body, "outs", [link])
        for stage, one in zip(stages, commands, strict=True):
            self.meant[stage.name] = command.recorded(one, stage.name, shell)

    def _params_files(self, text: StageText, stage: Stage) -> list[str]:
        if not self._wishes.params_as_deps:
            return []
        files = [
            file for file in _declared_params(text) if _to_root(stage.wdir, file) not in stage.deps
        ]
        if files:
            self.notes.append(
                f"{text.name} may read {', '.join(files)}, so any change there runs it again; a "
                "stage that reads only $FOREBEAR_PARAMS does without (--no-params-deps)"
            )
        return files

    def add_release(self) -> None:
        """What is shipped, and the stage that signs it."""
        shipped = self._shipped()
        if self.faults:
            return
        stages = [stage for stage in self._pipeline.stages if stage.name != ATTEST]
        deps = [*shipped, *(link_path(stage) for stage in stages)]
        present, text = self._by_name.get(ATTEST), self._document.stage(ATTEST)
        if present is None or text is None:
            self._add_attest(deps)
        elif not signs(present):
            self.faults.append(
                f"{ATTEST}: the name is taken by a stage that signs no release; rename it"
            )
        else:
            new = [dep for dep in deps if dep not in present.deps]
            self.edits += self._document.add_items(text.body, "deps", new)

    def _add_attest(self, deps: Sequence[str]) -> None:
        place = self._root / RELEASE
        if place.exists() and not (place / LAYOUT).is_file():
            self.faults.append(f"{RELEASE}: lies there already, and releases go there; rename it")
        document = self._document
        last = document.stages[-1]
        indent = int(last.key.start_mark.column)
        step = max(int(last.body.start_mark.column) - indent, 2) if last.plain else 2
        has_terms = f"\n{ATTEST}:" in "\n" + _text_of(self._root / PARAMS_FILE)
        lines = attest_stage(deps, has_terms=has_terms, step=step)
        self.edits.append(document.insert_line(last.value_node, indent, *lines))

    def _shipped(self) -> list[str]:
        """Paths that a release carries; marks those that are asked for."""
        already = [out.path for _, out in shipped_outs(self._pipeline)]
        wanted = [PurePosixPath(path).as_posix() for path in self._wishes.ship]
        if not wanted and not already:
            wanted = [path for path in self._document.models if self._producer(path) is not None]
        by_stage: dict[str, list[str]] = {}
        for path in wanted:
            stage = self._producer(path)
            if stage is None:
                self.faults.append(f"--ship {path}: is no out of a stage; outs are: {self._outs()}")
            elif path not in already:
                by_stage.setdefault(stage.name, []).append(path)
        for name, paths in by_stage.items():
            self._mark_shipped(name, paths)
        marked = [path for paths in by_stage.values() for path in paths]
        if not marked and not already and not self.faults:
            self.faults.append(
                "a release would carry nothing: name the model with `forebear init --ship PATH`, "
                f"or give its out `type: model`; outs are: {self._outs()}"
            )
        if any(stage.options().get("ship") for stage in self._pipeline.stages) or not marked:
            return sorted({*marked, *already})
        # once one is named, `type: model` alone ships nothing
        return sorted(marked)

    def _mark_shipped(self, name: str, paths: Sequence[str]) -> None:
        text = self._document.stage(name)
        if text is None:
            self.faults.append(f"{name}: is one of several; give the out `type: model` instead")
            return
        entries = [f"- {path}" for path in paths]
        meta = text.value("meta")
        if meta is None:
            lines = [f"meta:  {MARK}", "  forebear:", "    ship:", *(f"    {e}" for e in entries)]
            last = text.body.value[-1][1]
            self.edits.append(self._document.insert_line(last, text.body.start_mark.column, *lines))
        else:
            self.faults.append(
                f"{name}: has a meta of its own; write into it: forebear: {{ship: "
                f"[{', '.join(paths)}]}}"
            )

    def _producer(self, path: str) -> Stage | None:
        return next(
            (s for s in self._pipeline.stages if any(out.path == path for out in s.outs)), None
        )

    def _outs(self) -> str:
        outs = [out.path for s in self._pipeline.stages for out in s.outs if not out.metric]
        return ", ".join(path for path in outs if not path.startswith(LINKS)) or "none"


def _unfit(stage: Stage) -> Iterator[str]:
    """Why the recorder would refuse a stage as it is declared."""
    if stage.name.partition("@")[0] in {SOURCE, DISK}:
        yield f"{stage.name}: the name is taken by a step of every release; rename the stage"
    if "/" in stage.name:
        yield f"{stage.name}: a name with '/' cannot name a link; use keys without '/'"
    for path in [*stage.deps, *(out.path for out in stage.outs)]:
        if "://" in path or path.startswith("/"):
            yield (
                f"{stage.name}: {path} lies outside the repository, so it cannot be hashed; import "
                "it with `dvc import-url` and name the local copy"
            )


def _declared_params(text: StageText) -> Iterator[str]:
    """Params files of a stage, as it names them."""
    found = text.value("params")
    files: list[str] = []
    for entry in found.value if isinstance(found, yaml.SequenceNode) else ():
        if isinstance(entry, yaml.MappingNode):
            files += [str(key.value) for key, _ in entry.value]
        else:
            files.append(PARAMS_FILE)
    return iter(dict.fromkeys(files))


def _require_as_meant(found: Mapping[str, Template], meant: Mapping[str, tuple[str, ...]]) -> None:
    """DVC reads the new text as it was meant.

    Raises:
        ConfigError: not so, as where a value that DVC fills in holds a quote.
    """
    commands = {name: one for template in found.values() for name, one in template.stages.items()}
    for name, argv in meant.items():
        one = commands.get(name, "")
        joined = "\n".join(one) if isinstance(one, list) else one
        if _words(joined) != ("forebear", "record", name, "--", *argv):
            raise ConfigError(
                "the command cannot be put under the recorder: DVC fills in a value with quotes "
                "or line ends",
                where=f"{DVC_FILE}: {name}.cmd",
                fix="write the command into a script of your own, and run that",
            )


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:  # a quote without its other half
        return ()


def _undo_stage(document: Document, stage: StageText) -> list[Edit]:
    if stage.name == ATTEST and document.is_marked(stage.key.start_mark.index):
        return [document.remove_node(stage.key, stage.value_node)]
    edits = []
    links = _links_of(stage)
    added = document.added_items(stage.body, "outs", links)
    for link in (item for item in added if item in links):
        name = PurePosixPath(link).name.removesuffix(".link")
        edits += command.unwrap(document, stage, name)
    edits += document.remove_items(stage.body, "outs", added)
    known = [*_declared_params(stage)]
    deps = document.added_items(stage.body, "deps", known)
    edits += document.remove_items(stage.body, "deps", deps)
    meta = stage.value("meta")
    if meta is not None and document.is_marked(stage.start("meta")):
        edits.append(document.remove_node(stage.key_node("meta"), meta))
    return edits


def _links_of(stage: StageText) -> Collection[str]:
    """What the stage's own link may be called among its outs."""
    outs = stage.value("outs")
    names = [str(one.value) for one in outs.value] if isinstance(outs, yaml.SequenceNode) else []
    own = (f"{LINKS}{stage.name}.link", f"{LINKS}{stage.name}@$")
    return [name for name in names if own[0] in name or own[1] in name]


def _from(wdir: str, path: str) -> str:
    """A path from the root as a stage in ``wdir`` writes it."""
    depth = 0 if wdir == "." else len(PurePosixPath(wdir).parts)
    return "../" * depth + path


def _to_root(wdir: str, path: str) -> str:
    parts: list[str] = []
    for part in (*PurePosixPath(wdir).parts, *PurePosixPath(path).parts):
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
