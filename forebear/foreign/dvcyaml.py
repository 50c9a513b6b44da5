"""The text of a ``dvc.yaml``, edited in place: comments, quotes and order stay as written.

The YAML is parsed only to learn where its parts stand; every change is a splice of the text, so
that what is not changed is byte for byte what it was. Refuses what cannot be edited without
touching something else: anchors, aliases, tags, and stages written in braces.

Rests on: YAML 1.2, for the forms of scalars.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import yaml

from forebear.errors import ConfigError
from forebear.pipeline import DVC_FILE

# Ends every line that init added, so that --undo finds them in any clone, after any other edit.
MARK = "# forebear init"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces ``text[start:end]`` by ``new``."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class StageText:
    """Where one stage, or one template of stages, stands.

    Attributes:
        name: the key below ``stages``.
        key: the key's node.
        value_node: the whole of its value.
        body: the mapping that holds ``cmd``: the stage's own, or that below ``do``.
    """

    name: str
    key: yaml.Node
    value_node: yaml.Node
    body: yaml.MappingNode

    @property
    def plain(self) -> bool:
        """Whether the stage is none of several that one template makes by ``foreach``."""
        return self.value_node is self.body

    def value(self, field: str) -> yaml.Node | None:
        """Node of a field of the stage; None without it."""
        return _child(self.body, field)

    def key_node(self, field: str) -> yaml.Node:
        """Node of the key of a field that the stage has."""
        return _key(self.body, field)

    def start(self, field: str) -> int:
        """Where the key of a field that the stage has begins."""
        return int(self.key_node(field).start_mark.index)


@dataclass(frozen=True, slots=True)
class Document:
    """A ``dvc.yaml``.

    Attributes:
        text: as read.
        stages: in the order of the file.
        models: paths that the section ``artifacts`` calls a model.
        newline: its line end.
        shared: identities of the nodes that stand in more than one place, by anchor and alias.
    """

    text: str
    stages: tuple[StageText, ...]
    models: tuple[str, ...]
    newline: str
    shared: frozenset[int]

    def stage(self, name: str) -> StageText | None:
        """The stage under that key; None without it."""
        return next((stage for stage in self.stages if stage.name == name), None)

    # ── places ─────────────────────────────────────────────────────────────────────────────────

    def line_start(self, at: int) -> int:
        """Where the line of ``at`` begins."""
        return self.text.rfind("\n", 0, at) + 1

    def line_end(self, at: int) -> int:
        """Where the line of ``at`` ends, its line end left out."""
        end = self.text.find("\n", at)
        end = len(self.text) if end < 0 else end
        return end - 1 if self.text[end - 1 : end] == "\r" and end > at else end

    def content_end(self, node: yaml.Node) -> int:
        """Where the last line of a node's content ends; comments below it are not its own."""
        if node.end_mark.index > node.start_mark.index and not _is_flow(node):
            children = list(_children(node))
            if children:
                return self.content_end(children[-1])
        end = node.end_mark.index
        text = self.text[node.start_mark.index : end]
        if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
            end = node.start_mark.index + len(text.rstrip())
        return self.line_end(end)

    def line(self, at: int) -> str:
        """The line of ``at``, its line end left out."""
        return self.text[self.line_start(at) : self.line_end(at)]

    def is_marked(self, at: int) -> bool:
        """Whether init added the line of ``at``."""
        return self.line(at).endswith(MARK)

    # ── edits ──────────────────────────────────────────────────────────────────────────────────

    def insert_line(self, after: yaml.Node, indent: int, *lines: str) -> Edit:
        """New lines below the content of ``after``."""
        at = self.content_end(after)
        return Edit(at, at, "".join(f"{self.newline}{' ' * indent}{line}" for line in lines))

    def remove_lines(self, first: int, last: int) -> Edit:
        """Takes out the lines from that of ``first`` to that of ``last``, and one line end."""
        start, end = self.line_start(first), self.line_end(last)
        if start:
            start -= 2 if self.text[:start].endswith("\r\n") else 1
        return Edit(start, end, "")

    def remove_node(self, key: yaml.Node, value: yaml.Node) -> Edit:
        """Takes out a key and its whole value."""
        return self.remove_lines(key.start_mark.index, self.content_end(value))

    def add_items(self, body: yaml.MappingNode, field: str, items: Sequence[str]) -> list[Edit]:
        """``items`` at the end of the list ``field`` of a stage, which is begun when missing.

        Raises:
            ConfigError: what stands there is no list that can be edited.
        """
        if not items:
            return []
        lines = [f"- {item}  {MARK}" for item in items]
        found = _child(body, field)
        if found is None:
            last = body.value[-1][1]
            return [self.insert_line(last, body.start_mark.column, f"{field}:", *lines)]
        self.require_plain(found, field)
        if not isinstance(found, yaml.SequenceNode):
            raise ConfigError("is no list", where=f"{DVC_FILE}: {field}")
        if not _is_flow(found):
            return [self.insert_line(found.value[-1], found.start_mark.column, *lines)]
        close = found.end_mark.index - 1
        end = self.line_end(close)
        after = self.text[close + 1 : end].strip()
        if after and not after.startswith("#"):
            raise ConfigError(
                "a list in brackets must end its line to be edited", where=f"{DVC_FILE}: {field}"
            )
        comma = ", " if found.value else ""
        at = self.content_end_in_flow(found)
        # DVC's own braces must be quoted in a flow list
        new = ", ".join(f'"{item}"' for item in items)
        return [Edit(at, at, f"{comma}{new}"), Edit(end, end, f"  {MARK}")]

    def added_items(self, body: yaml.MappingNode, field: str, known: Collection[str]) -> list[str]:
        """Items of a list that :meth:`add_items` added.

        Args:
            body: the stage.
            field: the list's key.
            known: what may have been added to a list in brackets, whose items have no lines.
        """
        found = _child(body, field)
        if not isinstance(found, yaml.SequenceNode):
            return []
        values = [str(item.value) for item in found.value if isinstance(item, yaml.ScalarNode)]
        if _is_flow(found):
            marked = self.is_marked(found.end_mark.index)
            tail = found.value[-sum(value in known for value in values) or len(found.value) :]
            return [str(item.value) for item in tail if marked and item.value in known]
        return [
            str(item.value)
            for item in found.value
            if isinstance(item, yaml.ScalarNode) and self.is_marked(item.start_mark.index)
        ]

    def remove_items(self, body: yaml.MappingNode, field: str, items: Sequence[str]) -> list[Edit]:
        """Takes back what :meth:`add_items` did."""
        found = _child(body, field)
        if not items or not isinstance(found, yaml.SequenceNode):
            return []
        gone = [item for item in found.value if str(item.value) in items]
        if _is_flow(found):
            return self._remove_from_flow(found, len(gone))
        if len(gone) == len(found.value):
            return [self.remove_lines(_key(body, field).start_mark.index, gone[-1].end_mark.index)]
        gone = [item for item in gone if self.is_marked(item.start_mark.index)]
        return [self.remove_lines(item.start_mark.index, item.end_mark.index) for item in gone]

    def content_end_in_flow(self, node: yaml.SequenceNode) -> int:
        """Where a new item of a list in brackets goes."""
        if node.value:
            return int(node.value[-1].end_mark.index)
        return int(node.start_mark.index) + 1

    def _remove_from_flow(self, found: yaml.SequenceNode, n_items: int) -> list[Edit]:
        """Takes out the last items, and the mark."""
        end = self.line_end(found.end_mark.index)
        kept = found.value[: len(found.value) - n_items]
        start = kept[-1].end_mark.index if kept else found.start_mark.index + 1
        return [
            Edit(start, found.value[-1].end_mark.index, ""),
            Edit(end - len(MARK) - 2, end, ""),
        ]

    def require_plain(self, node: yaml.Node, what: str) -> None:
        """Refuses a node that stands for more than itself.

        Raises:
            ConfigError: it has an anchor or a tag, or is an alias.
        """
        first = self.text[node.start_mark.index : node.start_mark.index + 1]
        if id(node) in self.shared or first in ("&", "!"):
            raise ConfigError(
                "has a YAML anchor, alias or tag, so editing it would change other places too",
                where=f"{DVC_FILE}: {what}",
                fix="write it out",
            )


def parse_document(text: str) -> Document:
    """Places of the stages in the text of a ``dvc.yaml``.

    Raises:
        ConfigError: it is no YAML, holds no stages, or in a form that cannot be edited.
    """
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError("is no YAML that can be edited", where=DVC_FILE) from error
    stages = _child(top, "stages") if isinstance(top, yaml.MappingNode) else None
    if (
        not isinstance(top, yaml.MappingNode)
        or not isinstance(stages, yaml.MappingNode)
        or not stages.value
    ):
        raise ConfigError(
            "declares no stages, so there is nothing to record",
            where=DVC_FILE,
            fix="declare one, for example: dvc stage add -n train -d train.py -o model "
            "python train.py",
        )
    return Document(
        text=text,
        stages=tuple(_stage(key, value) for key, value in stages.value),
        models=tuple(_models(top)),
        newline="\r\n" if "\r\n" in text else "\n",
        shared=_shared(top),
    )


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; they do not overlap. At one place they keep their order."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])


def _stage(key: yaml.Node, value: yaml.Node) -> StageText:
    name = str(key.value)
    body = value
    if isinstance(value, yaml.MappingNode):
        body = _child(value, "do") or value
    if not isinstance(body, yaml.MappingNode) or _is_flow(value) or _is_flow(body):
        raise ConfigError(
            "is written in braces, which init does not edit",
            where=f"{DVC_FILE}: stages.{name}",
            fix="write the stage as indented lines",
        )
    return StageText(name, key, value, body)


def _shared(top: yaml.Node) -> frozenset[int]:
    """Identities of nodes that are reached on more than one way."""
    seen: set[int] = set()
    twice: set[int] = set()
    waiting: list[yaml.Node] = [top]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            twice.add(id(node))
            continue
        seen.add(id(node))
        waiting += _children(node)
    return frozenset(twice)


def _models(top: yaml.MappingNode) -> Iterator[str]:
    """Paths under ``artifacts`` with ``type: model``."""
    section = _child(top, "artifacts")
    for _, entry in section.value if isinstance(section, yaml.MappingNode) else ():
        kind, path = (_child(entry, name) for name in ("type", "path"))
        marked = isinstance(kind, yaml.ScalarNode) and kind.value == "model"
        if marked and isinstance(path, yaml.ScalarNode):
            yield str(path.value)


def _child(node: yaml.Node, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _key(node: yaml.MappingNode, name: str) -> yaml.Node:
    found: yaml.Node = next(key for key, _ in node.value if key.value == name)
    return found


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _is_flow(node: yaml.Node) -> bool:
    return bool(getattr(node, "flow_style", False))
