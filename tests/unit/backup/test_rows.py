"""Rows go from any database to any other and stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from biosegment.backup import rows
from biosegment.backup.line import read_parts, write_parts
from biosegment.database import begin_writing, open_engine
from biosegment.errors import FailedPrecondition
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import open_blocking_objects
from tests.servers import PostgresServer, postgres_server

METADATA = sa.MetaData()
PARENTS = sa.Table("parents", METADATA, sa.Column("id", sa.String(9), primary_key=True))
THINGS = sa.Table(
    "things",
    METADATA,
    sa.Column(
        "number",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("parent", sa.String(9), sa.ForeignKey("parents.id")),
    sa.Column("large", sa.BigInteger),
    sa.Column("ratio", sa.Float(53)),
    sa.Column("flag", sa.Boolean),
    sa.Column("data", sa.LargeBinary),
    sa.Column("text", sa.Text),
    sa.Column("json", sa.JSON(none_as_null=True)),
    sqlite_autoincrement=True,
)
COLUMNS = [column.name for column in THINGS.columns]
ROWS: list[tuple[Any, ...]] = [
    (1, "p", 1 << 62, 0.1 + 0.2, True, bytes(range(256)), "ünï 'quoted' \\ \n line", '{"a": [1.50, null]}'),
    (2, None, None, None, None, None, None, None),
    (7, "p", -5, -0.0, False, b"", "", "null"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def make(kind: str, name: str) -> str:
        if kind == "sqlite":
            return f"sqlite+aiosqlite:///{tmp_path / name}.db"
        server: PostgresServer = request.getfixturevalue("server")
        server.create_database(f"{name}_{abs(hash(request.node.name))}")
        return server.url(f"{name}_{abs(hash(request.node.name))}").replace(
            "postgresql:", "postgresql+psycopg:"
        )

    return make


KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.system)]


def _made(url: str) -> sa.Engine:
    engine = open_engine(url)
    METADATA.create_all(engine)
    return engine


def _through(engine: sa.Engine, folder: Path) -> dict[str, list[list[Any]]]:
    """All rows, written to parts and read again."""
    target = open_blocking_objects(ObjectStoreSettings(object_store_url=f"file://{folder}"))
    with engine.connect() as connection:
        tables = rows.reflect(connection)
        parts = {
            table.name: write_parts(target, f"rows/{table.name}", map(list, rows.read(connection, table)))
            for table in tables
        }
        return {name: list(read_parts(target, found)) for name, found in parts.items()}


@pytest.mark.parametrize("source_kind", KINDS)
@pytest.mark.parametrize("target_kind", KINDS)
def test_every_value_is_what_it_was(url: Any, tmp_path: Path, source_kind: str, target_kind: str) -> None:
    source, target = _made(url(source_kind, "source")), _made(url(target_kind, "target"))
    with begin_writing(source) as connection:
        connection.execute(PARENTS.insert(), [{"id": "p"}])
        found = {table.name: table for table in rows.reflect(connection)}
        assert list(found) == ["parents", "things"]
        assert rows.insert(connection, found["things"], COLUMNS, ROWS) == 3
    read = _through(source, tmp_path / "parts")
    with begin_writing(target) as connection:
        for table in rows.reflect(connection):
            rows.insert(connection, table, [column.name for column in table.columns], read[table.name])
    again = _through(target, tmp_path / "again")
    assert again == read
    assert [tuple(row) for row in again["things"]] == ROWS
    with begin_writing(target) as connection:
        # New rows are numbered on.
        made = connection.execute(THINGS.insert().values(text="new").returning(THINGS.c.number))
        assert made.scalar_one() == 8
        kinds = sa.select(THINGS.c.json.is_(sa.null())).order_by(THINGS.c.number)
        assert list(connection.execute(kinds).scalars()) == [False, True, False, True]
    for engine in (source, target):
        engine.dispose()


def test_rows_with_columns_that_the_table_has_not_are_refused(url: Any) -> None:
    engine = _made(url("sqlite", "target"))
    with begin_writing(engine) as connection:
        (_, things) = rows.reflect(connection)
        with pytest.raises(FailedPrecondition, match="has no column"):
            rows.insert(connection, things, ["number", "weight"], [(1, 2)])
    engine.dispose()


def test_parts_are_cut_by_size_and_read_in_order(tmp_path: Path) -> None:
    target = open_blocking_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}"))
    lines = [[number, "x" * 1000] for number in range(20_000)]
    parts = write_parts(target, "rows/t", iter(lines))
    assert len(parts) > 1
    assert sum(part.rows for part in parts) == len(lines)
    assert list(read_parts(target, parts)) == lines
