"""Runs a recorded stage again in a clean room and tells whether the same came out.

The original is the stage's signed link: its command, params and materials, not what the workspace
holds today. The run is confined as the recorder confines. *identical* is equal digests of every
out; *within bound* rests on a bound that ``meta.forebear.tolerance`` had fixed before; anything
else is *different*, with the first file and tensor named. It refuses a link that no known recorder
signed, and signs nothing itself.

Rests on: provenance page, section 10.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    RecordError,
    SignatureError,
    UsageError,
)
from forebear.evidence.reproduction import Reproduction
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.layout import ATTEST
from forebear.formats.link import PARAMS, PAYLOAD_TYPE, Link, params_digest, parse_link
from forebear.pipeline import Pipeline, Stage, Workspace, link_path
from forebear.recording import runrecord
from forebear.recording.artifacts import Hasher
from forebear.recording.child import adopt_orphans
from forebear.recording.confined import Outcome, run_confined
from forebear.recording.declaration import Run
from forebear.recording.namespace import hide_memory
from forebear.recording.workplace import occupy
from forebear.release.cleanroom import Store, as_recorded, furnish, tops
from forebear.release.likeness import compare
from forebear.signing.keys import PublicKey
from forebear.signing.signer import verify_envelope

Say = Callable[[str], object]
TEMPORARY_PREFIX = "forebear-reproduce-"


@dataclass(frozen=True, slots=True)
class Original:
    """A stage's link, its signature verified.

    Attributes:
        link: what it says.
        digest: SHA-256 of its file.
        keyid: who signed it.
        params: in clear, as the stage had them.
    """

    link: Link
    digest: str
    keyid: str
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> Mapping[str, Any]:
        """``byproducts.forebear``."""
        found = self.link.byproducts.get("forebear")
        return found if isinstance(found, dict) else {}


def load_original(root: Path, stage_name: str, recorders: Sequence[PublicKey]) -> Original:
    """The link of a stage in the repository at ``root``.

    Raises:
        EnvironmentFailure: it is not there.
        FormatError: it breaks the format, or its params in clear are not those it was signed with.
        SignatureError: none of ``recorders`` signed it.
    """
    path = link_path(stage_name)
    try:
        data = (root / path).read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"the link cannot be read: {error.strerror}", where=path, fix="dvc pull, or dvc repro"
        ) from error
    envelope = parse_envelope(data, where=path)
    key = next((key for key in recorders if key.keyid == envelope.keyid), None)
    if key is None or envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureError(
            f"is signed by key {envelope.keyid:.8}, which is no known recorder",
            where=path,
            fix="get the recorder's public key by another way and give it with --recorder",
        )
    verify_envelope(envelope, key)
    link = parse_link(envelope.payload, where=path)
    record = link.byproducts.get("forebear")
    text = record.get("params_json") if isinstance(record, dict) else None
    params = strictjson.parse(text.encode(), where=path) if isinstance(text, str) else None
    if link.name != stage_name or not isinstance(params, dict):
        raise FormatError("is the link of another stage, or shows no params", where=path)
    if link.materials.get(f"{PARAMS}{stage_name}") != params_digest(params):
        raise FormatError("shows other params than it was signed with", where=path)
    return Original(link, hashlib.sha256(data).hexdigest(), key.keyid, params)


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Values of ``PATH=VALUE`` words; a value that is no JSON is text.

    Raises:
        UsageError: a word has another form.
    """
    found: dict[str, Any] = {}
    for word in words:
        path, mark, text = word.partition("=")
        if not path or not mark:
            raise UsageError(f"must be PATH=VALUE, not {word[:60]!a}", where="--set")
        try:
            found[path] = strictjson.parse(text.encode(), where=path)
        except FormatError:
            found[path] = text
    return found


def with_settings(
    params: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Params with other values, and which of them really are others, as canonical text.

    Settings of sections that ``params`` does not have are left out.

    Raises:
        UsageError: the section has no such value.
    """
    changed: dict[str, str] = {}
    result = deepcopy(dict(params))
    for path, value in settings.items():
        *parents, last = path.split(".")
        if (parents or [last])[0] not in result:
            continue
        place: Any = result
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise UsageError("the stage ran with no such value", where=f"--set {path}")
        if strictjson.canonical(place[last]) != strictjson.canonical(value):
            changed[path] = strictjson.canonical(value).decode()
        place[last] = value
    return result, changed


def reproduce(  # noqa: PLR0913  # by name
    original: Original,
    *,
    root: Path,
    workspace: Workspace,
    settings: Mapping[str, Any] | None = None,
    confine: bool = True,
    say: Say = lambda _: None,
) -> Reproduction:
    """Runs the stage again and compares.

    Args:
        original: what is run again.
        root: the DVC root.
        workspace: of that root.
        settings: values that replace params, for an experiment; the reproduction shows them.
        confine: False runs the command unconfined; the reproduction says so.
        say: called with lines for people.

    Raises:
        UsageError: ``attest`` cannot be reproduced: it signs with the owner's key and the clock.
        Unavailable: a material is nowhere to be had.
        RecordError: the stage failed, did not write its outs, or broke its declarations.
        EnvironmentFailure: the machine refused, or the run was stopped.
    """
    link = original.link
    if link.name == ATTEST:
        raise UsageError("signs anew each time: verify the release instead", where=ATTEST)
    params, changed = with_settings(original.params, settings or {})
    stage = as_recorded(link, params, workspace.pipeline)
    store = Store(root, workspace, _commit(original))
    started = runrecord.utc_now()
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
        room = Path(folder) / "room"
        room.mkdir()
        furnish(room, store, link, say)
        inside = Workspace(Pipeline((stage,), root=room), room / ".dvc" / "cache", {})
        run = Run(
            room, inside, stage, link.command, room,
            confine="enforce" if confine else "off",
            why_less="" if confine else "the call said --no-confine",
        )  # fmt: skip
        with _threads(original):
            outcome = _run(run, say)
            machine = runrecord.machine()
        hasher = Hasher(room, inside.cache_dir, None)
        own = link_path(link.name)
        found = hasher.hash_outs([out.path for out in stage.outs if out.path != own]).digests
        tolerance = _tolerance(root, stage)
        likeness = compare(link.products, found, stage, room, store, tolerance)
        environment = runrecord.environment_digest()
    theirs = original.record.get("environment")
    known = theirs.get("digest") if isinstance(theirs, dict) else None
    return Reproduction(
        stage=link.name,
        link=original.digest,
        keyid=original.keyid,
        original={name: link.products[name] for name in tops(link.products)},
        reproduced={name: found[name] for name in tops(found)},
        verdict=likeness.verdict,
        changed_params=changed,
        environment={
            "python": platform.python_version(),
            "digest": environment,
            "equal": environment == known,
        },
        hardware={**machine, "equal": machine == original.record.get("machine")},
        confinement=outcome.report.to_json(),
        comparison=likeness.to_json(),
        started=started,
        ended=runrecord.utc_now(),
    )


def _run(run: Run, say: Say) -> Outcome:
    name = run.stage.name
    hide_memory()
    adopt_orphans(die_with_parent=False)
    with occupy(run.root, name) as place:
        params_file = place.private / "params.json"
        params_file.write_bytes(strictjson.dumps(run.stage.params))
        say(f"{name}: running {' '.join(run.argv[:3])} …")
        outcome = run_confined(
            run, place, scratch=place.scratch("reproduce"), params_file=params_file,
            watch_parent=False,
        )  # fmt: skip
    if outcome.child.stopped_by is not None:
        raise EnvironmentFailure("was stopped, so nothing was compared", where=name)
    if outcome.child.returncode != 0 or outcome.strays or outcome.caught:
        wanted = [*outcome.sentences, *(f"it wrote {path}" for path in outcome.strays[:5])]
        raise RecordError(
            "\n  ".join([f"ended with exit code {outcome.child.returncode} in the clean room",
                         *wanted]),
            where=name,
            fix="what it needs beyond its materials must be listed in dvc.yaml",
        )  # fmt: skip
    return outcome


@contextlib.contextmanager
def _threads(original: Original) -> Iterator[None]:
    """As many threads as the original was given: sums are split by thread."""
    machine = original.record.get("machine")
    asked = machine.get("threads_asked") if isinstance(machine, dict) else None
    before = os.environ.pop(runrecord.THREADS_ENV, None)
    if isinstance(asked, str):
        os.environ[runrecord.THREADS_ENV] = asked
    try:
        yield
    finally:
        os.environ.pop(runrecord.THREADS_ENV, None)
        if before is not None:
            os.environ[runrecord.THREADS_ENV] = before


def _commit(original: Original) -> str:
    git = original.record.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    return commit if isinstance(commit, str) and commit.isalnum() else ""


def _tolerance(root: Path, stage: Stage) -> dict[str, Any]:
    """Bound of the stage, as attested where there is a release, else as declared now.

    Raises:
        ConfigError: it is no bound.
    """
    attested, source = stage, "dvc.yaml"
    file = root / "release" / "pipeline.json"
    if file.is_file():
        pipeline = Pipeline.from_json(strictjson.parse(file.read_bytes(), where=file.name))
        known = [one for one in pipeline.stages if one.name == stage.name]
        attested, source = (known[0], "release") if known else (stage, source)
    bound = attested.options().get("tolerance")
    if bound is None:
        return {}
    names = {"max_abs", "relative_frobenius", "min_cosine"}
    if (
        not isinstance(bound, dict)
        or not bound
        or not bound.keys() <= names
        or not all(type(value) in {int, float} for value in bound.values())
    ):
        raise ConfigError(
            f"must give numbers for one or more of {', '.join(sorted(names))}",
            where=f"{source}: {stage.name}.meta.forebear.tolerance",
        )
    return {"bound": bound, "from": source}
