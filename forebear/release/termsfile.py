"""The owner's terms as a person writes them: section ``attest`` of the params.

Refuses unknown keys and values of another type. The rules that two values obey together stand in
``Terms`` itself.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.release.terms import Terms


class WrittenPrevious(BaseModel):
    """The release before this one.

    Attributes:
        serial: its number.
        sha256: SHA-256 of its ``release.sigstore.json``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    serial: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class WrittenTerms(BaseModel):
    """Keys of the section; see :class:`Terms` for what they mean."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    serial: int = Field(default=1, ge=1)
    documents: Literal["draft", "final"] = "draft"
    expires_days: int = Field(default=365, ge=1, le=3660)
    allow_smoke: bool = False
    previous: WrittenPrevious | None = None

    def terms(self) -> Terms:
        """The terms as ``attest`` takes them.

        Raises:
            ConfigError: the values contradict each other.
        """
        return Terms(
            serial=self.serial,
            documents=self.documents,
            expires_days=self.expires_days,
            allow_smoke=self.allow_smoke,
            previous=None if self.previous is None else self.previous.model_dump(),
        )
