"""One table for every report, with four renderings: terminal, Markdown, CSV and HTML.

Texts are shown as they are: none is read as markup.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich import table as rich_table
from rich.text import Text

from restmcts.reporting.figures import NONE

CellValue = str | int | float | None


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

    def terminal(self) -> rich_table.Table:
        """Return the table for a rich console."""
        shown = rich_table.Table(title=self.title or None, title_justify="left")
        for place, name in enumerate(self.columns):
            shown.add_column(Text(name), justify="right" if place else "left", no_wrap=not place)
        for row in self.rows:
            shown.add_row(*(Text(_text(cell)) for cell in row))
        return shown

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
