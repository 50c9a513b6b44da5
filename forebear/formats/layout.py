"""The layout: the policy of one pipeline, as an in-toto Layout that stock tools enforce.

Derived from the declared pipeline alone, never from what happened, so that a verifier derives it
again and compares. Its first step is the pseudo-step ``source``, signed by the owner. Refuses a
pipeline whose directories cannot be told from its files, unknown fields, and rules that are no
lists of texts. Signs and verifies nothing.

Source: in-toto specification v1.0, section 4.3; provenance page, section 6.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.formats.link import CMD, PARAMS, TREE

SOURCE = "source"
ATTEST = "attest"
DISK = "disk"
SUMS = "SHA256SUMS"
DISK_COMMAND = ("sha256sum", "--check", "--strict", "--quiet", SUMS)
LINKS = "links/"

_FIELDS = {"_type", "expires", "inspect", "keys", "readme", "steps"}
_STEP = {
    "_type",
    "expected_command",
    "expected_materials",
    "expected_products",
    "name",
    "pubkeys",
    "threshold",
}
_INSPECTION = {"_type", "expected_materials", "expected_products", "name", "run"}
_TIME = "%Y-%m-%dT%H:%M:%SZ"

Rule = list[str]


class OutLike(Protocol):
    """What is needed of ``forebear.pipeline.Out``, which lies above this layer."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def is_dir(self) -> bool | None: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102


class StageLike(Protocol):
    """What is needed of ``forebear.pipeline.Stage``."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def cmd(self) -> str: ...  # noqa: D102
    @property
    def deps(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def outs(self) -> Sequence[OutLike]: ...  # noqa: D102
    def options(self) -> Mapping[str, Any]: ...  # noqa: D102


class PipelineLike(Protocol):
    """What is needed of ``forebear.pipeline.Pipeline``."""

    @property
    def stages(self) -> Sequence[StageLike]: ...  # noqa: D102
    @property
    def sources(self) -> Sequence[StageLike]: ...  # noqa: D102


class KeyLike(Protocol):
    """What is needed of ``forebear.signing.keys.PublicKey``."""

    @property
    def keyid(self) -> str: ...  # noqa: D102
    def to_securesystemslib(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a parsed layout.

    Attributes:
        name: stage name, or ``source``.
        keyids: keys of which one must have signed the step's link.
        materials: rules for what was read, in order.
        products: rules for what was written, in order.
    """

    name: str
    keyids: tuple[str, ...]
    materials: tuple[tuple[str, ...], ...]
    products: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class LayoutView:
    """A parsed layout.

    Attributes:
        expires: in UTC.
        keys: PEM of each functionary's public key, by the key id that the layout claims for it.
        steps: in order, ``source`` first.
    """

    expires: datetime
    keys: Mapping[str, bytes]
    steps: tuple[StepView, ...]

    @property
    def keyids(self) -> tuple[str, ...]:
        """Key ids of all functionaries, sorted."""
        return tuple(sorted(self.keys))

    def step(self, name: str) -> StepView | None:
        """The step of that name; None when there is none."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, StepView]:
        return {step.name: step for step in self.steps}


def derive_layout(
    pipeline: PipelineLike,
    *,
    owner: KeyLike,
    recorders: Sequence[KeyLike],
    expires: datetime,
) -> bytes:
    """Payload bytes of the pipeline's layout: canonical JSON and a newline.

    Args:
        pipeline: one of its ``sources`` is named ``source`` and has every dep that no stage
            produces as an out, with its kind (``forebear.release.sources.with_sources``).
        owner: signs ``source``.
        recorders: any of them may sign any stage.
        expires: with a time zone; seconds are the finest unit.

    Raises:
        ConfigError: whether a dep or an out is a directory is not known.
    """
    ids = sorted({key.keyid for key in recorders})
    rules = _Derivation(pipeline)
    steps = [_step(SOURCE, [], [["DISALLOW", "*"]], rules.source_products(), [owner.keyid])]
    steps += [
        _step(stage.name, _command(stage), rules.materials(stage), rules.products(stage), ids)
        for stage in pipeline.stages
    ]
    return strictjson.dumps(
        {
            "_type": "layout",
            "expires": expires.astimezone(UTC).strftime(_TIME),
            "inspect": [
                {
                    "_type": "inspection",
                    "expected_materials": rules.disk(),
                    "expected_products": [],
                    "name": DISK,
                    "run": list(DISK_COMMAND),
                }
            ],
            "keys": {key.keyid: _key_value(key) for key in (owner, *recorders)},
            "readme": "",
            "steps": steps,
        }
    )


def parse_layout(payload: bytes, *, where: str) -> LayoutView:
    """Layout in the payload of an envelope.

    Raises:
        FormatError: not canonical JSON, or a field is missing, unknown or of the wrong type.
    """
    value = strictjson.parse_canonical(payload, where=where)
    _require_fields(value, _FIELDS, where)
    if value["_type"] != "layout":
        raise FormatError("_type must be 'layout'", where)
    if not isinstance(value["keys"], dict) or not isinstance(value["inspect"], list):
        raise FormatError("keys must be an object and inspect a list", where)
    for entry in value["inspect"]:
        _require_fields(entry, _INSPECTION, f"{where}: inspect")
    if not isinstance(value["steps"], list):
        raise FormatError("steps must be a list", where)
    steps = tuple(_parse_step(entry, where) for entry in value["steps"])
    if len({step.name for step in steps}) != len(steps):
        raise FormatError("two steps have the same name", where)
    return LayoutView(
        expires=_parse_time(value["expires"], where),
        keys={keyid: _parse_key(entry, where) for keyid, entry in value["keys"].items()},
        steps=steps,
    )


def escape(name: str) -> str:
    """``name`` as a pattern that matches only itself: glob characters in brackets."""
    return "".join(f"[{one}]" if one in "[*?" else one for one in name)


def shipped_outs(pipeline: PipelineLike) -> tuple[tuple[StageLike, OutLike], ...]:
    """Outs that a release carries, with their stages, sorted by path.

    Those under ``meta: {forebear: {ship: […]}}``; without any, every ``type: model`` out.

    Raises:
        ConfigError: a stage ships what is none of its outs.
    """
    named: list[tuple[StageLike, OutLike]] = []
    for stage in pipeline.stages:
        wanted = stage.options().get("ship") or []
        where = f"dvc.yaml: {stage.name}.meta.forebear.ship"
        if not isinstance(wanted, list):
            raise ConfigError("must be a list of outs", where=where)
        for path in wanted:
            out = next((out for out in stage.outs if out.path == path), None)
            if out is None:
                raise ConfigError(f"ships {path!r}, which is none of the stage's outs", where=where)
            named.append((stage, out))
    models = [
        (stage, out) for stage in pipeline.stages for out in stage.outs if out.kind == "model"
    ]
    return tuple(sorted(named or models, key=lambda pair: pair[1].path))


class _Derivation:
    """Rules of one pipeline."""

    def __init__(self, pipeline: PipelineLike) -> None:
        self._pipeline = pipeline
        self._produced = {
            out.path: (stage.name, out) for stage in pipeline.stages for out in stage.outs
        }
        self._sources = {
            out.path: out
            for stage in pipeline.sources
            for out in stage.outs
            if stage.name == SOURCE
        }

    def materials(self, stage: StageLike) -> list[Rule]:
        """Rules for what the stage reads."""
        declared = (f"{CMD}{stage.name}", f"{PARAMS}{stage.name}")
        rules: list[Rule] = [["REQUIRE", name] for name in declared]
        rules += [_match(escape(name), SOURCE) for name in declared]
        for dep in stage.deps:
            rules += self._dep(dep)
        return _closed(rules)

    def products(self, stage: StageLike) -> list[Rule]:
        """Rules for what the stage writes, its own link left out: no link can name itself."""
        rules: list[Rule] = []
        for out in stage.outs:
            if out.path != f"{LINKS}{stage.name}.link":
                rules += _created(out)
        return _closed(rules)

    def source_products(self) -> list[Rule]:
        """Rules for what the owner vouches for: every source artifact, command and params."""
        rules: list[Rule] = []
        for stage in self._pipeline.stages:
            for name in (f"{CMD}{stage.name}", f"{PARAMS}{stage.name}"):
                rules += [["REQUIRE", name], ["CREATE", escape(name)]]
        for path in sorted(self._sources):
            rules += _created(self._sources[path])
        return _closed(rules)

    def disk(self) -> list[Rule]:
        """Rules for the release folder, in which the inspection runs."""
        rules: list[Rule] = [["REQUIRE", SUMS]]
        for stage in self._pipeline.stages:
            for out in stage.outs:
                if stage.name == ATTEST and _is_dir(out):
                    place = ["WITH", "PRODUCTS", "IN", out.path, "FROM", ATTEST]
                    rules.append(["MATCH", SUMS, *place])
        rules.append(["DISALLOW", SUMS])
        for stage, out in shipped_outs(self._pipeline):
            pattern = escape(out.path) + ("/*" if _is_dir(out) else "")
            rules += [_match(pattern, stage.name), ["DISALLOW", pattern]]
        return [*rules, ["ALLOW", "*"]]

    def _dep(self, dep: str) -> Iterator[Rule]:
        if dep.startswith(LINKS):
            # a forced re-run changes a link's times, though its products are equal
            yield ["REQUIRE", dep]
            yield ["ALLOW", escape(dep)]
            return
        producer, is_dir = self._exact(dep)
        if producer is not None:
            yield ["REQUIRE", f"{TREE}{dep}" if is_dir else dep]
            yield _match(escape(f"{TREE}{dep}" if is_dir else dep), producer)
            if is_dir:
                yield _match(f"{escape(dep)}/*", producer)
            return
        inside = {name for path, (name, _) in self._produced.items() if path.startswith(f"{dep}/")}
        if not inside:
            raise ConfigError(
                "it is not known whether the dep is a directory", where=f"pipeline: {dep}"
            )
        # spans several outs, so that no stage has its tree digest as a product
        yield ["REQUIRE", f"{TREE}{dep}"]
        yield ["ALLOW", escape(f"{TREE}{dep}")]
        for name in sorted(inside):
            yield _match(f"{escape(dep)}/*", name)

    def _exact(self, dep: str) -> tuple[str | None, bool]:
        """The one producer of the dep, and whether it is a directory; None when there are more."""
        if dep in self._produced:
            name, out = self._produced[dep]
            return name, _is_dir(out)
        at = dep.find("/")
        while at > 0:  # its folders, the outermost first
            if dep[:at] in self._produced:
                # matched by file; ``with_sources`` refuses a folder there
                return self._produced[dep[:at]][0], False
            at = dep.find("/", at + 1)
        if dep in self._sources:
            return SOURCE, _is_dir(self._sources[dep])
        return None, True


def _is_dir(out: OutLike) -> bool:
    if out.is_dir is None:
        raise ConfigError(
            "it is not known whether this is a directory", where=f"pipeline: {out.path}"
        )
    return out.is_dir


def _created(out: OutLike) -> list[Rule]:
    if not _is_dir(out):
        return [["REQUIRE", out.path], ["CREATE", escape(out.path)]]
    tree = f"{TREE}{out.path}"
    return [["REQUIRE", tree], ["CREATE", escape(tree)], ["CREATE", f"{escape(out.path)}/*"]]


def _closed(rules: list[Rule]) -> list[Rule]:
    """The rules with REQUIRE first and nothing else allowed.

    REQUIRE sees only what no earlier rule consumed, and one dep may lie inside another.
    """
    return [*sorted(rules, key=lambda rule: rule[0] != "REQUIRE"), ["DISALLOW", "*"]]


def _match(pattern: str, step: str) -> Rule:
    return ["MATCH", pattern, "WITH", "PRODUCTS", "FROM", step]


def _command(stage: StageLike) -> list[str]:
    """Inner argv, for stock in-toto's warning; ``cmd:`` is what enforces it."""
    words = shlex.split(stage.cmd)
    return words[words.index("--") + 1 :] if "--" in words else words


def _step(
    name: str, command: list[str], materials: list[Rule], products: list[Rule], keyids: list[str]
) -> dict[str, Any]:
    return {
        "_type": "step",
        "expected_command": command,
        "expected_materials": materials,
        "expected_products": products,
        "name": name,
        "pubkeys": keyids,
        "threshold": 1,
    }


def _key_value(key: KeyLike) -> dict[str, Any]:
    known = key.to_securesystemslib()
    return {
        "keyid": key.keyid,
        "keytype": str(known.keytype),
        "keyval": {"public": str(known.keyval["public"])},
        "scheme": str(known.scheme),
    }


def _require_fields(value: Any, fields: set[str], where: str) -> None:
    if not isinstance(value, dict) or value.keys() != fields:
        raise FormatError(f"must have exactly the fields {', '.join(sorted(fields))}", where)


def _parse_step(value: Any, where: str) -> StepView:
    _require_fields(value, _STEP, f"{where}: steps")
    if value["_type"] != "step" or not isinstance(value["name"], str) or value["threshold"] != 1:
        raise FormatError("a step has a name and the threshold 1", f"{where}: steps")
    at = f"{where}: {value['name'][:60]!a}"
    return StepView(
        name=value["name"],
        keyids=_texts(value["pubkeys"], f"{at}: pubkeys"),
        materials=_rules(value["expected_materials"], f"{at}: expected_materials"),
        products=_rules(value["expected_products"], f"{at}: expected_products"),
    )


def _rules(value: object, where: str) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list):
        raise FormatError("must be a list of rules", where)
    return tuple(_texts(rule, where) for rule in value)


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise FormatError("must be a list of texts", where)
    return tuple(value)


def _parse_time(value: object, where: str) -> datetime:
    try:
        return datetime.strptime(str(value), _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise FormatError("expires must be a time such as 2030-01-31T00:00:00Z", where) from error


def _parse_key(value: Any, where: str) -> bytes:
    at = f"{where}: keys"
    _require_fields(value, {"keyid", "keytype", "keyval", "scheme"}, at)
    _require_fields(value["keyval"], {"public"}, at)
    public = value["keyval"]["public"]
    if not isinstance(public, str):
        raise FormatError("the public key must be text", at)
    if public.startswith("-----BEGIN"):
        return public.encode()
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    except ValueError as error:
        raise FormatError("holds no public key", at) from error
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
