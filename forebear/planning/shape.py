"""A decoder's architecture as numbers: which linear layers it has, and how many parameters.

Norms, biases and other modalities are left out: below one percent of a model of today.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Experts(_Part):
    """Mixture-of-experts layers.

    Attributes:
        layers: how many layers have experts; the others are dense.
        width: inner width of one expert.
        routed: experts that the router chooses from.
        active: how many of them work on one token.
        shared: experts that work on every token.
    """

    layers: int = Field(ge=1)
    width: int = Field(ge=1)
    routed: int = Field(ge=1)
    active: int = Field(ge=1)
    shared: int = Field(ge=0)


class Latent(_Part):
    """Multi-head latent attention: ranks and head widths."""

    q_rank: int = Field(ge=1)
    kv_rank: int = Field(ge=1)
    rope_width: int = Field(ge=1)
    plain_width: int = Field(ge=1)
    value_width: int = Field(ge=1)


class Architecture(_Part):
    """A decoder with gated MLPs.

    Attributes:
        mlp_width: inner width of a dense layer's MLP; 0 when every layer has experts.
        tied: the output layer is the embedding.
    """

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_width: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    mlp_width: int = Field(ge=0)
    tied: bool
    experts: Experts | None = None
    latent: Latent | None = None

    @model_validator(mode="after")
    def _layers_add_up(self) -> Architecture:
        if self.dense_layers < 0:
            raise ValueError("more layers with experts than layers")
        if self.dense_layers and not self.mlp_width:
            raise ValueError("layers without experts need an mlp_width")
        return self

    @property
    def dense_layers(self) -> int:
        """Layers without experts."""
        return self.layers - (self.experts.layers if self.experts else 0)

    def linear_shapes(self) -> list[tuple[int, int, int]]:
        """(inputs, outputs, count) of every linear layer but router, routed experts and output."""
        h, n = self.hidden, self.layers
        if self.latent is None:
            q, kv = self.heads * self.head_width, self.kv_heads * self.head_width
            shapes = [(h, q, n), (h, kv, 2 * n), (q, h, n)]
        else:
            one, key = self.latent, self.latent.plain_width + self.latent.rope_width
            shapes = [
                (h, one.q_rank, n),
                (one.q_rank, self.heads * key, n),
                (h, one.kv_rank + one.rope_width, n),
                (one.kv_rank, self.heads * (one.plain_width + one.value_width), n),
                (self.heads * one.value_width, h, n),
            ]
        # a gated MLP: two in, one out
        widths = [(self.mlp_width, self.dense_layers)]
        if self.experts is not None:
            widths.append((self.experts.width, self.experts.layers * self.experts.shared))
        for width, count in widths:
            if count:
                shapes += [(h, width, 2 * count), (width, h, count)]
        return shapes

    def routed_parameters(self) -> int:
        """Parameters of all routed experts; 0 without experts."""
        one = self.experts
        return one.layers * one.routed * 3 * self.hidden * one.width if one else 0

    def table_parameters(self) -> int:
        """Parameters of the tables over the vocabulary: embedding, and output unless tied."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def total(self) -> int:
        """All parameters."""
        return self._common() + self.routed_parameters()

    def active(self) -> int:
        """Parameters that work on one token."""
        one = self.experts
        return self._common() + (self.routed_parameters() * one.active // one.routed if one else 0)

    def _common(self) -> int:
        linear = sum(inputs * outputs * count for inputs, outputs, count in self.linear_shapes())
        routers = self.experts.layers * self.experts.routed * self.hidden if self.experts else 0
        return linear + routers + self.table_parameters()
