"""A stage's command put under the recorder and taken out again, within the text of ``dvc.yaml``.

DVC gives a command to a shell; the recorder runs words without one. So a command that is plain
words is only prefixed, and any other becomes the script of a shell that the recorder runs:
``sh -c 'SCRIPT' STAGE``, the stage's name being the shell's own name in its messages. Both are
insertions into the text, so that taking them out restores it, also after other edits.

Refuses a command whose form cannot be turned back.

Rests on: provenance page, section 4; POSIX.1, "Shell Command Language", sections 2.2 to 2.6.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import yaml

from forebear.errors import ConfigError
from forebear.foreign.dvcyaml import MARK, Document, Edit, StageText
from forebear.pipeline import DVC_FILE

SHELLS = ("sh", "bash")
# What a shell would expand, divide or redirect when it stands outside of quotes.
_SPECIAL = re.compile(r"[|&;<>()$`*?\[\]{}~!#\\\n\r]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
# Words that a shell alone understands, or does otherwise than the program of that name.
_BUILTINS = re.compile(
    r"\.|alias|break|bg|case|cd|command|continue|declare|do|eval|exec|exit|export|fg|for|function|"
    r"getopts|hash|if|jobs|let|local|popd|pushd|read|readonly|return|select|set|shift|shopt|source|"
    r"time|times|trap|type|typeset|ulimit|umask|unalias|unset|until|wait|while"
)
_QUOTED = "'\\''"
_KEPT = "# |"


def needs_shell(command: str) -> bool:
    """Whether a shell would make anything else of the command than its plain words."""
    command = command.strip()
    try:
        words = shlex.split(command)
    except ValueError:
        return True
    if not words or _BUILTINS.fullmatch(words[0]) or _ASSIGNMENT.match(words[0]):
        return True
    outside, double = _parts(command)
    return bool(_SPECIAL.search(outside)) or any(mark in double for mark in "$`\\!")


def commands_of(command: str | Sequence[str]) -> list[str]:
    """The commands that DVC runs one after the other: a list's items, else a text's lines."""
    found = command.splitlines() if isinstance(command, str) else command
    return [one.strip() for one in found if one.strip() and not one.strip().startswith("#")]


def script_of(commands: Sequence[str]) -> str:
    """One script for several commands: each in a shell of its own, until one fails, as in DVC."""
    return " && ".join(f"(\n{command}\n)" for command in commands)


def prefix(name: str) -> str:
    """What stands before the command of the stage."""
    return f"forebear record {name} -- "


def is_plain(command: str | Sequence[str]) -> bool:
    """Whether the command is one, of plain words: it needs no shell."""
    return _is_one(command) and not needs_shell(str(command))


def recorded(command: str | Sequence[str], name: str, shell: str) -> tuple[str, ...]:
    """Words that the recorder is to run for the command.

    Args:
        command: as DVC resolves it: one, or a list.
        name: of the resolved stage.
        shell: runs it; empty for plain words.
    """
    if not shell:
        return tuple(shlex.split(str(command)))
    script = str(command).strip() if _is_one(command) else script_of(commands_of(command))
    return (shell, "-c", script, name)


def _is_one(command: str | Sequence[str]) -> bool:
    return isinstance(command, str) and len(command.strip().splitlines()) == 1


def wrap(document: Document, stage: StageText, name: str, shell: str) -> list[Edit]:
    """Edits that put the stage's command under the recorder.

    Args:
        document: holds the stage.
        stage: not recorded yet.
        name: as the recorder is to be given it; may hold ``${item}`` or ``${key}``.
        shell: runs the command; empty for one of plain words.

    Raises:
        ConfigError: the command stands in a form that cannot be edited.
    """
    node = _cmd(document, stage)
    if isinstance(node, yaml.SequenceNode) or not _is_one(str(node.value)):
        return _wrap_several(document, stage, node, name, shell)
    start, end = _content(document.text, node)
    if not shell:
        return [Edit(start, start, prefix(name))]
    coded = _Coded(str(getattr(node, "style", None) or ""))
    quote = coded.of("'")
    quotes = [
        Edit(found.start() + start, found.end() + start, coded.of(_QUOTED))
        for found in re.finditer(re.escape(quote), document.text[start:end])
    ]
    return [
        Edit(start, start, coded.of(f"{prefix(name)}{shell} -c '")),
        *quotes,
        Edit(end, end, coded.of(f"' {name}")),
    ]


def unwrap(document: Document, stage: StageText, name: str) -> list[Edit]:
    """Edits that take back what :func:`wrap` did; empty when nothing of it is left.

    Raises:
        ConfigError: the command was changed so that its former text is not known.
    """
    node = _cmd(document, stage)
    kept = _kept(document, stage)
    if kept:
        return _unwrap_several(document, node, kept, name)
    if not isinstance(node, yaml.ScalarNode):
        return []
    start, end = _content(document.text, node)
    coded = _Coded(str(node.style or ""))
    text = document.text[start:end]
    before = prefix(name)
    if not text.startswith(before):
        return []
    for shell in SHELLS:
        opening, closing = coded.of(f"{before}{shell} -c '"), coded.of(f"' {name}")
        if text.startswith(opening) and text.endswith(closing):
            script = text[len(opening) : len(text) - len(closing)]
            return [Edit(start, end, script.replace(coded.of(_QUOTED), coded.of("'")))]
    return [Edit(start, start + len(before), "")]


class _Coded:
    """Text as it is written within a scalar of one style."""

    def __init__(self, style: str) -> None:
        self._style = style

    def of(self, text: str) -> str:
        if self._style == "'":
            return text.replace("'", "''")
        return text.replace("\\", "\\\\") if self._style == '"' else text


def _cmd(document: Document, stage: StageText) -> yaml.Node:
    node = stage.value("cmd")
    where = f"stages.{stage.name}"
    if node is None:
        raise ConfigError("has no cmd of its own", where=f"{DVC_FILE}: {where}", fix="write it out")
    document.require_plain(stage.body, where)
    document.require_plain(node, f"{where}.cmd")
    return node


def _content(text: str, node: yaml.Node) -> tuple[int, int]:
    """Where the value of a scalar stands, without quotes, header, and space around."""
    start, end = node.start_mark.index, node.end_mark.index
    if getattr(node, "style", None) in ("'", '"'):
        start, end = start + 1, end - 1
    elif getattr(node, "style", None) in ("|", ">"):
        start = text.index("\n", start) + 1
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip())


def _wrap_several(
    document: Document, stage: StageText, node: yaml.Node, name: str, shell: str
) -> list[Edit]:
    """Several commands become one script; their lines stay as comments, so that they come back.

    A list of one, since DVC would take the lines of a text for commands of their own.
    """
    indent = " " * stage.body.start_mark.column
    end = document.content_end(node)
    start = document.line_start(stage.start("cmd"))
    lines = document.text[start:end].split(document.newline)
    script = _script_call(name, shell, _written(node, stage.name))
    inner = [f"{indent}  {line}" for line in script.split("\n")]
    comment = [f"{indent}{_KEPT} {line}".rstrip() for line in lines]
    head = [f"{indent}cmd:  {MARK}", f"{indent}- |-"]
    return [Edit(start, end, document.newline.join([*comment, *head, *inner]))]


def _written(node: yaml.Node, name: str) -> str | list[str]:
    """The commands as a node has them, without DVC's templates resolved."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        raise ConfigError("is no list of commands", where=f"{DVC_FILE}: stages.{name}.cmd")
    return [str(item.value) for item in node.value]


def _script_call(name: str, shell: str, commands: str | Sequence[str]) -> str:
    script = script_of(commands_of(commands)).replace("'", _QUOTED)
    return f"{prefix(name)}{shell} -c '{script}' {name}"


def _kept(document: Document, stage: StageText) -> list[tuple[int, str]]:
    """Start and text of the comment lines above a command that init made of several."""
    at = document.line_start(stage.start("cmd"))
    if not document.is_marked(at):
        return []
    found: list[tuple[int, str]] = []
    while at > 0:
        at = document.line_start(at - 1)
        line = document.line(at).lstrip(" ")
        if not line.startswith(_KEPT):
            break
        found.insert(0, (at, line.removeprefix(_KEPT).removeprefix(" ")))
    return found


def _unwrap_several(
    document: Document, node: yaml.Node, kept: list[tuple[int, str]], name: str
) -> list[Edit]:
    text = document.newline.join(line for _, line in kept)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    commands = value.get("cmd") if isinstance(value, dict) else None
    now = [str(item.value) for item in node.value] if isinstance(node, yaml.SequenceNode) else []
    made = [[_script_call(name, shell, commands)] for shell in SHELLS] if commands else []
    if now not in made:
        raise ConfigError(
            "was changed since init made one command of several, so they cannot come back",
            where=f"{DVC_FILE}: {name}.cmd",
            fix="write it by hand; the former lines stand above it as comments",
        )
    return [Edit(kept[0][0], document.content_end(node), text)]


def _parts(command: str) -> tuple[str, str]:
    """What stands outside of quotes, and what stands in double quotes."""
    outside, double, quote = "", "", ""
    for one in command:
        if quote:
            if one == quote:
                quote = ""
            elif quote == '"':
                double += one
        elif one in "'\"":
            quote = one
        else:
            outside += one
    return outside, double
