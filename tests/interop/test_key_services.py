"""Key services through their vendors' own client libraries, with a service on this machine.

The libraries come with the extras ``vault`` and ``awskms``; without them these tests are skipped.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from forebear.errors import EnvironmentFailure
from forebear.signing.keys import PublicKey
from forebear.signing.token import fetch_public, open_key

VAULT_KEY = ed25519.Ed25519PrivateKey.generate()
AWS_KEY = ec.generate_private_key(ec.SECP256R1())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Service(BaseHTTPRequestHandler):
    """As much of Vault's transit engine and of AWS KMS as telling a key and signing takes."""

    def do_GET(self) -> None:
        raw = VAULT_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._answer({"data": {"keys": {"1": {"public_key": _text(raw)}}}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation == "GetPublicKey":
            der = AWS_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            self._answer({"PublicKey": _text(der), "SigningAlgorithms": ["ECDSA_SHA_256"]})
        elif operation == "Sign":
            digest = base64.b64decode(body["Message"])
            way = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
            self._answer({"Signature": _text(AWS_KEY.sign(digest, way))})
        else:
            sig = VAULT_KEY.sign(base64.b64decode(body["input"]))
            self._answer({"data": {"signature": f"vault:v1:{_text(sig)}"}})

    do_PUT = do_POST  # noqa: N815  # the name that http.server calls

    def _answer(self, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name, value in {
            "VAULT_TOKEN": "t",
            "VAULT_ADDR": f"http://127.0.0.1:{server.server_port}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "t",
            "AWS_SECRET_ACCESS_KEY": "t",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            monkeypatch.setenv(name, value)
        yield
        server.shutdown()
        thread.join()


def _no_secret(name: str) -> bytes:
    raise AssertionError(f"asked for the {name}")


@pytest.mark.parametrize(
    ("library", "uri", "key"),
    [("hvac", "hv:recorder/1", VAULT_KEY), ("boto3", "awskms:alias/owner", AWS_KEY)],
)
@pytest.mark.usefixtures("service")
def test_a_service_signs_and_its_absence_is_explained(
    library: str,
    uri: str,
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    public = tmp_path / "x.pub"
    public.write_bytes(PublicKey(key.public_key()).pem)
    signer = open_key(uri, public=public, secret=_no_secret)
    signer.public.verify(signer.sign(b"data"), b"data")
    assert fetch_public(uri, secret=_no_secret) == signer.public
    for name in ("VAULT_ADDR", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with pytest.raises(EnvironmentFailure, match="did not sign"):
        open_key(uri, public=public, secret=_no_secret).sign(b"data")
