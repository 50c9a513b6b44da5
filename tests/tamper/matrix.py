"""The tamper matrix: id, change, the checks that must fail, and whether stock tools must, too."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebear.formats import strictjson
from forebear.signing.keys import create_key, load_signer
from tests.support.release import CHECKPOINT
from tests.tamper.case import Case, later

WEIGHTS = "model.safetensors"
PROVENANCE = f"attestations/{CHECKPOINT}/provenance.sigstore.json"
MODEL_SIG = f"attestations/{CHECKPOINT}/model.sig"
RELEASE = "release.sigstore.json"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        id: number in the design, with a letter where a row has several forms.
        change: what the attacker does.
        fails: checks that must be among the failed ones.
        stock: whether ``in-toto-verify`` must refuse, too.
    """

    id: str
    change: Callable[[Case], Any]
    fails: tuple[str, ...]
    stock: bool = False


ROWS: list[Row] = []


def row(id_: str, *fails: str, stock: bool = False) -> Callable[[Callable[[Case], Any]], None]:
    """Adds the decorated change to the matrix."""

    def add(change: Callable[[Case], Any]) -> None:
        ROWS.append(Row(id_, change, fails, stock))

    return add


# ── files on disk ──────────────────────────────────────────────────────────────────────────────


@row("1", "C4", stock=True)
def flip_a_byte(case: Case) -> None:
    data = bytearray(case.out(WEIGHTS).read_bytes())
    data[7] ^= 1
    case.out(WEIGHTS).write_bytes(data)


@row("2", "C4", stock=True)
def swap_two_files(case: Case) -> None:
    one, other = case.out(WEIGHTS).read_bytes(), case.out("config.json").read_bytes()
    case.out(WEIGHTS).write_bytes(other)
    case.out("config.json").write_bytes(one)


@row("3", "C4", stock=True)
def rename_a_file(case: Case) -> None:
    case.out(WEIGHTS).rename(case.out("weights.safetensors"))


@row("4", "C4", stock=True)
def add_a_file(case: Case) -> None:
    case.out("extra.txt").write_text("x")


for letter, name in zip("abcd", ("x.link.bin", ".git/x", "x.pyc", "x~"), strict=True):

    def add_hidden(case: Case, name: str = name) -> None:
        case.out(name).parent.mkdir(exist_ok=True)
        case.out(name).write_text("x")

    row(f"5{letter}", "C4")(add_hidden)


@row("5e", "C4")
def add_a_file_beside_the_outs(case: Case) -> None:
    (case.folder / "hashlib.py").write_text("raise SystemExit(0)\n")


@row("5f", "C4")  # found by random changes: every name that began like attest's link was let in
def add_a_file_named_like_the_last_link(case: Case) -> None:
    link = case.file("links/attest")
    link.with_name(f"{link.name}.bak").write_text("x")


@row("5g", "C4", "C11")
def add_a_link_named_as_in_a_repository(case: Case) -> None:
    shutil.copy(case.file("links/attest"), case.folder / "links" / "attest.link")


@row("6", "C4", stock=True)
def delete_a_file(case: Case) -> None:
    case.out(WEIGHTS).unlink()


@row("7", "C4")
def truncate_to_zero(case: Case) -> None:
    case.out(WEIGHTS).write_bytes(b"")


@row("8", "C1")
def symlink_to_equal_content(case: Case) -> None:
    twin = case.folder.with_name("twin")
    shutil.copy(case.out(WEIGHTS), twin)
    case.out(WEIGHTS).unlink()
    case.out(WEIGHTS).symlink_to(twin)


@row("9a", "C1")
def symlink_out_of_the_tree(case: Case) -> None:
    case.out("passwd").symlink_to("/etc/passwd")


@row("9b", "C1")
def dangling_symlink(case: Case) -> None:
    case.out("gone").symlink_to("nowhere")


@row("9c", "C1")
def symlinked_metadata(case: Case) -> None:
    file = case.folder / "pipeline.json"
    twin = case.folder.with_name("twin.json")
    file.rename(twin)
    file.symlink_to(twin)


@row("11", "C1")
def fifo_in_an_out(case: Case) -> None:
    os.mkfifo(case.out("pipe"))


@row("11b", "C1")
def fifo_in_place_of_metadata(case: Case) -> None:
    (case.folder / "SHA256SUMS").unlink()
    os.mkfifo(case.folder / "SHA256SUMS")


@row("12", "C1")
def nfd_beside_nfc(case: Case) -> None:
    case.out("\u00e9.txt").write_text("x")
    case.out("e\u0301.txt").write_text("x")


@row("13", "C1")
def case_folded_twin(case: Case) -> None:
    case.out("Config.json").write_text("{}\n")


for letter, odd in zip("abc", ("a\nb", "a\\b", "../b"), strict=True):

    def odd_path(case: Case, odd: str = odd) -> None:
        case.resign("sft", lambda link: link["products"].update({odd: {"sha256": "0" * 64}}))

    row(f"14{letter}", "C1")(odd_path)


@row("15", "C4", stock=True)
def crlf(case: Case) -> None:
    case.out("config.json").write_bytes(b"{}\r\n")


# ── links ──────────────────────────────────────────────────────────────────────────────────────


@row("18", "C3", stock=True)
def edit_a_payload(case: Case) -> None:
    case.change_payload("links/sft", lambda link: link["command"].append("--more"))


@row("19", "C3", stock=True)
def resign_by_unknown_key(case: Case) -> None:
    key, _ = create_key("recorder", case.folder.with_name("foreign"), None)
    case.change_payload("links/sft", lambda _: None, signer=load_signer(key))


@row("19b", "C3", stock=True)
def resign_by_unknown_key_and_rename(case: Case) -> None:
    key, _ = create_key("recorder", case.folder.with_name("foreign"), None)
    case.change_payload("links/sft", lambda _: None, signer=load_signer(key), rename=True)


@row("20", "C1", "C3", stock=True)
def remove_the_signature(case: Case) -> None:
    case.change_json("links/sft", lambda value: value.update(signatures=[]))


@row("21", "C1")
def append_an_invalid_signature(case: Case) -> None:
    case.change_json(
        "links/sft",
        lambda value: value["signatures"].append({"keyid": "0" * 64, "sig": "AAAA"}),
    )


@row("22", "C3", stock=True)
def link_of_another_stage(case: Case) -> None:
    shutil.copy(case.file("links/base"), case.file("links/sft"))


@row("23", "C3", stock=True)
def link_of_another_run(case: Case) -> None:
    def other_outs(link: dict[str, Any]) -> None:
        for entry in link["products"].values():
            entry["sha256"] = "1" * 64

    case.resign("sft", other_outs)


@row("24", "C11")
def link_of_another_run_with_equal_digests(case: Case) -> None:
    case.resign(
        "sft", lambda link: link["byproducts"]["forebear"].update(ended="2026-01-02T00:00:00Z")
    )


@row("25", "C3", stock=True)
def omit_a_dep(case: Case) -> None:
    case.resign("sft", lambda link: link["materials"].pop("stages/sft.py"))


@row("26", "C3", stock=True)
def omit_all_outs(case: Case) -> None:
    case.resign("sft", lambda link: link["products"].clear())


@row("27", "C3", stock=True)
def undeclared_material(case: Case) -> None:
    case.resign(
        "sft", lambda link: link["materials"].update({"data/x.jsonl": {"sha256": "0" * 64}})
    )


@row("28", "C5")
def tree_kept_but_file_entry_changed(case: Case) -> None:
    name = f"{CHECKPOINT}/{WEIGHTS}"
    case.resign("sft", lambda link: link["products"][name].update(sha256="0" * 64))


@row("29", "C6")
def other_argv(case: Case) -> None:
    case.resign("sft", lambda link: link["command"].append("--more"))


@row("30", "C3", stock=True)
def other_cmd(case: Case) -> None:
    case.resign("sft", lambda link: link["materials"]["cmd:sft"].update(sha256="0" * 64))


@row("31a", "C3", stock=True)
def other_params(case: Case) -> None:
    case.resign("sft", lambda link: link["materials"]["params:sft"].update(sha256="0" * 64))


@row("31b", "C6")
def other_params_in_clear(case: Case) -> None:
    case.resign(
        "sft", lambda link: link["byproducts"]["forebear"]["params"]["sft"].update(epochs=9)
    )


@row("31c", "C6")
def other_params_text(case: Case) -> None:
    case.resign("sft", lambda link: link["byproducts"]["forebear"].update(params_json="{}"))


@row("32", "C6")
def return_value(case: Case) -> None:
    case.resign("sft", lambda link: link["byproducts"].update({"return-value": 1}))


@row("33", "C7")
def confinement_lower_than_asked(case: Case) -> None:
    case.policy = {"min_confinement": "enforced"}


@row("34a", "C3", stock=True)
def delete_a_link(case: Case) -> None:
    case.file("links/sft").unlink()


@row("34b", "C1")
def empty_link(case: Case) -> None:
    case.file("links/sft").write_bytes(b"")


@row("79", "C3", stock=True)
def base_recorded_anew_under_the_old_source(case: Case) -> None:
    case.resign("base", lambda link: link["materials"]["stages/base.py"].update(sha256="2" * 64))


# ── layout ─────────────────────────────────────────────────────────────────────────────────────


@row("35", "C2", stock=True)
def edit_the_layout(case: Case) -> None:
    case.change_payload("root.layout", lambda layout: layout.update(readme="x"))


@row("36", "C2", stock=True)
def expired_layout(case: Case) -> None:
    case.change_payload(
        "root.layout",
        lambda layout: layout.update(expires="2020-01-01T00:00:00Z"),
        signer=case.built.owner,
    )


@row("36b", "C2")
def layout_expired_by_the_policys_clock(case: Case) -> None:
    case.policy = {"now": later(5)}


@row("37", "C11")
def older_layout_of_the_owner(case: Case) -> None:
    case.change_payload(
        "root.layout",
        lambda layout: layout.update(expires="2099-01-01T00:00:00Z"),
        signer=case.built.owner,
    )


@row("38", "C11")
def whole_older_release(case: Case) -> None:
    case.policy = {"min_serial": 2}


@row("39", "C2", stock=True)
def weakened_rule_signed_by_recorder(case: Case) -> None:
    def weaken(layout: dict[str, Any]) -> None:
        layout["steps"][1]["expected_products"] = [["ALLOW", "*"]]

    case.change_payload("root.layout", weaken, signer=case.built.recorder)


@row("39b", "C2")
def weakened_rule_signed_by_owner(case: Case) -> None:
    def weaken(layout: dict[str, Any]) -> None:
        layout["steps"][1]["expected_products"] = [["ALLOW", "*"]]

    case.change_payload("root.layout", weaken, signer=case.built.owner)


@row("40", "C2", stock=True)
def swapped_roles(case: Case) -> None:
    owner, recorder = case.built.owner.keyid, case.built.recorder.keyid

    def swap(layout: dict[str, Any]) -> None:
        for step in layout["steps"]:
            step["pubkeys"] = [recorder if step["name"] == "source" else owner]

    case.change_payload("root.layout", swap, signer=case.built.owner)


@row("41", "C2")
def revoked_recorder(case: Case) -> None:
    case.policy = {"revoked_keyids": frozenset({case.built.recorder.keyid})}


@row("41b", "C2", "C8", "C9")
def revoked_owner(case: Case) -> None:
    case.policy = {"revoked_keyids": frozenset({case.built.owner.keyid})}


# ── forms ──────────────────────────────────────────────────────────────────────────────────────


@row("43a", "C1")
def duplicate_key_outside(case: Case) -> None:
    file = case.file("links/sft")
    file.write_bytes(file.read_bytes().replace(b'{"payload":', b'{"payload":"","payload":', 1))


@row("43b", "C1")
def duplicate_key_inside(case: Case) -> None:
    envelope = strictjson.parse(case.file("links/sft").read_bytes(), where="link")
    payload = base64.b64decode(envelope["payload"])
    case.write_raw_payload("sft", payload.replace(b'"name":', b'"name":"x","name":', 1))


@row("44a", "C1")
def deep_nesting(case: Case) -> None:
    case.file("pipeline.json").write_bytes(b"[" * 100_000)


@row("44b", "C1")
def a_gigabyte(case: Case) -> None:
    os.truncate(case.file("links/sft"), 1 << 30)


@row("44c", "C1")
def byte_order_mark(case: Case) -> None:
    file = case.file("pipeline.json")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


@row("44d", "C1")
def invalid_utf8(case: Case) -> None:
    file = case.file("pipeline.json")
    file.write_bytes(file.read_bytes().replace(b"base", b"b\xffse", 1))


@row("44e", "C1")
def an_out_that_leads_elsewhere(case: Case) -> None:
    def lead_away(value: dict[str, Any]) -> None:
        value["stages"][0]["outs"][0]["path"] = "../../.."

    case.change_json("pipeline.json", lead_away)


@row("46", "C1")
def junk_in_base64(case: Case) -> None:
    def junk(value: dict[str, Any]) -> None:
        value["payload"] = value["payload"][:4] + " " + value["payload"][4:]

    case.change_json("links/sft", junk)


@row("47", "C1")
def written_otherwise(case: Case) -> None:
    file = case.file("links/sft")
    file.write_bytes(file.read_bytes().replace(b'","', b'", "', 1))


@row("48", "C1")
def unknown_field_in_a_bundle(case: Case) -> None:
    case.change_json(PROVENANCE, lambda value: value.update(extra=1))


@row("49", "C1")
def truncated_bundle(case: Case) -> None:
    file = case.file(PROVENANCE)
    file.write_bytes(file.read_bytes()[:-20])


# ── statements, signatures of models, the release ──────────────────────────────────────────────


@row("42", "C8")
def other_payload_type(case: Case) -> None:
    case.change_json(
        PROVENANCE, lambda value: value["dsseEnvelope"].update(payloadType="application/json")
    )


@row("57", "C8")
def subject_changed_by_recorder(case: Case) -> None:
    case.change_payload(
        PROVENANCE,
        lambda statement: statement["subject"][0]["digest"].update(sha256="0" * 64),
        signer=case.built.recorder,
    )


@row("57b", "C8")
def builder_not_allowed(case: Case) -> None:
    case.policy = {"allowed_builders": ("https://example.org/another",)}


@row("57c", "C8")
def builder_that_signed_nothing(case: Case) -> None:
    case.change_payload(
        PROVENANCE,
        lambda statement: statement["predicate"]["runDetails"]["builder"].update(id="x"),
        signer=case.built.owner,
    )


@row("60", "C8")
def statement_of_another_kind(case: Case) -> None:
    shutil.copy(case.file("attestations/gate.sigstore.json"), case.file(PROVENANCE))


@row("60b", "C8")
def statement_missing(case: Case) -> None:
    case.file(PROVENANCE).unlink()


@row("61", "C9")
def model_signature_of_another_model(case: Case) -> None:
    _sign_model(case, lambda resources: resources[0].update(digest="0" * 64))


@row("62", "C9")
def model_signature_with_ignored_paths(case: Case) -> None:
    _sign_model(case, lambda resources: resources.pop())


def _sign_model(case: Case, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Signs another list of files with the owner's key, in the bundle's loose form."""
    from forebear.formats.dsse import pae

    file = case.file(MODEL_SIG)
    bundle = strictjson.parse(file.read_bytes(), where=MODEL_SIG)
    envelope = bundle["dsseEnvelope"]
    statement = strictjson.parse(base64.b64decode(envelope["payload"]), where=MODEL_SIG)
    change(statement["predicate"]["resources"])
    payload = strictjson.dumps(statement)
    envelope["payload"] = base64.b64encode(payload).decode()
    sig = case.built.owner.sign(pae(envelope["payloadType"], payload))
    envelope["signatures"][0]["sig"] = base64.b64encode(sig).decode()
    file.write_bytes(strictjson.dumps(bundle))


@row("63a", "C4", "C11", stock=True)
def sums_edited(case: Case) -> None:
    file = case.folder / "SHA256SUMS"
    file.write_text(file.read_text().replace("  owner.pub", "  owner.pem"))


@row("63b", "C4", "C11", stock=True)
def sums_consistent_with_edited_files(case: Case) -> None:
    flip_weights(case)
    case.renew_sums()


def flip_weights(case: Case) -> None:
    """The change of row 1, for rows that build on it."""
    data = bytearray(case.out(WEIGHTS).read_bytes())
    data[0] ^= 1
    case.out(WEIGHTS).write_bytes(data)


@row("63c", "C4", "C11")
def part_of_no_release(case: Case) -> None:
    (case.folder / "attestations" / "extra.txt").write_text("x")
