"""The one border to YAML: a strict reader for what people write, and a plain writer.

Scalars follow YAML 1.2, so the country ``NO`` and a date stay texts. Anchors, tags, repeated keys
and keys that are no text are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from forebear.errors import ConfigError

_MAX_BYTES = 1024 * 1024
_TEXT = "tag:yaml.org,2002:str"


def parse_mapping(data: bytes, *, where: str) -> dict[str, Any]:
    """The mapping in ``data``; an empty file is an empty mapping.

    Raises:
        ConfigError: larger than 1 MiB, no YAML, not a mapping, or one of the refused forms.
    """
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"is larger than {_MAX_BYTES} bytes", where=where)
    try:
        value = yaml.load(data.decode("utf-8"), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"is no YAML that can be read: {text}", where=where) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("must be a mapping", where=where)
    return value


def dump_mapping(value: dict[str, Any]) -> str:
    """The mapping as block YAML, keys in their order."""
    return str(
        yaml.safe_dump(
            value, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False
        )
    )


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # declared so by the base

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # so in its stubs
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="anchors are not accepted", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != _TEXT or key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem="a key is no text or stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("null", r"null|~|", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )
