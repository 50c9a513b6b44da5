"""Whether a licence expression is covered by an allow-list of SPDX identifiers.

``OR`` lets the user choose, so one allowed side is enough; ``AND`` binds by both; an exception
(``WITH``) only adds permissions. ``AND`` binds tighter, and there are no parentheses
(``params.is_spdx``).

Source: SPDX 2.3, annex D.
"""

from __future__ import annotations

from collections.abc import Collection

FILTER = "licence"


def is_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Whether ``expression`` may be used when these identifiers may."""
    return any(
        all(one.partition(" WITH ")[0] in allowed for one in choice.split(" AND "))
        for choice in expression.split(" OR ")
    )
