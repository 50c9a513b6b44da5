"""The trust policy as a person writes it: a YAML file, checked before it is believed.

    owner_keys: [owner.pub]            # files beside this one, or PEM text
    min_serial: 3
    min_confinement: enforced
    allowed_builders: []
    revoked_keyids: []
    now: 2026-01-31T00:00:00Z          # audit of an old release

Refuses unknown keys, repeated keys, aliases, and times without a zone.

Source: provenance page, section 2, "Trust policy".
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from forebear.errors import ConfigError
from forebear.signing.keys import PublicKey, load_public, parse_public
from forebear.signing.policy import Confinement, TrustPolicy

_MAX_BYTES = 1024 * 1024
_KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, Field(min_length=1)]


class _PolicyFile(BaseModel):
    """Keys of the file; lists because YAML has no tuples."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    owner_keys: Annotated[list[_Text], Field(min_length=1)]
    min_serial: Annotated[int, Field(ge=0)] | None = None
    min_confinement: Confinement | None = None
    allowed_builders: list[_Text] = []
    revoked_keyids: list[_KeyId] = []
    now: AwareDatetime | None = None


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses what YAML forgives: repeated keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "aliases are not allowed", parent.start_mark if parent else None
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "a key stands here twice", node.start_mark
            )
        return mapping


def parse_policy(data: bytes, *, where: str, folder: Path) -> TrustPolicy:
    """Policy in the bytes of a YAML file.

    Args:
        data: the file.
        where: its name, for the message.
        folder: where relative key files lie.

    Raises:
        ConfigError: the YAML does not hold; one line per fault.
        EnvironmentFailure: a key file cannot be read.
        FormatError: a key is neither Ed25519 nor P-256.
    """
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"a trust policy is at most {_MAX_BYTES} bytes long", where)
    try:
        value = yaml.load(data, Loader=_Loader)  # noqa: S506  # a subclass of SafeLoader
    # ValueError: SafeLoader lets a date such as 2026-13-01 escape. Depth: a plain RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"is not YAML: {first}", where) from error
    try:
        written = _PolicyFile.model_validate(value)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines), where) from error
    return TrustPolicy(
        owner_keys=tuple(
            _load_key(text, f"{where}: owner_keys[{index}]", folder)
            for index, text in enumerate(written.owner_keys)
        ),
        min_serial=written.min_serial,
        min_confinement=written.min_confinement,
        allowed_builders=tuple(written.allowed_builders),
        revoked_keyids=frozenset(written.revoked_keyids),
        now=written.now,
    )


def _load_key(text: str, where: str, folder: Path) -> PublicKey:
    if text.startswith("-----BEGIN"):
        return parse_public(text.encode(), where=where)
    return load_public(folder / text)
