"""The trust policy as a person writes it: a YAML file, checked before it is believed.

    owner_keys: [owner.pub]            # files beside this one, or PEM text
    identities:                        # owners by Sigstore; then owner_keys may be left out
      - identity: release@example.org  # exact name and issuer, no patterns
        issuer: https://accounts.example.org
    trusted_root: trusted_root.json    # needed with identities
    owner_threshold: 1                 # owners who must vouch for a release
    require_sigstore: false            # true: statements of a bare key count for nothing
    attester_keys: [scanner.pub]       # later attestations of others that count
    min_serial: 3
    min_confinement: enforced
    allowed_builders: []
    revoked_keyids: []
    now: 2026-01-31T00:00:00Z          # audit of an old release

Refuses unknown keys, repeated keys, aliases, times without a zone, a policy that trusts nobody,
and a threshold that nobody could reach.

Source: provenance page, section 2, "Trust policy".
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.signing.keys import PublicKey, load_public, parse_public
from forebear.signing.policy import Confinement, Identity, TrustPolicy

_MAX_BYTES = 1024 * 1024
_MAX_FLOW_DEPTH = 32
_KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, Field(min_length=1)]


class _Identity(BaseModel):
    """One Sigstore identity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    identity: _Text
    # sigstore's own policy reads an empty issuer as "any"
    issuer: _Text


class _PolicyFile(BaseModel):
    """Keys of the file; lists because YAML has no tuples."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    owner_keys: Annotated[list[_Text], Field(min_length=1)] | None = None
    identities: Annotated[list[_Identity], Field(min_length=1)] | None = None
    trusted_root: _Text | None = None
    owner_threshold: Annotated[int, Field(ge=1)] = 1
    require_sigstore: bool = False
    attester_keys: list[_Text] = []
    min_serial: Annotated[int, Field(ge=0)] | None = None
    min_confinement: Confinement | None = None
    allowed_builders: list[_Text] = []
    revoked_keyids: list[_KeyId] = []
    now: AwareDatetime | None = None

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        n_owners = len(self.owner_keys or []) + len(self.identities or [])
        faults = []
        if not n_owners:
            faults.append("trusts nobody: give owner_keys, or identities with a trusted_root")
        elif self.owner_threshold > n_owners:
            faults.append(f"owner_threshold {self.owner_threshold} exceeds the {n_owners} owners")
        if (self.identities is None) != (self.trusted_root is None):
            faults.append("identities and trusted_root need one another")
        if self.require_sigstore and self.identities is None:
            faults.append("require_sigstore needs identities")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses what YAML forgives: repeated keys, aliases and deep brackets."""

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level >= _MAX_FLOW_DEPTH:  # the scanner's time grows with its square
            raise yaml.scanner.ScannerError(None, None, "nested too deep", self.get_mark())
        super().fetch_flow_collection_start(token)

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
        EnvironmentFailure: a key file cannot be read, or the trusted root is not there.
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
        owner_keys=_load_keys(written.owner_keys or [], f"{where}: owner_keys", folder),
        identities=tuple(Identity(who.identity, who.issuer) for who in written.identities or []),
        trusted_root=_existing(written.trusted_root, where, folder),
        owner_threshold=written.owner_threshold,
        require_sigstore=written.require_sigstore,
        attester_keys=_load_keys(written.attester_keys, f"{where}: attester_keys", folder),
        min_serial=written.min_serial,
        min_confinement=written.min_confinement,
        allowed_builders=tuple(written.allowed_builders),
        revoked_keyids=frozenset(written.revoked_keyids),
        now=written.now,
    )


def _existing(name: str | None, where: str, folder: Path) -> Path | None:
    if name is None:
        return None
    file = folder / name
    if not file.is_file():
        raise EnvironmentFailure("there is no such file", f"{where}: trusted_root: {file}")
    return file


def _load_keys(texts: list[str], where: str, folder: Path) -> tuple[PublicKey, ...]:
    return tuple(_load_key(text, f"{where}[{index}]", folder) for index, text in enumerate(texts))


def _load_key(text: str, where: str, folder: Path) -> PublicKey:
    if text.startswith("-----BEGIN"):
        return parse_public(text.encode(), where=where)
    return load_public(folder / text)
