"""Bundles of an identity: one form is read, every other is refused."""

from __future__ import annotations

import json

import pytest

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.formats.statement import parse_bundle
from tests.support.loopback_sigstore import Forge, Loopback

PAYLOAD = b"any bytes"


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor1", "rekor2"])
def sound(request):
    instance = Loopback()
    return strictjson.dumps(Forge(instance, "me@example.org", "i", request.param).bundle(PAYLOAD))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def test_a_sound_bundle_is_read(sound):
    bundle = parse_bundle(sound, where="b")
    value = json.loads(sound)
    (entry,) = bundle.entries
    claimed = value["verificationMaterial"]["tlogEntries"][0]
    assert bundle.envelope.payload == PAYLOAD
    assert bundle.envelope.keyid == bundle.hint == ""
    assert str(entry.index) == claimed["logIndex"]
    assert str(entry.tree_size) == claimed["inclusionProof"]["treeSize"]
    assert (entry.promise is None) == (entry.time_s is None) == ("integratedTime" not in claimed)
    assert bundle.n_stamps == len(
        value["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    )


def test_what_clients_may_leave_out_is_optional(sound):
    value = json.loads(sound)
    value["dsseEnvelope"]["signatures"][0]["keyid"] = ""
    del value["verificationMaterial"]["timestampVerificationData"]
    assert parse_bundle(strictjson.dumps(value), where="b").n_stamps == 0
    value["verificationMaterial"]["timestampVerificationData"] = {}
    assert parse_bundle(strictjson.dumps(value), where="b").n_stamps == 0
    value["verificationMaterial"]["tlogEntries"] = []
    assert parse_bundle(strictjson.dumps(value), where="b").entries == ()


def test_another_serialisation_is_read_only_where_another_tool_wrote_it(sound):
    loose = json.dumps(json.loads(sound), indent=2).encode()
    assert parse_bundle(loose, where="b", canonical=False) == parse_bundle(sound, where="b")
    with pytest.raises(FormatError):
        parse_bundle(loose, where="b")


def test_a_key_that_stands_twice_is_refused_in_any_serialisation(sound):
    for name in (b'"logIndex":', b'"rawBytes":', b'"sig":', b'"mediaType":'):
        twice = sound.replace(name, name + b'"1",' + name, 1)
        for canonical in (True, False):
            with pytest.raises(FormatError, match="twice"):
                parse_bundle(twice, where="b", canonical=canonical)


MATERIAL = ("verificationMaterial",)
ENTRY = (*MATERIAL, "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")
ENVELOPE = ("dsseEnvelope",)


@pytest.mark.parametrize(
    "path",
    [
        (),
        MATERIAL,
        (*MATERIAL, "certificate"),
        ENTRY,
        (*ENTRY, "logId"),
        (*ENTRY, "kindVersion"),
        PROOF,
        (*PROOF, "checkpoint"),
        ENVELOPE,
        (*ENVELOPE, "signatures", 0),
        (*MATERIAL, "timestampVerificationData"),
    ],
)
def test_an_unknown_field_is_refused_anywhere(sound, path):
    value = json.loads(sound)
    at(value, path)["extra"] = "1"
    with pytest.raises(FormatError):
        parse_bundle(strictjson.dumps(value), where="b")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("mediaType",), "application/vnd.dev.sigstore.bundle+json;version=0.2"),
        (("dsseEnvelope",), None),
        ((*MATERIAL, "certificate"), {}),
        ((*MATERIAL, "certificate"), {"rawBytes": ""}),
        ((*MATERIAL, "certificate"), {"rawBytes": "AAA"}),
        ((*MATERIAL, "certificate"), {"rawBytes": "AB=="}),
        ((*MATERIAL, "certificate"), {"rawBytes": "AAB="}),
        ((*MATERIAL, "certificate"), {"rawBytes": "AA A"}),
        ((*MATERIAL, "certificate"), {"rawBytes": 1}),
        ((*MATERIAL, "tlogEntries"), {}),
        ((*MATERIAL, "tlogEntries"), [1]),
        ((*MATERIAL, "tlogEntries"), [{}]),
        ((*MATERIAL, "timestampVerificationData"), []),
        ((*MATERIAL, "timestampVerificationData"), {"rfc3161Timestamps": [{}]}),
        (
            (*MATERIAL, "timestampVerificationData"),
            {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}] * 65},
        ),
        ((*ENTRY, "logIndex"), 1),
        ((*ENTRY, "logIndex"), "01"),
        ((*ENTRY, "logIndex"), "-1"),
        ((*ENTRY, "logIndex"), "1.0"),
        ((*ENTRY, "logIndex"), "9" * 30),
        ((*ENTRY, "logIndex"), "\u0661"),
        ((*ENTRY, "integratedTime"), "0"),
        ((*ENTRY, "integratedTime"), "99999999999999"),
        ((*ENTRY, "integratedTime"), None),
        ((*ENTRY, "inclusionPromise"), {}),
        ((*ENTRY, "logId"), {"keyId": "AAAA"}),
        ((*ENTRY, "kindVersion"), {"kind": 1, "version": "1"}),
        ((*ENTRY, "canonicalizedBody"), ""),
        ((*PROOF, "hashes"), ["AAAA"]),
        ((*PROOF, "hashes"), "AAAA"),
        ((*PROOF, "rootHash"), "AAAA"),
        ((*PROOF, "checkpoint"), {"envelope": 1}),
        ((*PROOF, "treeSize"), None),
        ((*ENVELOPE, "payload"), "YQ"),
        ((*ENVELOPE, "payloadType"), ""),
        ((*ENVELOPE, "payloadType"), 1),
        ((*ENVELOPE, "payloadType"), "a b"),
        ((*ENVELOPE, "signatures"), []),
        ((*ENVELOPE, "signatures"), [{"sig": "AAAA"}, {"sig": "AAAA"}]),
        ((*ENVELOPE, "signatures"), [{"sig": ""}]),
        ((*ENVELOPE, "signatures"), [{"sig": "AAAA", "keyid": "0"}]),
    ],
)
def test_another_value_is_refused(sound, path, wrong):
    value = json.loads(sound)
    at(value, path[:-1])[path[-1]] = wrong
    with pytest.raises(FormatError):
        parse_bundle(strictjson.dumps(value), where="b")


def test_a_cut_bundle_is_refused(sound):
    for length in range(0, len(sound), 37):
        with pytest.raises(FormatError):
            parse_bundle(sound[:length], where="b")
