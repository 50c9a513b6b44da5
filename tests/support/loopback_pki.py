"""Certificates, certificate timestamps and time stamps of the loopback Sigstore instance.

Source: provenance page, section 8; RFC 6962 (SCT), RFC 3161 (time stamps), RFC 5035
(signing-certificate-v2).
"""

from __future__ import annotations

import base64
import hashlib
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

ISSUER_RAW = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_DER = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
LIFETIME = timedelta(minutes=10)

EcKey = ec.EllipticCurvePrivateKey
LogKey = EcKey | ed25519.Ed25519PrivateKey


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()


def new_key() -> EcKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: LogKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sign(key: LogKey, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


# ── certificates ───────────────────────────────────────────────────────────────────────────────


def _key_usage(**on: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


def _extended_usage(usage: ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([usage])


def _name(text: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "loopback"),
            x509.NameAttribute(NameOID.COMMON_NAME, text),
        ]
    )


def _builder(
    subject: x509.Name, key: EcKey, issuer: x509.Name, issuer_key: EcKey, start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:  # fmt: skip
    public = issuer_key.public_key()
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )


@dataclass
class Authority:
    """A root and an intermediate; ``key`` is the intermediate's."""

    key: EcKey
    chain: list[x509.Certificate]

    @classmethod
    def make(cls, text: str) -> Authority:
        """New keys under the names ``<text>-root`` and ``<text>``."""
        now = datetime.now(UTC)
        start, end = now - timedelta(days=400), now + timedelta(days=400)
        root_key, key = new_key(), new_key()
        made = []
        for subject, own in ((f"{text}-root", root_key), (text, key)):
            builder = _builder(_name(subject), own, _name(f"{text}-root"), root_key, start, end)
            made.append(
                builder.add_extension(
                    x509.BasicConstraints(ca=True, path_length=None), critical=True
                )
                .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
                .sign(root_key, hashes.SHA256())
            )
        return cls(key, [made[1], made[0]])

    def leaf(
        self,
        public: EcKey,
        *,
        sans: list[x509.GeneralName],
        issuer: str,
        start: datetime,
        sct: Callable[[bytes, bytes], bytes | None],
    ) -> x509.Certificate:
        """A code-signing certificate.

        Args:
            public: the signer's key.
            sans: names of the signer.
            issuer: who vouched for the name.
            start: of its ten minutes.
            sct: makes the SCT list from the issuer's key hash and the precertificate.
        """
        text = issuer.encode()
        builder = (
            _builder(x509.Name([]), public, self.chain[0].subject, self.key, start,
                     start + LIFETIME)
            .add_extension(x509.SubjectAlternativeName(sans), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(_extended_usage(ExtendedKeyUsageOID.CODE_SIGNING), critical=False)
            .add_extension(x509.UnrecognizedExtension(ISSUER_RAW, text), critical=False)
            .add_extension(
                x509.UnrecognizedExtension(ISSUER_DER, core.UTF8String(issuer).dump()),
                critical=False,
            )
        )  # fmt: skip
        precertificate = builder.sign(self.key, hashes.SHA256()).tbs_certificate_bytes
        listed = sct(hashlib.sha256(spki(self.key)).digest(), precertificate)
        if listed is not None:
            extension = x509.UnrecognizedExtension(SCT_LIST, core.OctetString(listed).dump())
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def san(identity: str) -> x509.GeneralName:
    """The name as Fulcio writes it: an address or a URI."""
    if "://" in identity:
        return x509.UniformResourceIdentifier(identity)
    return x509.RFC822Name(identity)


@dataclass
class CtLog:
    """Signs certificate timestamps and keeps nothing."""

    key: EcKey = field(default_factory=new_key)

    def __call__(self, issuer_key_hash: bytes, precertificate: bytes) -> bytes:
        """SCT list with one SCT."""
        at = time.time_ns() // 1_000_000
        length = struct.pack("!I", len(precertificate))[1:]
        entry = issuer_key_hash + length + precertificate
        signed = struct.pack("!BBQH", 0, 0, at, 1) + entry + struct.pack("!H", 0)
        signature = sign(self.key, signed)
        sct = struct.pack("!B", 0) + hashlib.sha256(spki(self.key)).digest()
        sct += struct.pack("!QHBBH", at, 0, 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(sct) + 2, len(sct)) + sct


# ── time stamps ────────────────────────────────────────────────────────────────────────────────


@dataclass
class Tsa:
    """A time-stamping authority; its chain is leaf, root."""

    key: EcKey
    chain: list[x509.Certificate]

    @classmethod
    def make(cls, text: str) -> Tsa:
        """New keys under the names ``<text>-root`` and ``<text>``."""
        authority, key = Authority.make(text), new_key()
        start = datetime.now(UTC) - timedelta(days=300)
        leaf = (
            _builder(_name(f"{text}-leaf"), key, authority.chain[0].subject, authority.key, start,
                     start + timedelta(days=600))
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(_extended_usage(ExtendedKeyUsageOID.TIME_STAMPING), critical=True)
            .sign(authority.key, hashes.SHA256())
        )  # fmt: skip
        return cls(key, [leaf, *authority.chain])

    def stamp(self, data: bytes, *, at: datetime | None = None) -> bytes:
        """Time-stamp response over ``data``."""
        return self.answer(
            tsp.TimeStampReq(
                {
                    "version": 1,
                    "message_imprint": {
                        "hash_algorithm": {"algorithm": "sha256"},
                        "hashed_message": hashlib.sha256(data).digest(),
                    },
                    "nonce": 1,
                }
            ),
            at=at,
        )

    def answer(self, request: tsp.TimeStampReq, *, at: datetime | None = None) -> bytes:
        """Response to a request: sha256 imprint, nonce echoed, signing-certificate-v2."""
        sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
        info = tsp.TSTInfo(
            {
                "version": 1,
                "policy": "1.2.3.4",
                "message_imprint": request["message_imprint"],
                "serial_number": x509.random_serial_number(),
                "gen_time": (at or datetime.now(UTC)).replace(microsecond=0),
                "nonce": request["nonce"],
            }
        ).dump()
        certificate = asn1_x509.Certificate.load(der(self.chain[0]))
        mark = tsp.ESSCertIDv2({"cert_hash": hashlib.sha256(der(self.chain[0])).digest()})
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [hashlib.sha256(info).digest()]},
                {
                    "type": "signing_certificate_v2",
                    "values": [tsp.SigningCertificateV2({"certs": [mark]})],
                },
            ]
        )
        identifier = cms.IssuerAndSerialNumber(
            {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
        )
        signed = cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [sha256],
                "encap_content_info": {
                    "content_type": "tst_info",
                    "content": core.ParsableOctetString(info),
                },
                "certificates": [cms.CertificateChoices("certificate", certificate)],
                "signer_infos": [
                    {
                        "version": "v1",
                        "sid": cms.SignerIdentifier("issuer_and_serial_number", identifier),
                        "digest_algorithm": sha256,
                        "signed_attrs": attributes,
                        "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                        "signature": sign(self.key, attributes.untag().dump()),
                    }
                ],
            }
        )
        token = cms.ContentInfo({"content_type": "signed_data", "content": signed})
        return bytes(
            tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump()
        )
