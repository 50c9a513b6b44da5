"""A copy of a release that a test may change, and the changes an attacker could make."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forebear.evidence.store import open_evidence
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope, render_envelope
from forebear.formats.link import PAYLOAD_TYPE
from forebear.signing.keys import Signer, load_public
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import sign_envelope
from forebear.verify.result import Report
from forebear.verify.run import verify
from tests.support.release import CHECKPOINT, Simulated

JsonChange = Callable[[dict[str, Any]], None]


@dataclass
class Case:
    """One release folder.

    Attributes:
        folder: the copy.
        built: what it was copied from, with the keys.
        policy: changes to the trust policy of the auditor.
    """

    folder: Path
    built: Simulated
    policy: Mapping[str, Any] | None = None

    def file(self, path: str) -> Path:
        """A file of the release; ``links/sft`` stands for the stage's link."""
        if path.startswith("links/"):
            (found,) = self.folder.glob(f"{path}.*.link")
            return found
        return self.folder / path

    def out(self, path: str) -> Path:
        """A file of the shipped checkpoint."""
        return self.folder / CHECKPOINT / path

    # ── changes ────────────────────────────────────────────────────────────────────────────────

    def change_json(self, path: str, change: JsonChange) -> None:
        """Changes a document and writes it in canonical form, signatures left as they are."""
        file = self.file(path)
        value = strictjson.parse(file.read_bytes(), where=path)
        change(value)
        file.write_bytes(strictjson.dumps(value))

    def change_payload(
        self, path: str, change: JsonChange, *, signer: Signer | None = None, rename: bool = False
    ) -> None:
        """Changes what an envelope holds; signed anew by ``signer``, else the signature stays."""
        file = self.file(path)
        value = strictjson.parse(file.read_bytes(), where=path)
        envelope = parse_envelope(strictjson.dumps(value.get("dsseEnvelope", value)), where=path)
        payload = strictjson.parse(envelope.payload, where=path)
        change(payload)
        data = strictjson.dumps(payload)
        if signer is None:
            signed = render_envelope(replace(envelope, payload=data))
        else:
            signed = sign_envelope(signer, data, envelope.payload_type)
        if "dsseEnvelope" in value:
            value["dsseEnvelope"] = strictjson.parse(signed, where=path)
            signed = strictjson.dumps(value)
        file.write_bytes(signed)
        if rename and signer is not None:
            stage = file.name.rsplit(".", 2)[0]
            file.rename(file.with_name(f"{stage}.{signer.keyid:.8}.link"))

    def resign(self, stage: str, change: JsonChange) -> None:
        """Changes a link and signs it with the recorder's key, as a thief of the key could."""
        self.change_payload(f"links/{stage}", change, signer=self.built.recorder)

    def write_raw_payload(self, stage: str, payload: bytes) -> None:
        """Signs any bytes at all as the stage's link."""
        self.file(f"links/{stage}").write_bytes(
            sign_envelope(self.built.recorder, payload, PAYLOAD_TYPE)
        )

    def renew_sums(self) -> None:
        """Makes ``SHA256SUMS`` agree with what lies in the folder."""
        file = self.folder / "SHA256SUMS"
        lines = []
        for line in file.read_text().splitlines():
            path = line.partition("  ")[2]
            place = self.folder / path
            if place.is_file():
                lines.append(f"{hashlib.sha256(place.read_bytes()).hexdigest()}  {path}\n")
        file.write_text("".join(lines))

    # ── verdicts ───────────────────────────────────────────────────────────────────────────────

    def verify(self, place: Path | None = None) -> Report:
        """Our report, with the owner's key as trust."""
        fields: dict[str, Any] = {"owner_keys": (load_public(self.built.owner_pub),)}
        policy = TrustPolicy(**{**fields, **(self.policy or {})})
        with open_evidence(place or self.folder) as evidence:
            return verify(evidence, policy)

    def stock(self) -> subprocess.CompletedProcess[str]:
        """What stock ``in-toto-verify`` says, in a copy, since it writes into the folder."""
        copy = self.folder.with_name("stock")
        shutil.copytree(self.folder, copy, symlinks=True)
        words = [
            "--layout", "root.layout", "--verification-keys", str(self.built.owner_pub),
            "--link-dir", "links", "--inspection-timeout", "60",
        ]  # fmt: skip
        call = "import sys; from in_toto.in_toto_verify import main; main()"
        return subprocess.run(
            [sys.executable, "-P", "-c", call, *words],
            cwd=copy, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


def failed(report: Report) -> set[str]:
    """Checks that failed."""
    return {result.id for result in report.results if result.status == "failed"}


def status(report: Report, check: str) -> str:
    """Status of one check."""
    return next(result.status for result in report.results if result.id == check)


def as_payload(value: object) -> str:
    """Base64 of a JSON value, loosely written."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def later(years: int) -> datetime:
    """A time that many years from now."""
    return datetime.now(UTC).replace(month=1, day=1).replace(year=datetime.now(UTC).year + years)
