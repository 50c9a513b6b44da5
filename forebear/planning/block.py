"""The block of comments in a recipe that shows its arithmetic, and the options it was made with.

``forebear fit RECIPE --write`` puts the block between its two marker lines; a test computes it
again. Nobody types a figure.
"""

from __future__ import annotations

import textwrap

from pydantic import BaseModel, ConfigDict, Field

from forebear.errors import ConfigError, UsageError
from forebear.planning.compute import Rates
from forebear.planning.facts import shown, validated
from forebear.planning.fit import FITS, FitReport, assumptions
from forebear.planning.hardware import GIB, Cluster, parse_cluster

BEGIN = "# >>> forebear fit:"
END = "# <<< forebear fit"
_WIDTH = 98


class Options(BaseModel):
    """What a fit is asked with; the first line of the block holds the same words.

    Attributes:
        row_tokens: length of a fine-tuning row; None for that of a packed sequence.
        mfu: part of the peak that training reaches; sampling has its own.
        price: of one device-hour; None when not given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hardware: str | None = None
    nodes: int = Field(default=1, ge=1)
    row_tokens: int | None = Field(default=None, ge=1)
    mfu: float = Field(default=0.35, gt=0, le=1)
    sampling_mfu: float = Field(default=0.05, gt=0, le=1)
    price: float | None = Field(default=None, gt=0)

    @property
    def rates(self) -> Rates:
        """The rates that the options state."""
        return Rates(self.mfu, self.sampling_mfu, self.price)

    def cluster(self) -> Cluster:
        """The hardware that the options name.

        Raises:
            UsageError: there is no such hardware, or none is named.
        """
        if self.hardware is None:
            raise UsageError(
                "no hardware is named",
                fix="add --hardware 8xH100-80GB, or write it into the recipe with --write",
            )
        return parse_cluster(self.hardware, nodes=self.nodes)

    def words(self) -> str:
        """The options as ``key=value`` words."""
        given = self.model_dump(exclude_none=True)
        return " ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in given.items()
        )


def parse_options(text: str, *, where: str) -> Options:
    """The options in a recipe's block; the defaults when it has none.

    Raises:
        ConfigError: a word is no known ``key=value``.
    """
    first = next((line for line in text.splitlines() if line.startswith(BEGIN)), BEGIN)
    pairs = dict(word.partition("=")[::2] for word in first.removeprefix(BEGIN).split())
    return validated(Options, pairs, where=f"{where}: block")


def render_block(report: FitReport, options: Options) -> list[str]:
    """The comment lines of the block, markers included."""
    lines = [f"# {line}".rstrip() for line in render(report)]
    table = _table(report) if report.stages else []
    kept = [
        part
        for line in lines
        for part in ([line] if line[2:] in table or len(line) <= _WIDTH else _wrap(line))
    ]
    return [f"{BEGIN} {options.words()}", *kept, END]


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent="#   ", break_on_hyphens=False)


def replace_block(text: str, block: list[str], *, where: str) -> str:
    """``text`` with its block replaced.

    Raises:
        ConfigError: the markers are not there once each, in order.
    """
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(BEGIN)]
    ends = [i for i, line in enumerate(lines) if line == END]
    if len(starts) != 1 or len(ends) != 1 or starts[0] > ends[0]:
        raise ConfigError(
            "has no block to write to", where, f"put the lines `{BEGIN}` and `{END}` in its head"
        )
    return "\n".join([*lines[: starts[0]], *block, *lines[ends[0] + 1 :]]) + "\n"


def render(report: FitReport) -> list[str]:
    """Model, cluster, a table of the stages and the assumptions, as text lines."""
    model, price = report.model, report.rates.price
    lines = []
    if model is not None:
        lines.append(
            f"model    {model.repo}: {shown(model.parameters)} parameters, "
            f"{shown(model.at_work)} at work on a token; licence {model.licence}"
        )
    lines.append(f"cluster  {report.cluster}")
    if report.stages:
        lines += ["", *_table(report)]
        if price is not None:
            lines.append(f"cost at {price:g} for a device-hour, an example: put your own price")
    lines += ["", f"verdict  {report.verdict}{': ' + report.reason if report.reason else ''}"]
    lines += ["", "assumed:", *(f"- {line}" for line in assumptions(report))]
    return [*lines, *(f"note: {line}" for line in report.notes)]


def render_terms(report: FitReport) -> list[str]:
    """Every term of every stage with its formula, as text lines."""
    lines = []
    for one in report.stages:
        lines += ["", f"{one.stage}: {one.flop_formula} = {one.flop:.3g} FLOP"]
        lines += [
            f"  {term.size_bytes / GIB:10.2f} GiB  {term.name}: {term.formula}"
            for term in one.terms
        ]
    return lines


def _table(report: FitReport) -> list[str]:
    head = ("stage", "devices", "tokens", "FLOP", "device-hours", "wall hours", "cost",
            "peak/budget GiB", "host GiB", "verdict")  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for one in report.stages:
        memory = f"{one.peak_bytes / GIB:.1f}/{one.budget_bytes / GIB:.1f}"
        rows.append(
            (one.stage, str(one.devices), f"{one.tokens:.3g}", f"{one.flop:.3g}",
             _amount(one.device_hours), _amount(one.wall_hours), _amount(one.cost), memory,
             _gib(one.host_bytes), one.verdict)
        )  # fmt: skip
    tokens, flop = (sum(getattr(s, key) for s in report.stages) for key in ("tokens", "flop"))
    sums = [
        _sum([getattr(stage, key) for stage in report.stages])
        for key in ("device_hours", "wall_hours", "cost")
    ]
    verdict = "" if report.verdict == FITS else report.verdict
    rows.append(("all", "", f"{tokens:.3g}", f"{flop:.3g}", *sums, "", "", verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i in (0, len(head) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _gib(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / GIB:.0f}"


def _amount(number: float | None) -> str:
    if number is None:
        return "unknown"
    return f"{number:.0f}" if number >= 100 else f"{number:.2f}"


def _sum(numbers: list[float | None]) -> str:
    known = [number for number in numbers if number is not None]
    return _amount(sum(known) if len(known) == len(numbers) else None)
