"""Tables on the terminal whose numbers are never cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from rich.console import Console


def print_fitted_table(
    console: Console,
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    texts: Collection[int] = (0,),
) -> None:
    """Prints a table that is as narrow as the console, if its contents allow this.

    Headers and texts wrap between words. A word or a number is never broken: if the
    console is too narrow for them, the lines are longer than the console is wide.

    Args:
        console: Console to print on.
        header: Names of the columns.
        lines: Cells of each line.
        title: Title above the table.
        texts: Indices of the columns with texts. They are aligned to the left; the
            others hold numbers and are aligned to the right.
    """
    from rich.table import Table

    widths, wanted = [], []
    for index, name in enumerate(header):
        cells = [line[index] for line in lines]
        fixed = [] if index in texts else cells
        words = [word for text in (name, *cells) for word in text.split()]
        widths.append(max(map(len, [*words, *fixed]), default=0))
        wanted.append(max(map(len, [name, *cells])))  # at least the width
    # Two characters between columns, or one if the table is then narrow enough.
    between = len(header) - 1
    gap = 2 if sum(widths) + 2 * between <= console.width else 1
    for index, width in enumerate(wanted):
        room = max(console.width - gap * between - sum(widths), 0)
        more = width - widths[index]
        if more <= room or index in texts:
            widths[index] += min(room, more)
    # Without lines between columns most tables fit into 80 characters.
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    table.padding = (0, gap, 0, 0)
    for index, (name, width) in enumerate(zip(header, widths, strict=True)):
        justify: Literal["left", "right"] = "left" if index in texts else "right"
        table.add_column(name, justify=justify, width=width, overflow="fold")
    for line in lines:
        table.add_row(*line)
    table.width = sum(widths) + gap * between
    console.print(table, soft_wrap=True)
