"""The time in rows: the database's own, so that processes whose clocks differ agree on leases
and on what is overdue.

SQLite runs inside the process and on its machine; there it is that machine's time, to the
millisecond.
"""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, Float, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone, UTC, on both databases; SQLite by itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what is stored.

        Raises:
            ValueError: if the time has no zone, and could be any of two dozen.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what was stored, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class moment(FunctionElement[datetime]):
    """The database's time when the statement arrives, `seconds` later (or earlier, below 0)."""

    name = "moment"
    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(*([literal(float(seconds), Float())] if seconds else []))


@compiles(moment, "postgresql")
def _on_postgresql(element: moment, compiler: SQLCompiler, **options: object) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(statement_timestamp() + make_interval(secs => {seconds}))" if seconds else "statement_timestamp()"


@compiles(moment, "sqlite")
def _on_sqlite(element: moment, compiler: SQLCompiler, **options: object) -> str:
    seconds = compiler.process(element.clauses, **options)
    later = f", printf('%+.3f seconds', {seconds})" if seconds else ""
    # As SQLAlchemy writes times there: texts are compared, so all must have equally many digits.
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now'{later}) || '000')"
