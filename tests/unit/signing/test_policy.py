from __future__ import annotations

import datetime as dt

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, PolicyError
from forebear.signing.keys import create_key, load_public
from forebear.signing.policy import Identity, TrustPolicy, load_policy


@pytest.fixture
def owner(tmp_path):
    return create_key("owner", tmp_path / "keys", None)[1]


def write(folder, text):
    file = folder / "keys" / "policy.yaml"
    file.write_text(text)
    return file


def test_an_owner_key_alone_is_a_policy(owner):
    assert load_policy(owner) == TrustPolicy(owner_keys=(load_public(owner),))


def test_a_yaml_policy_is_read(owner, tmp_path):
    pem = "".join(f"      {line}\n" for line in owner.read_text().splitlines())
    policy = load_policy(
        write(
            tmp_path,
            "owner_keys:\n  - owner.pub\n  - |\n" + pem + "min_serial: 3\n"
            "min_confinement: observed\nallowed_builders: [b]\n"
            f"revoked_keyids: ['{'0' * 64}']\nnow: 2026-01-31T00:00:00Z\n",
        )
    )
    key = load_public(owner)
    assert policy == TrustPolicy(
        owner_keys=(key, key),
        min_serial=3,
        min_confinement="observed",
        allowed_builders=("b",),
        revoked_keyids=frozenset({"0" * 64}),
        now=dt.datetime(2026, 1, 31, tzinfo=dt.UTC),
    )
    assert policy.time() == policy.now


def test_the_rest_is_optional(owner, tmp_path):
    policy = load_policy(write(tmp_path, "owner_keys: [owner.pub]\n"))
    assert policy == load_policy(owner)
    assert policy.time().tzinfo is dt.UTC


KEYS = "owner_keys: [owner.pub]\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "min_serial: 1\n",
        "owner_keys: []\n",
        "owner_keys: owner.pub\n",
        "owner_keys: [1]\n",
        KEYS + "min_seriel: 3\n",
        KEYS + "min_serial: '3'\n",
        KEYS + "min_serial: true\n",
        KEYS + "min_serial: -1\n",
        KEYS + "min_serial: 1.0\n",
        KEYS + "min_confinement: none\n",
        KEYS + "now: 2026-01-31\n",
        KEYS + "now: 2026-01-31T00:00:00\n",
        KEYS + "now: soon\n",
        KEYS + "now: 2026-13-31\n",
        KEYS + f"revoked_keyids: ['{'A' * 64}']\n",
        KEYS + 'revoked_keyids: ["' + "0" * 64 + '\\n"]\n',
        KEYS + KEYS,
        KEYS + "min_serial: 1\nmin_serial: 2\n",
        "owner_keys: &a [owner.pub]\nallowed_builders: *a\n",
        KEYS + "allowed_builders: !!python/object/apply:os.getcwd []\n",
        "{" * 100_000,
        "a: b: c",
        "\x00",
    ],
)
@pytest.mark.usefixtures("owner")
def test_other_policies_are_refused(tmp_path, text):
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_policy(file)
    assert refused.value.where == str(file)


@pytest.mark.usefixtures("owner")
def test_all_faults_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as refused:
        load_policy(write(tmp_path, KEYS + "min_serial: x\nmin_confinement: y\nother: z\n"))
    assert len(refused.value.what.splitlines()) == 3


def test_faulty_key_files_are_named(owner, tmp_path):
    with pytest.raises(EnvironmentFailure) as refused:
        load_policy(write(tmp_path, "owner_keys: [absent.pub]\n"))
    assert refused.value.where.endswith("absent.pub")
    owner.write_text("-----BEGIN PUBLIC KEY-----\n")
    for file in (owner, write(tmp_path, KEYS)):
        with pytest.raises(FormatError):
            load_policy(file)


def test_a_missing_policy_is_explained(tmp_path):
    with pytest.raises(EnvironmentFailure):
        load_policy(tmp_path / "absent.yaml")


def test_only_trusted_unrevoked_keys_count(owner):
    key = load_public(owner)
    assert TrustPolicy((key,)).require_owner(key.keyid) == key
    with pytest.raises(PolicyError):
        TrustPolicy((key,)).require_owner("0" * 64)
    with pytest.raises(PolicyError, match="revoked"):
        TrustPolicy((key,), revoked_keyids=frozenset({key.keyid})).require_owner(key.keyid)


WHO = "identities: [{identity: me@example.org, issuer: 'https://i.example.org'}]\n"


def test_identities_need_no_owner_key(owner, tmp_path):
    root = tmp_path / "keys" / "root.json"
    root.write_text("{}")
    policy = load_policy(write(tmp_path, WHO + "trusted_root: root.json\nrequire_sigstore: true\n"))
    assert policy.owner_keys == policy.owners == ()
    assert policy.identities == (Identity("me@example.org", "https://i.example.org"),)
    assert policy.trusted_root == root
    assert policy.require_sigstore
    with pytest.raises(PolicyError, match=r"me@example\.org"):
        policy.require_owner(load_public(owner).keyid)


def test_threshold_and_attesters_are_read(owner, tmp_path):
    (tmp_path / "keys" / "root.json").write_text("{}")
    text = KEYS + WHO + "trusted_root: root.json\nowner_threshold: 2\nattester_keys: [owner.pub]\n"
    policy = load_policy(write(tmp_path, text))
    assert policy.owner_threshold == 2
    assert policy.attester_keys == (load_public(owner),)


@pytest.mark.parametrize(
    "text",
    [
        WHO,  # whose roots?
        KEYS + "trusted_root: owner.pub\n",
        KEYS + "require_sigstore: true\n",
        KEYS + "owner_threshold: 2\n",
        KEYS + "owner_threshold: 0\n",
        "identities: []\ntrusted_root: owner.pub\n",
        WHO.replace("me@example.org", "''") + "trusted_root: owner.pub\n",
        WHO.replace("https://i.example.org", "") + "trusted_root: owner.pub\n",
        "identities: [{identity: me@example.org}]\ntrusted_root: owner.pub\n",
        WHO.replace("issuer", "regexp") + "trusted_root: owner.pub\n",
        KEYS + "vouched: [owner.pub]\n",
        KEYS + "attester_keys: owner.pub\n",
    ],
)
@pytest.mark.usefixtures("owner")
def test_policies_that_do_not_hold_together_are_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        load_policy(write(tmp_path, text))


@pytest.mark.usefixtures("owner")
def test_a_missing_trusted_root_is_named(tmp_path):
    with pytest.raises(EnvironmentFailure, match="trusted_root"):
        load_policy(write(tmp_path, WHO + "trusted_root: absent.json\n"))


def test_a_vouched_key_is_an_owner_unless_revoked(owner):
    key = load_public(owner)
    who = Identity("me@example.org", "https://i.example.org")
    policy = TrustPolicy(identities=(who,)).vouch(key, who)
    assert policy.require_owner(key.keyid) == key
    assert policy.owner_keys == ()
    revoked = TrustPolicy(identities=(who,), revoked_keyids=frozenset({key.keyid}))
    with pytest.raises(PolicyError, match="revoked"):
        revoked.vouch(key, who).require_owner(key.keyid)
