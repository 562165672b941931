"""Rows under headings, drawn for whatever width there is.

Cells are `Text`, never plain strings: rich would read `[BOS]` as markup. Knows
rich and nothing of what the cells mean.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NAME = "bold cyan"
STRONG = "bold"
FAINT = "dim"
LEAST_CELL = 18
"""Columns under which words are broken so often that lines read better."""


@dataclass(frozen=True)
class Sheet:
    """Rows under headings: a table without lines where there is room for one,
    else each row as a few indented lines.

    Attributes:
        headings: of the columns; may be empty.
        rows: the cells.
        right: which headings' columns are aligned to the right.
        whole: how many columns, from the left, are not broken into lines.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    right: tuple[str, ...] = ()
    whole: int = 1

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        if options.max_width >= self._least_width():
            yield self._table()
        else:
            yield from self._stacked()

    def _least_width(self) -> int:
        columns = list(zip(*self.rows, strict=True))
        cells = [
            max((cell.cell_len for cell in column), default=0) for column in columns
        ]
        kept, broken = cells[: self.whole], cells[self.whole :]
        gaps = 2 * len(self.headings)
        return sum(kept) + sum(min(width, LEAST_CELL) for width in broken) + gaps

    def _table(self) -> Table:
        table = Table(
            box=None,
            pad_edge=False,
            header_style=FAINT,
            show_header=any(self.headings),
        )
        for index, heading in enumerate(self.headings):
            table.add_column(
                heading,
                justify="right" if heading in self.right else "left",
                no_wrap=index < self.whole,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def _stacked(self) -> Iterator[RenderableType]:
        for row in self.rows:
            yield Text("  ").join(cell for cell in row[: self.whole] if cell.plain)
            for cell in row[self.whole :]:
                if cell.plain:
                    yield Padding(cell, (0, 0, 0, 4))


def make_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Text | str]],
    right: str = "",
    whole: int = 1,
) -> Sheet:
    """Rows under headings, ready to be shown.

    Args:
        headings: of the columns.
        rows: the cells; a `str` is shown as it is.
        right: headings of the columns that are aligned to the right, by spaces.
        whole: how many columns, from the left, are not broken into lines.
    """
    cells = tuple(
        tuple(Text(cell) if isinstance(cell, str) else cell for cell in row)
        for row in rows
    )
    return Sheet(tuple(headings), cells, tuple(right.split()), whole)
