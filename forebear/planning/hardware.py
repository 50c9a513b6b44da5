"""Named hardware: memory and peak speed of one device, and how many of them there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.documents.strictyaml import parse_mapping
from forebear.errors import UsageError
from forebear.planning.facts import Count, validated

GIB = 2**30

_CLUSTER = re.compile(r"(?:([1-9][0-9]{0,3})x)?([A-Za-z0-9][A-Za-z0-9.-]*)")
_PLAIN = re.compile(r"([1-9][0-9]{0,5})(GB|GiB)")


class Device(BaseModel):
    """One accelerator, or one machine's processor.

    Attributes:
        memory_bytes: what the device offers to a process.
        peak_bf16_flops, peak_fp32_flops: dense FLOP per second; None when not stated.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    kind: Literal["accelerator", "cpu"]
    memory_bytes: int = Field(ge=1)
    peak_bf16_flops: Count
    peak_fp32_flops: Count
    source: str = Field(min_length=10)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_: Literal["forebear.hardware/v1"] = Field(alias="schema")
    devices: tuple[Device, ...] = Field(strict=False, min_length=1)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Equal nodes of equal devices."""

    device: Device
    per_node: int
    nodes: int

    @property
    def devices(self) -> int:
        """All devices."""
        return self.per_node * self.nodes

    def __str__(self) -> str:
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return f"{nodes} of {self.per_node} x {self.device.name}: {self.devices} in all"


def load_devices() -> dict[str, Device]:
    """The named devices.

    Raises:
        ConfigError: the table does not hold.
    """
    where = "hardware.yaml"
    data = resources.files("forebear").joinpath("data", where).read_bytes()
    table = validated(_Table, parse_mapping(data, where=where), where=where)
    return {device.name: device for device in table.devices}


def parse_cluster(text: str, *, nodes: int) -> Cluster:
    """The cluster that ``8xH100-80GB`` names; ``4x96GiB`` names memory alone.

    Raises:
        UsageError: no such form or no such device; the known ones are listed.
    """
    match = _CLUSTER.fullmatch(text)
    if match is None:
        raise UsageError(f"{text[:40]!r} is no hardware", fix="write it as 8xH100-80GB or 4x96GiB")
    devices = load_devices()
    count, name = int(match.group(1) or 1), match.group(2)
    device = devices.get(name)
    plain = _PLAIN.fullmatch(name)
    if device is None and plain is not None:
        size_bytes = int(plain.group(1)) * (GIB if plain.group(2) == "GiB" else 10**9)
        device = Device(
            name=name, kind="accelerator", memory_bytes=size_bytes, peak_bf16_flops=None,
            peak_fp32_flops=None, source="the command line",
        )  # fmt: skip
    if device is None:
        raise UsageError(
            f"no hardware is named {name[:40]!r}",
            fix=f"known are {', '.join(devices)}; memory alone works too: {count}x96GiB",
        )
    return Cluster(device, count, nodes)
