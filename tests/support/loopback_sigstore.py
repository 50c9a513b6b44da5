"""A Sigstore instance on 127.0.0.1: OIDC, a CA with its CT log, Rekor v1 and v2, a TSA.

Everything is real but small: keys are made at start, logs live in memory, and the trust files that
clients read come from :meth:`Loopback.trust_config`. :class:`Forge` makes bundles without the
clients' help, so that tests can play a CA or log that misbehaves.

Source: provenance page, section 8; RFC 9162 (Merkle tree).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import rfc8785
from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from forebear.formats.dsse import pae
from tests.support.loopback_pki import (
    Authority,
    CtLog,
    EcKey,
    LogKey,
    Tsa,
    b64,
    der,
    new_key,
    pem,
    san,
    sign,
    spki,
)

IN_TOTO = "application/vnd.in-toto+json"


# ── transparency log ───────────────────────────────────────────────────────────────────────────


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _root(leaves[:half]) + _root(leaves[half:])).digest()


def _path(leaves: list[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*_path(leaves[:half], index), _root(leaves[half:])]
    return [*_path(leaves[half:], index - half), _root(leaves[:half])]


@dataclass
class Rekor:
    """A Merkle log; ``origin`` without spaces."""

    key: LogKey
    origin: str
    offset: int = 0
    _leaves: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the log's public key."""
        return hashlib.sha256(spki(self.key)).digest()

    def checkpoint(self, size: int, root: bytes) -> str:
        """A signed note about the tree."""
        note = f"{self.origin}\n{size}\n{b64(root)}\n"
        signature = b64(self.key_id[:4] + sign(self.key, note.encode()))
        return f"{note}\n\u2014 {self.origin} {signature}\n"

    def add(self, body: bytes) -> dict[str, Any]:
        """Appends an entry; index, tree size, root and path of its proof, and the checkpoint."""
        with self._lock:
            self._leaves.append(hashlib.sha256(b"\0" + body).digest())
            index, size = len(self._leaves) - 1, len(self._leaves)
            root, path = _root(self._leaves), _path(self._leaves, index)
        return {
            "logIndex": index,
            "treeSize": size,
            "rootHash": root,
            "hashes": path,
            "checkpoint": self.checkpoint(size, root),
        }

    def promise(self, body: bytes, at: int, index: int) -> bytes:
        """Signed entry timestamp."""
        value = {
            "body": b64(body),
            "integratedTime": at,
            "logID": self.key_id.hex(),
            "logIndex": index,
        }
        return sign(self.key, rfc8785.dumps(value))

    def entry_v1(self, body: bytes, kind: str, *, at: int | None = None) -> dict[str, Any]:
        """A new entry as Rekor v1 promises and a bundle holds it."""
        when = int(time.time()) if at is None else at
        proof = self.add(body)
        index = proof["logIndex"] + self.offset
        entry = self._entry(body, kind, "0.0.1", index, proof)
        entry["integratedTime"] = str(when)
        entry["inclusionPromise"] = {"signedEntryTimestamp": b64(self.promise(body, when, index))}
        return entry

    def entry_v2(self, body: bytes) -> dict[str, Any]:
        """A new entry as Rekor v2 answers and a bundle holds it."""
        proof = self.add(body)
        return self._entry(body, "hashedrekord", "0.0.2", proof["logIndex"], proof)

    def _entry(
        self, body: bytes, kind: str, version: str, index: int, proof: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "logIndex": str(index),
            "logId": {"keyId": b64(self.key_id)},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": str(proof["logIndex"]),
                "rootHash": b64(proof["rootHash"]),
                "treeSize": str(proof["treeSize"]),
                "hashes": [b64(item) for item in proof["hashes"]],
                "checkpoint": {"envelope": proof["checkpoint"]},
            },
            "canonicalizedBody": b64(body),
        }


def dsse_body(envelope: dict[str, Any], verifier: str) -> bytes:
    """Body of a ``dsse`` 0.0.1 entry; ``verifier`` is the PEM in base64."""
    (signature,) = envelope["signatures"]
    text = json.dumps(envelope, separators=(",", ":")).encode()
    payload = base64.b64decode(envelope["payload"])
    return rfc8785.dumps(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": _hash_of(text),
                "payloadHash": _hash_of(payload),
                "signatures": [{"signature": signature["sig"], "verifier": verifier}],
            },
        }
    )


def _hash_of(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def hashedrekord_body(request: dict[str, Any]) -> bytes:
    """Body of a ``hashedrekord`` 0.0.2 entry."""
    asked = request["hashedRekordRequestV002"]
    spec = {
        "data": {"algorithm": "SHA2_256", "digest": asked["digest"]},
        "signature": asked["signature"],
    }
    return rfc8785.dumps(
        {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}}
    )


# ── the instance ───────────────────────────────────────────────────────────────────────────────


@dataclass
class Loopback:
    """One instance; ``url`` is set while it is served."""

    ca: Authority = field(default_factory=lambda: Authority.make("fulcio"))
    ct: CtLog = field(default_factory=CtLog)
    v1: Rekor = field(default_factory=lambda: Rekor(new_key(), "rekor.loopback", offset=1000))
    v2: Rekor = field(
        default_factory=lambda: Rekor(ed25519.Ed25519PrivateKey.generate(), "log2.loopback")
    )
    tsa: Tsa = field(default_factory=lambda: Tsa.make("tsa"))
    oidc_key: EcKey = field(default_factory=new_key)
    url: str = "http://127.0.0.1:9"

    @property
    def issuer(self) -> str:
        """Name of the OIDC issuer."""
        return f"{self.url}/oidc"

    def token(
        self, identity: str, *, issuer: str = "", lifetime_s: int = 600, **claims: Any
    ) -> str:
        """An identity token."""
        now = int(time.time())
        value = {
            "iss": issuer or self.issuer,
            "sub": identity,
            "aud": "sigstore",
            "iat": now,
            "exp": now + lifetime_s,
            **claims,
        }
        return jwt.encode(value, self.oidc_key, algorithm="ES256")

    def trusted_root(self) -> dict[str, Any]:
        """What a verifier trusts."""
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                self._log("/rekor1", self.v1.key),
                self._log("/rekor2", self.v2.key),
            ],
            "certificateAuthorities": [self._authority("/fulcio", self.ca.chain)],
            "ctlogs": [self._log("/ct", self.ct.key)],
            "timestampAuthorities": [self._authority("/tsa", self.tsa.chain)],
        }

    def trust_config(self, rekor: int = 1) -> dict[str, Any]:
        """What a signer is configured with; Rekor v2 comes with the TSA that it needs."""
        tsas = [self._service("/tsa")] if rekor == 2 else []
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [self._service("/fulcio")],
                "oidcUrls": [self._service("/oidc")],
                "rekorTlogUrls": [self._service(f"/rekor{rekor}", version=rekor)],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": tsas,
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def _service(self, path: str, *, version: int = 1) -> dict[str, Any]:
        return {
            "url": f"{self.url}{path}",
            "majorApiVersion": version,
            "validFor": {"start": "2020-01-01T00:00:00Z"},
            "operator": "loopback",
        }

    def _log(self, path: str, key: LogKey) -> dict[str, Any]:
        edwards = isinstance(key, ed25519.Ed25519PrivateKey)
        return {
            "baseUrl": f"{self.url}{path}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(spki(key)),
                "keyDetails": "PKIX_ED25519" if edwards else "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            },
            "logId": {"keyId": b64(hashlib.sha256(spki(key)).digest())},
        }

    def _authority(self, path: str, chain: list[x509.Certificate]) -> dict[str, Any]:
        return {
            "subject": {"organization": "loopback", "commonName": "loopback"},
            "uri": f"{self.url}{path}",
            "certChain": {"certificates": [{"rawBytes": b64(der(item))} for item in chain]},
            "validFor": {"start": "2020-01-01T00:00:00Z"},
        }

    # ── what the services answer ───────────────────────────────────────────────────────────────

    def certify(self, request: dict[str, Any], token: str) -> dict[str, Any]:
        """Fulcio: a certificate for the identity of a valid token."""
        claims = jwt.decode(
            token, self.oidc_key.public_key(), algorithms=["ES256"], audience="sigstore"
        )
        asked = base64.b64decode(request["certificateSigningRequest"])
        wanted = x509.load_pem_x509_csr(asked)
        if not wanted.is_signature_valid:
            raise ValueError("no proof of possession")
        leaf = self.ca.leaf(
            _Public(wanted.public_key()),  # type: ignore[arg-type]  # only its public half is used
            sans=[san(claims.get("email", claims["sub"]))],
            issuer=claims["iss"],
            start=datetime.now(UTC) - timedelta(seconds=1),
            sct=self.ct,
        )
        chain = [pem(leaf), *(pem(item) for item in self.ca.chain)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def log_v1(self, request: dict[str, Any]) -> dict[str, Any]:
        """Rekor v1: an entry in the form of its own API."""
        if request["kind"] == "dsse":
            proposed = request["spec"]["proposedContent"]
            body = dsse_body(json.loads(proposed["envelope"]), proposed["verifiers"][0])
        else:
            body = rfc8785.dumps(request)
        entry = self.v1.entry_v1(body, request["kind"])
        proof = entry["inclusionProof"]
        return {
            hashlib.sha256(body).hexdigest(): {
                "body": entry["canonicalizedBody"],
                "integratedTime": int(entry["integratedTime"]),
                "logID": self.v1.key_id.hex(),
                "logIndex": int(entry["logIndex"]),
                "verification": {
                    "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
                    "inclusionProof": {
                        "logIndex": int(proof["logIndex"]),
                        "treeSize": int(proof["treeSize"]),
                        "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                        "hashes": [base64.b64decode(item).hex() for item in proof["hashes"]],
                        "checkpoint": proof["checkpoint"]["envelope"],
                    },
                },
            }
        }

    def log_v2(self, request: dict[str, Any]) -> dict[str, Any]:
        """Rekor v2: an entry in the form of a bundle."""
        return self.v2.entry_v2(hashedrekord_body(request))


@dataclass
class _Public:
    """A public key where a private one is expected: certificates need no more of the signer."""

    _key: Any

    def public_key(self) -> Any:
        return self._key


@contextmanager
def serve(instance: Loopback) -> Iterator[Loopback]:
    """Serves the instance on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(instance))
    server.daemon_threads = True
    instance.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield instance
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _route(instance: Loopback, path: str, data: bytes, token: str) -> tuple[int, Any]:
    """Status and answer to a POST."""
    if path == "/tsa":
        return 200, instance.tsa.answer(tsp.TimeStampReq.load(data))
    routes: dict[str, tuple[int, Callable[[Any], Any]]] = {
        "/api/v2/signingCert": (200, lambda value: instance.certify(value, token)),
        "/rekor1/api/v1/log/entries": (201, instance.log_v1),
        "/rekor2/api/v2/log/entries": (201, instance.log_v2),
    }
    if path not in routes:
        return 404, {"code": 404, "message": "not here"}
    status, work = routes[path]
    return status, work(json.loads(data))


def _handler(instance: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/oidc/.well-known/openid-configuration":
                self.answer(404, {})
                return
            oidc = {name: f"{instance.issuer}/{name}" for name in ("authorization", "token")}
            self.answer(200, {f"{name}_endpoint": address for name, address in oidc.items()})

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            try:
                self.answer(*_route(instance, self.path, data, token))
            except (ValueError, KeyError, jwt.PyJWTError) as error:
                self.answer(400, {"code": 400, "message": str(error)})

        def answer(self, status: int, value: dict[str, Any] | bytes) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler


# ── forged bundles ─────────────────────────────────────────────────────────────────────────────


@dataclass
class Forge:
    """Makes a bundle as a dishonest signer with the help of a dishonest service could.

    Attributes:
        instance: whose CA, logs and TSA sign.
        identity: name in the certificate; several are separated by spaces.
        issuer: who vouched for it, as the certificate says.
        rekor: 1 or 2.
        ca: another authority.
        sct: makes the SCT list; None is returned for a certificate without one.
        born: start of the certificate's ten minutes.
        at: when log or TSA saw the signature.
    """

    instance: Loopback
    identity: str
    issuer: str
    rekor: int = 1
    ca: Authority | None = None
    sct: Callable[[bytes, bytes], bytes | None] | None = None
    born: datetime | None = None
    at: datetime | None = None

    def bundle(self, payload: bytes, payload_type: str = IN_TOTO) -> dict[str, Any]:
        """The bundle as JSON values."""
        key, now = new_key(), datetime.now(UTC)
        leaf = (self.ca or self.instance.ca).leaf(
            key,
            sans=[san(name) for name in self.identity.split(" ")],
            issuer=self.issuer,
            start=self.born or now - timedelta(seconds=1),
            sct=self.sct or self.instance.ct,
        )
        signature = sign(key, pae(payload_type, payload))
        envelope = {
            "payload": b64(payload),
            "payloadType": payload_type,
            "signatures": [{"sig": b64(signature)}],
        }
        at = self.at or now
        material: dict[str, Any] = {"certificate": {"rawBytes": b64(der(leaf))}}
        if self.rekor == 1:
            body = dsse_body(envelope, b64(pem(leaf).encode()))
            material["tlogEntries"] = [
                self.instance.v1.entry_v1(body, "dsse", at=int(at.timestamp()))
            ]
            stamps = []
        else:
            asked = {
                "digest": b64(hashlib.sha256(pae(payload_type, payload)).digest()),
                "signature": {
                    "content": b64(signature),
                    "verifier": {
                        "x509Certificate": {"rawBytes": b64(der(leaf))},
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    },
                },
            }
            body = hashedrekord_body({"hashedRekordRequestV002": asked})
            material["tlogEntries"] = [self.instance.v2.entry_v2(body)]
            stamps = [{"signedTimestamp": b64(self.instance.tsa.stamp(signature, at=at))}]
        material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }
