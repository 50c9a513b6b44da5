"""What is known about a stage's confinement: the level that happened, never the one asked for.

Only the report's type so far: nothing is confined yet, and the report says so.

Rests on: provenance page, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["enforced", "observed", "unchecked"]


@dataclass(frozen=True, slots=True)
class ConfinementReport:
    """How one stage was kept to its declarations.

    Attributes:
        level: what happened.
        mechanism: what did it: ``none``, ``landlock``, …
        network: ``none``, ``declared`` (the stage asks for it) or ``allowed`` (not stopped).
        reason: why the level is not ``enforced``.
        denied: paths or addresses that were refused.
    """

    level: Level
    mechanism: str
    network: str
    reason: str = ""
    denied: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as it stands in the link's byproducts."""
        return {
            "level": self.level,
            "mechanism": self.mechanism,
            "network": self.network,
            "reason": self.reason,
            "denied": list(self.denied),
        }


def unconfined(*, network_declared: bool) -> ConfinementReport:
    """The report of a stage that ran without any confinement."""
    return ConfinementReport(
        level="unchecked",
        mechanism="none",
        network="declared" if network_declared else "allowed",
        reason="confinement is not built yet",
    )
