"""A reduced count of what ``make fuzz`` does, and every input that was ever found."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.evidence.store import open_evidence
from forebear.signing.keys import load_public
from forebear.signing.policy import TrustPolicy
from forebear.verify.run import verify
from tests.fuzz.__main__ import MAX_INPUT_S, MAX_RSS_MIB, NOW, REGRESSIONS, find_changes
from tests.fuzz.changes import copy_of, make_change
from tests.fuzz.targets import TARGETS, accept, seeds
from tests.support.release import Simulated

N_CHANGES = 100
# VmHWM begins anew with the program; ru_maxrss would keep what the tests' own process had
_PEAK = (
    "import sys; sys.path.insert(0, '.');"
    "from tests.fuzz.targets import accept;"
    "accept(sys.argv[1], open(sys.argv[2], 'rb').read());"
    "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
)


def test_no_random_change_of_a_release_passes(built: Simulated, tmp_path: Path) -> None:
    counts, missed = find_changes(
        built.packed, built.owner_pub, tmp_path / "copy", range(N_CHANGES)
    )
    assert not missed
    assert sum(counts.values()) == N_CHANGES
    assert set(counts) == {"flip", "delete", "add", "swap"}


def test_a_change_undone_passes_again(built: Simulated, tmp_path: Path) -> None:
    folder = copy_of(built.packed, tmp_path / "copy")
    policy = TrustPolicy(owner_keys=(load_public(built.owner_pub),), now=NOW)
    for kind in ("flip", "delete", "add", "swap"):
        make_change(folder, 1, kind=kind).undo()
    with open_evidence(folder) as evidence:
        assert verify(evidence, policy).exit_code() == 0


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_takes_what_we_write(name: str, built: Simulated) -> None:
    found = [data for target, data in seeds(built) if target == name]
    assert found
    taken = [accept(name, data) for data in found]
    assert all(taken) or name == "path"  # some of those are meant to be refused
    assert any(taken)


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_refuses_changed_bytes_with_our_error_alone(name: str, built: Simulated) -> None:
    draw = random.Random(3)  # noqa: S311  # to be repeated, not to be secret
    valid = [data for target, data in seeds(built) if target == name]
    for _ in range(60):
        data = bytearray(draw.choice(valid))
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(data) + 1)
            data[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
        accept(name, bytes(data))  # raises what is not ours


@given(st.sampled_from(sorted(set(TARGETS) - {"archive"})), st.binary(max_size=400))
def test_any_bytes_end_in_a_value_or_our_error(name: str, data: bytes) -> None:
    accept(name, data)


FOUND_ONCE = sorted(REGRESSIONS.glob("*.bin"))


@pytest.mark.parametrize("file", FOUND_ONCE, ids=lambda file: file.stem)
def test_an_input_that_was_found_once_is_harmless(file: Path) -> None:
    name = file.stem.rpartition("-")[0]
    started = time.process_time()
    accept(name, file.read_bytes())
    assert time.process_time() - started < MAX_INPUT_S
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PEAK, name, str(file)],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert int(done.stdout) < MAX_RSS_MIB * 1024
