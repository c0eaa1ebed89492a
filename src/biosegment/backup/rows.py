"""Rows of a database, whatever its tables are: read in one transaction, and put into another database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from biosegment.errors import FailedPrecondition

REVISIONS: Final = "alembic_version"
_AT_ONCE: Final = 1000


def reflect(connection: sa.Connection) -> list[sa.Table]:
    """All tables of a database, those first that others refer to; Alembic's own is left out."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != REVISIONS]


def revision(connection: sa.Connection) -> str:
    """Of the migrations that made the tables."""
    return str(connection.execute(sa.text(f"SELECT version_num FROM {REVISIONS}")).scalar_one())


def read(connection: sa.Connection, table: sa.Table) -> Iterator[Sequence[Any]]:
    """Rows in the order of the primary key; JSON as the text that the database keeps."""
    query = sa.select(*(_as_text(connection, column) for column in table.columns)).order_by(
        *table.primary_key
    )
    # Streamed: on PostgreSQL by a cursor of the server.
    result = connection.execution_options(yield_per=_AT_ONCE).execute(query)
    yield from result


def insert(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int:
    """Put rows into an empty table; returns how many.

    Raises:
        FailedPrecondition: BACKUP_MISMATCH when the table has no such columns.
    """
    if unknown := set(columns) - set(table.columns.keys()):
        raise FailedPrecondition("BACKUP_MISMATCH", f"table {table.name} has no column {sorted(unknown)}")
    statement = sa.insert(table).values({name: _from_text(connection, table.c[name]) for name in columns})
    count, batch = 0, []
    for row in rows:
        batch.append(dict(zip(columns, row, strict=True)))
        if len(batch) == _AT_ONCE:
            connection.execute(statement, batch)
            count, batch = count + len(batch), []
    if batch:
        connection.execute(statement, batch)
    _continue_numbering(connection, table)
    return count + len(batch)


def _as_text(connection: sa.Connection, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    if not isinstance(column.type, sa.JSON):
        return column
    # As it is: SQL's NULL and JSON's null differ, and a number must not change its digits.
    if connection.dialect.name == "sqlite":
        return sa.type_coerce(column, sa.Text).label(column.name)
    return sa.cast(column, sa.Text).label(column.name)


def _from_text(connection: sa.Connection, column: sa.Column[Any]) -> Any:
    if not isinstance(column.type, sa.JSON):
        return sa.bindparam(column.name, type_=column.type)
    given = sa.bindparam(column.name, type_=sa.Text)
    if connection.dialect.name == "sqlite":
        return given
    # SQLAlchemy's own type would encode the text once more.
    return sa.cast(given, _Json())


class _Json(sa.types.UserDefinedType[str]):
    """PostgreSQL's `json` as plain text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"


def _continue_numbering(connection: sa.Connection, table: sa.Table) -> None:
    """Have PostgreSQL number new rows after the ones that were put in with their numbers; SQLite does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key:
        place = {"table": f'"{table.name}"', "column": column.name}
        sequence = connection.execute(sa.select(sa.func.pg_get_serial_sequence(*place.values()))).scalar_one()
        if sequence is not None:
            last = connection.execute(sa.select(sa.func.max(column))).scalar_one()
            if last is not None:
                connection.execute(sa.select(sa.func.setval(sequence, last)))
