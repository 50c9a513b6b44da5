"""A row of a user's own facts file."""

from __future__ import annotations

from typing import Any

import yaml

OWN: dict[str, Any] = {
    "schema": "forebear.models/v1",
    "models": [
        {
            "name": "Own-1B", "repo": "us/own-1b", "publisher": "us", "licence": "MIT",
            "posture": "permissive", "tuned": False, "total": 1000000000, "active": "unknown",
            "architecture": "unknown", "context": "unknown",
            "languages": {"named": ["en"], "count": 1}, "source": "our own model card",
            "released": "unknown", "as_of": "2026-11",
        }
    ],
}  # fmt: skip


def own(**changes: Any) -> bytes:
    row = {**OWN["models"][0], **changes}
    return yaml.safe_dump({**OWN, "models": [row]}).encode()
