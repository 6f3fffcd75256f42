"""One table for every report, with four renderings: terminal, Markdown, CSV and HTML.

Texts are shown as they are: none is read as markup.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup
from rich import box
from rich import table as rich_table
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.text import Text

from restmcts.reporting.figures import NONE

MAX_FIGURE = 14
"""Characters of a figure with its error: it is read as one word."""

MAX_WORD = 20
"""Characters of a word that a column of sentences has room for at least."""

ENDLESS = 10_000

CellValue = str | int | float | None


@dataclass(frozen=True, slots=True)
class FoldedTable:
    """A table for a rich console. Where it is narrow, headers are broken at their blanks, and
    columns for which there is no room follow in tables of their own, each beside the first column.

    Attributes:
        rows: each as long as `columns`.
        framed: with lines around every cell, and headers above figures to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Text]]
    title: str = ""
    framed: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[rich_table.Table]:
        """Yield the tables that fit."""

        def fits(table: rich_table.Table) -> bool:
            endless = options.update(width=ENDLESS)
            return Measurement.get(console, endless, table).minimum <= options.max_width

        whole = self._part(range(len(self.columns)), is_broken=False)
        if fits(whole):
            yield whole
            return
        parts, part = [], [0]
        for column in range(1, len(self.columns)):
            if len(part) > 1 and not fits(self._part([*part, column])):
                parts.append(part)
                part = [0]
            part.append(column)
        for number, chosen in enumerate([*parts, part]):
            table = self._part(chosen, is_titled=number == 0)
            yield table if fits(table) else self._part(chosen, is_titled=number == 0, is_wrapped=True)

    def _part(
        self, chosen: Sequence[int], *, is_broken: bool = True, is_titled: bool = True, is_wrapped: bool = False
    ) -> rich_table.Table:
        """Return a table of some of the columns.

        Args:
            is_broken: headers of columns of figures are broken.
            is_wrapped: figures are too, as not even two columns fit.
        """
        looks = {} if self.framed else {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}
        table = rich_table.Table(title=(self.title or None) if is_titled else None, title_justify="left", **looks)  # type: ignore[arg-type]
        for place in chosen:
            texts = [row[place].plain for row in self.rows]
            name = self.columns[place]
            is_figure = all(" " not in text or len(text) <= MAX_FIGURE for text in texts)
            header_words = max(map(len, name.split()), default=0)
            if is_figure:
                least = max([header_words, *map(len, texts)])
                shown = "\n".join(wrap(name, least)) if is_broken and least else name
                least = least if is_broken else max(least, len(name))
            else:
                words = [len(word) for text in texts for word in text.split()]
                shown, least = name, max(header_words, min(max(words, default=0), MAX_WORD))
            table.add_column(
                Text(shown),
                justify="right" if self.framed and place else "left",
                no_wrap=is_figure and not is_wrapped,
                min_width=None if is_wrapped else least,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(row[place] for place in chosen))
        return table


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; the first column names the row.

    Attributes:
        rows: texts, numbers, or None for what is not there; each row as long as `columns`.
        about: what to know of the table, as sentences.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[CellValue, ...], ...]
    about: str = ""

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, CellValue]]) -> "Table":
        """Return a table with a column for every field of the first record."""
        columns = tuple(records[0]) if records else ()
        return cls("", columns, tuple(tuple(record[name] for name in columns) for record in records))

    def terminal(self) -> FoldedTable:
        """Return the table for a rich console."""
        rows = [
            [Text(_text(cell), justify="right" if place else "left") for place, cell in enumerate(row)]
            for row in self.rows
        ]
        return FoldedTable(self.columns, rows, self.title, framed=True)

    def markdown(self) -> str:
        """Return the table's lines as Markdown, without its title."""
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1))]
        lines += [tuple(_text(cell).replace("|", "\\|") for cell in row) for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def csv(self) -> str:
        """Return the table as CSV with a header, numbers in full and nothing for None."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return stream.getvalue()

    def html(self) -> Markup:
        """Return the table as an HTML `<table>` in a scrolling frame; every text is escaped."""
        head = Markup("").join(Markup("<th>{}</th>").format(name) for name in self.columns)
        cells = (Markup("").join(Markup("<td>{}</td>").format(_text(cell)) for cell in row) for row in self.rows)
        body = Markup("\n").join(Markup("<tr>{}</tr>").format(row) for row in cells)
        frame = Markup('<div class="scroll"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table></div>')
        return frame.format(head, body)


def _text(cell: CellValue) -> str:
    match cell:
        case None:
            return NONE
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.2f}"
        case _:
            return cell
