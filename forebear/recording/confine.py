"""Keeps one stage to its declarations, and says what came of it: never what was asked.

Between fork and exec the child leaves the network (user and network namespace) and goes behind
Landlock. Where the kernel has neither, less is done and the report says so: the stage is
*observed*, or *unchecked*. A step that the kernel refuses only then is found out by trying: the
child ends before it has run anything, and is started again without that step.

Rests on: provenance page, section 5.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from forebear.recording import landlock, namespace
from forebear.recording.landlock import Ruleset

Level = Literal["enforced", "observed", "unchecked"]
Asked = Literal["enforce", "observe", "off"]
NO_NETWORK = "none"
NO_TCP = "no TCP"
DECLARED = "declared"
ALLOWED = "allowed"
_REFUSED_STATUS = 126
# sees what Python opens, and only that
HOOK = "audit hook"
# sees every file that any process of the stage opens
STRACE = "strace"


@dataclass(frozen=True, slots=True)
class ConfinementReport:
    """How one stage was kept to its declarations.

    Attributes:
        level: what happened to files.
        mechanism: what did it: ``landlock``, ``strace``, ``audit hook`` or ``none``.
        network: ``none``, ``no TCP`` (UDP was not stopped), ``declared`` (the stage asks for it) or
            ``allowed`` (not stopped).
        reason: why it is less than everything; empty when it is not.
        denied: undeclared paths and addresses that the stage tried and did not get.
        abi: Landlock's version; None without Landlock.
        grants: what ``meta.forebear.reads`` opens beyond deps and outs.
    """

    level: Level
    mechanism: str
    network: str
    reason: str = ""
    denied: tuple[str, ...] = ()
    abi: int | None = None
    grants: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as it stands in the link's byproducts."""
        return {
            "level": self.level,
            "mechanism": self.mechanism,
            "abi": self.abi,
            "network": self.network,
            "reason": self.reason,
            "denied": list(self.denied),
            "grants": list(self.grants),
        }


def unconfined(
    *, network_declared: bool, reason: str = "nothing was confined"
) -> ConfinementReport:
    """The report of a stage that ran without any confinement."""
    return ConfinementReport(
        level="unchecked",
        mechanism="none",
        network=DECLARED if network_declared else ALLOWED,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class Openings:
    """What a stage may reach; everything else is closed.

    Attributes:
        read: files and folders, read and executed.
        listed: folders whose names may be listed, at any depth, without reading a file.
        write: files and folders, read and written.
        network: the stage declares that it needs the network.
        memory: it gets shared memory, its own where there are namespaces.
        grants: names of what the stage was given beyond its deps and outs.
    """

    read: tuple[Path, ...]
    listed: tuple[Path, ...]
    write: tuple[Path, ...]
    network: bool = False
    memory: bool = True
    grants: tuple[str, ...] = ()


@dataclass(slots=True)
class Fence:
    """Confines one child.

    Attributes:
        openings: what stays open.
        asked: the most that is tried.
        why_less: why less than ``enforce`` is asked; empty when it is not.
        tracer: command that traces the stage where Landlock is missing; empty without strace.
    """

    openings: Openings
    asked: Asked = "enforce"
    why_less: str = ""
    tracer: tuple[str, ...] = ()
    _files: Ruleset | None = None
    _no_tcp: Ruleset | None = None
    _try_namespace: bool = True
    _others_files: bool = False
    _notes: tuple[int, int] | None = None
    _network: str = ALLOWED
    _reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._try_namespace = self.asked != "off" and not self.openings.network
        if self.openings.network:
            self._network = DECLARED
        if self._try_namespace and os.geteuid() == 0:
            self._others_files = any(map(_is_anothers, (*self.openings.read, *self.openings.write)))
        if self.why_less:
            self._reasons["asked"] = self.why_less
        if self.asked == "enforce":
            self._prepare()

    @property
    def enforced(self) -> bool:
        """Whether Landlock closes what is not declared; certain after :meth:`started`."""
        return self._files is not None

    def words(self, argv: Sequence[str]) -> list[str]:
        """The command to start: the stage's own, behind the tracer where it has to be traced."""
        return [*(() if self.enforced or self.asked == "off" else self.tracer), *argv]

    def before_start(self) -> None:
        """Readies the way by which the child says what it did."""
        self._notes = os.pipe()

    def enter(self) -> None:
        """Closes the fence; called in the child, between fork and exec."""
        if self._notes is None:
            return
        if self._try_namespace:
            self._leave_network()
        try:
            if self._no_tcp is not None and self._network == NO_TCP:
                self._no_tcp.restrict_self()
            if self._files is not None:
                if self.openings.memory:  # by the mount that is there now
                    self._files.allow(namespace.SHARED_MEMORY, landlock.WRITE)
                self._files.restrict_self()
        except OSError as error:
            self._note("landlock", error)
            os._exit(_REFUSED_STATUS)

    def started(self) -> bool:
        """Whether the child went through with it; False: start it again, with less."""
        if self._notes is None:
            return True
        reader, writer = self._notes
        self._notes = None
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            notes = [json.loads(line) for line in stream]
        again = False
        for note in notes:
            self._heed(note["step"], str(note["text"]))
            again = again or note["step"] in {"landlock", "halfway"}
        return not again

    def close(self) -> None:
        """Gives the kernel's objects back."""
        for rules in (self._files, self._no_tcp):
            if rules is not None:
                rules.close()
        self._no_tcp = None

    def report(self, *, observed: bool, denied: Sequence[str] = ()) -> ConfinementReport:
        """What happened.

        Args:
            observed: what the stage opened was watched.
            denied: undeclared paths and addresses that it tried.
        """
        level: Level = "unchecked"
        mechanism = "none"
        if self.enforced:
            level, mechanism = "enforced", "landlock"
        elif observed:
            level, mechanism = "observed", STRACE if self.tracer else HOOK
        return ConfinementReport(
            level=level,
            mechanism=mechanism,
            network=self._network,
            reason="; ".join(self._reasons.values()),
            denied=tuple(sorted(set(denied))),
            abi=self._files.abi if self._files else None,
            grants=self.openings.grants,
        )

    def _prepare(self) -> None:
        try:
            version = landlock.abi()
            self._files = _rules(self.openings, version)
            if not self.openings.network:
                self._no_tcp = Ruleset.without_tcp(version)
        except OSError as error:
            self._reasons["landlock"] = f"Landlock is not to be had ({_words(error)})"
            return
        if version < 3:
            self._reasons["abi"] = f"Landlock ABI {version} does not stop truncation"

    def _leave_network(self) -> None:
        try:
            loopback = namespace.leave_network(
                own_memory=self.openings.memory, every_id=self._others_files
            )
        except namespace.HalfwayError as error:
            self._note("halfway", error)
            os._exit(_REFUSED_STATUS)
        except OSError as error:
            self._note("no namespace", error)
            self._network = NO_TCP if self._no_tcp is not None else ALLOWED
            return
        self._note("namespace" if loopback else "no loopback", None)

    def _note(self, step: str, error: OSError | None) -> None:
        if self._notes is not None:
            text = _words(error) if error else ""
            os.write(self._notes[1], json.dumps({"step": step, "text": text}).encode() + b"\n")

    def _heed(self, step: str, text: str) -> None:
        if step == "namespace":
            self._network = NO_NETWORK
        elif step == "no loopback":
            self._network = NO_NETWORK
            self._reasons["network"] = "there is no loopback interface"
        elif step == "landlock":
            self._reasons["landlock"] = f"Landlock was refused ({text})"
            self.close()
            self._files = None
        else:
            self._try_namespace = step != "halfway"
            self._network = NO_TCP if self._no_tcp is not None else ALLOWED
            left = "UDP was not stopped" if self._network == NO_TCP else "the network stayed open"
            self._reasons["network"] = f"user namespaces are not to be had ({text}), so {left}"


def _rules(openings: Openings, version: int) -> Ruleset:
    rules = Ruleset.of_files(version)
    for path in openings.listed:
        rules.allow(path, landlock.LIST)
    for path in openings.read:
        rules.allow(path, landlock.READ)
    for path in openings.write:
        rules.allow(path, landlock.WRITE, follow=False)
    return rules


def _is_anothers(path: Path) -> bool:
    try:
        return path.stat().st_uid != 0
    except OSError:
        return False


def _words(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, "?")
    return f"{name}: {error.strerror}"
