"""The link: what one stage read, ran and wrote, as an in-toto Link.

Beside real files a link names three kinds of virtual artifacts, so that stock in-toto enforces
what it otherwise ignores: ``tree:<dir>`` (digest of the manifest), ``cmd:<stage>`` (of the argv)
and ``params:<stage>`` (of the resolved params). Refuses unknown fields, digests other than
SHA-256, and paths that break the path rules. Verifies no signature and reads no file.

Source: in-toto specification v1.0, section 4.4; provenance page, section 3.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from forebear.errors import FormatError, PathError
from forebear.formats import strictjson
from forebear.formats.pathrule import require_path, require_side_by_side

PAYLOAD_TYPE = "application/vnd.in-toto+json"
TREE = "tree:"
CMD = "cmd:"
PARAMS = "params:"

_FIELDS = {"_type", "name", "command", "materials", "products", "byproducts", "environment"}
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Link:
    """Evidence for one run of one stage.

    Attributes:
        name: stage name, as ``dvc.yaml`` resolves it.
        command: inner argv.
        materials: artifact name to SHA-256 (lower-case hex) of all that was read.
        products: likewise of all that was written.
        byproducts: ``return-value`` and ``forebear`` (run record); JSON values only.
    """

    name: str
    command: tuple[str, ...]
    materials: Mapping[str, str]
    products: Mapping[str, str]
    byproducts: Mapping[str, Any]


def parse_link(payload: bytes, *, where: str) -> Link:
    """Link in the payload of an envelope.

    Args:
        payload: canonical JSON, as ``render_link`` writes it.
        where: name of the file, for the message.

    Raises:
        FormatError: not canonical JSON, a field is missing, unknown or of the wrong type, or an
            artifact name breaks the path rules.
    """
    value = strictjson.parse_canonical(payload, where=where)
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise FormatError(f"a link has exactly the fields {', '.join(sorted(_FIELDS))}", where)
    if value["_type"] != "link":
        raise FormatError("_type must be 'link'", where)
    if value["environment"] != {}:
        raise FormatError("environment must be empty", where)
    command, byproducts = value["command"], value["byproducts"]
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise FormatError("command must be a list of texts", where)
    if not isinstance(byproducts, dict):
        raise FormatError("byproducts must be an object", where)
    link = Link(
        name=value["name"],
        command=tuple(command),
        materials=_parse_artifacts(value["materials"], f"{where}: materials"),
        products=_parse_artifacts(value["products"], f"{where}: products"),
        byproducts=byproducts,
    )
    _require_form(link, where)
    return link


def render_link(link: Link) -> bytes:
    """Payload bytes of ``link``: canonical JSON and a newline.

    Raises:
        FormatError: a name breaks the path rules, a digest is malformed, or a byproduct has no
            canonical form.
    """
    where = f"link of stage {link.name!a}"
    _require_form(link, where)
    return strictjson.dumps(
        {
            "_type": "link",
            "byproducts": dict(link.byproducts),
            "command": list(link.command),
            "environment": {},
            "materials": {name: {"sha256": hexed} for name, hexed in link.materials.items()},
            "name": link.name,
            "products": {name: {"sha256": hexed} for name, hexed in link.products.items()},
        },
        where=where,
    )


def command_digest(argv: Sequence[str]) -> str:
    """Digest of ``cmd:<stage>``: SHA-256 over RFC 8785 of the inner argv.

    Raises:
        FormatError: an argument is not UTF-8.
    """
    return hashlib.sha256(strictjson.canonical(list(argv), where="command")).hexdigest()


def params_digest(params: Mapping[str, Any]) -> str:
    """Digest of ``params:<stage>``: SHA-256 over RFC 8785 of the resolved params sections.

    Raises:
        FormatError: a value (a date, NaN, …) has no canonical form; the message names the key.
    """
    return hashlib.sha256(strictjson.canonical(dict(params), where="params")).hexdigest()


def real_paths(artifacts: Iterable[str]) -> list[PurePosixPath]:
    """Paths of the real files among ``artifacts``: virtual ones left out."""
    return [PurePosixPath(name) for name in artifacts if not is_virtual(name)]


def is_virtual(artifact: str) -> bool:
    """Whether ``artifact`` is a ``tree:``, ``cmd:`` or ``params:`` name."""
    return artifact.startswith((TREE, CMD, PARAMS))


def _parse_artifacts(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FormatError("must be an object", where)
    digests: dict[str, str] = {}
    for name, entry in value.items():
        if not isinstance(entry, dict) or entry.keys() != {"sha256"}:
            raise FormatError("each artifact has exactly one digest, sha256", f"{where}: {name!a}")
        if not isinstance(entry["sha256"], str):
            raise FormatError("the digest must be text", f"{where}: {name!a}")
        digests[name] = entry["sha256"]
    return digests


def _require_form(link: Link, where: str) -> None:
    """The rules that hold for links we read and for links we write."""
    _require_stage_name(link.name, where)
    for field, artifacts in (("materials", link.materials), ("products", link.products)):
        for name, hexed in artifacts.items():
            if not _HEX.fullmatch(hexed):
                raise FormatError(
                    "the digest must be 64 lower-case hex digits", f"{where}: {field}: {name!a}"
                )
            _require_artifact_name(name, f"{where}: {field}")
        try:
            require_side_by_side(name for name in artifacts if not is_virtual(name))
        except PathError as error:
            raise FormatError(error.what, f"{where}: {field}") from error


def _require_artifact_name(name: str, where: str) -> None:
    for prefix in (CMD, PARAMS):
        if name.startswith(prefix):
            _require_stage_name(name.removeprefix(prefix), where)
            return
    try:
        require_path(name.removeprefix(TREE))
    except PathError as error:
        raise FormatError(error.what, where) from error


def _require_stage_name(name: object, where: str) -> None:
    """A stage name becomes a file name (``<stage>.<keyid8>.link``): one clean segment."""
    if not isinstance(name, str):
        raise FormatError("the stage name must be text", where)
    try:
        require_path(name)
    except PathError as error:
        raise FormatError(error.what, where) from error
    if "/" in name:
        raise FormatError(f"the stage name {name[:60]!a} holds a '/'", where)
