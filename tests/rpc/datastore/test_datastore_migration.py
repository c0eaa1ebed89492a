from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from biosegment_datastore.tables import METADATA

from biosegment.database import migrate


def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    file = tmp_path / "datastore.sqlite"
    migrate(f"sqlite+aiosqlite:///{file}", "biosegment_datastore")
    engine = sa.create_engine(f"sqlite:///{file}")
    found = sa.MetaData()
    found.reflect(engine)
    engine.dispose()

    def described(table: sa.Table) -> object:
        columns = {
            (column.name, str(column.type), bool(column.nullable), column.primary_key) for column in table.c
        }
        indexes = {(index.name, tuple(index.columns.keys()), bool(index.unique)) for index in table.indexes}
        keys = {
            (tuple(key.column_keys), key.referred_table.name, key.ondelete)
            for key in table.foreign_key_constraints
        }
        return columns, indexes, keys

    for name, table in METADATA.tables.items():
        assert described(found.tables[name]) == described(table), name
