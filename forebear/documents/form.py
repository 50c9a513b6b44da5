"""A form with keys of its own: each answer once as plain data and once as a bound line.

Source: compliance page, section 8, D5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents import body
from forebear.documents.values import Facts, Value, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.locale import Locale


class Form:
    """Answers in the order in which they are put.

    Args:
        facts: what may be shown.
        locale: language of the labels.
        name: beginning of the label keys: ``<name>.section.<key>``, ``<name>.<answer>``.
    """

    def __init__(self, facts: Facts, locale: Locale, name: str) -> None:
        self.locale = locale
        self._facts = facts
        self._name = name
        self._keys: dict[str, Any] = {}
        self._sections: list[tuple[str, list[body.Block]]] = []
        self._at = ""

    def start(self, path: str, section: str) -> None:
        """Begins a section whose answers stand at ``path``, keys joined by slashes."""
        self._at = path
        self._sections.append((section, []))
        self._place()

    def put(  # noqa: PLR0913  # one argument per property of an answer
        self, key: str, fact: str = "", *, value: Value | None = None, of: Sequence[str] = (),
        boxes: bool = False, as_list: bool = False,
    ) -> None:  # fmt: skip
        """One answer.

        Args:
            key: in the form.
            fact: id of the fact that it is; or
            value: derived from others.
            of: declarations that it needs; one that is missing is shown as such.
            boxes: yes and no as boxes.
            as_list: a list in the data also when it is one text.
        """
        shown = value if value is not None else self._fact(fact)
        missing = self._supplier((fact, *of))
        plain = shown.value
        if plain is None and as_list and shown.kind == "not_applicable":
            self._place()[key] = []
        if plain is not None and missing is None:
            self._place()[key] = [plain] if as_list and not isinstance(plain, list) else plain
        where = f"{self._at}/{key}" if self._at else key
        line = body.Line(
            fact=where, label=self._label(key), value=shown, missing=missing, boxes=boxes
        )
        blocks = self._sections[-1][1]
        if blocks and isinstance(blocks[-1], body.LinesBlock):
            blocks[-1] = body.LinesBlock(lines=(*blocks[-1].lines, line))
        else:
            blocks.append(body.LinesBlock(lines=(line,)))

    def answer(self, key: str, fact: str) -> bool:
        """A yes/no; whether it was yes. One that nobody answered is no yes."""
        self.put(key, fact, boxes=True)
        return self._fact(fact).value is True

    def records(self, key: str, records: Sequence[tuple[str, dict[str, Value]]]) -> None:
        """A list of things, each with named values."""
        self._place()[key] = [
            {name: value.value for name, value in cells.items() if value.value is not None}
            for _, cells in records
        ]
        where = f"{self._at}/{key}"
        if not records:
            return
        self._sections[-1][1].append(
            body.RecordsBlock(
                fact=where,
                caption=self._label(key),
                records=tuple(
                    body.Record(
                        heading=str(next(iter(cells.values())).value or row),
                        lines=tuple(
                            body.Line(
                                fact=f"{where}/{index}/{name}", label=self._label(name), value=value
                            )
                            for name, value in cells.items()
                        ),
                    )
                    for index, (row, cells) in enumerate(records)
                ),
            )
        )

    def sections(self) -> tuple[body.Section, ...]:
        """The form as sections."""
        return tuple(
            body.Section(
                number=self.locale.labels.get(f"{self._name}.number.{name}", ""),
                heading=self.locale.text(f"{self._name}.section.{name}"),
                blocks=tuple(blocks),
            )
            for name, blocks in self._sections
        )

    def keys(self) -> dict[str, Any]:
        """The form as plain data."""
        return self._keys

    def _place(self) -> dict[str, Any]:
        here = self._keys
        for part in filter(None, self._at.split("/")):
            here = here.setdefault(part, {})
        return here

    def _label(self, key: str) -> str:
        return self.locale.text(f"{self._name}.{key}")

    def _fact(self, fact: str) -> Value:
        return self._facts.values.get(fact, unknown(self.locale.text("reason.not_recorded")))

    def _supplier(self, facts: Sequence[str]) -> str | None:
        return next((m.supplier for m in self._facts.missing if m.field in facts), None)
