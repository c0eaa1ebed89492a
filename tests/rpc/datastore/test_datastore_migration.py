from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from biosegment_datastore.page import PageRequest
from biosegment_datastore.sql.annotation import SqlAnnotations
from biosegment_datastore.sql.tables import METADATA
from biosegment_datastore.sql.volume import SqlVolumes

from biosegment.database import Database, begin_writing, migrate, open_engine, upgrade
from biosegment.volume import Index, Region
from tests.servers import postgres

PACKAGE = "biosegment_datastore"
MANY = 1100
"""Annotations: more than a step of the migration takes at once."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def url(request: Any, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'datastore.sqlite'}"
        return
    with postgres() as server:
        yield server.replace("postgresql://", "postgresql+psycopg://")


def regions() -> list[Region]:
    """Of samples, of blocks and of one whole volume, all within 200 x 9000 x 9000."""
    numbers = np.random.default_rng(4)
    found = [Region.of_shape((200, 9000, 9000))]
    for _ in range(MANY - 1):
        shape = [(1, 128, 128), (3, 40, 700), (40, 300, 200)][numbers.integers(3)]
        corner = [int(numbers.integers(size)) for size in (160, 8300, 8300)]
        found.append(Region.of_shape(shape, Index(*corner)))
    return found


def old_rows() -> dict[str, list[dict[str, Any]]]:
    """What a datastore of the second revision held."""
    common = {"project_id": "em", "volume_id": "brain"}
    times = {"create_time_us": 5, "update_time_us": 6, "version": 1}
    project: dict[str, Any] = {
        "id": "em",
        "display_name": "em",
        "description": "",
        "classes": [],
        "retired_values": [],
    }
    project |= {"working_resolution_nm": 8.0, "storage_key": "projects/em", "last_sequence": MANY, **times}
    volume: dict[str, Any] = {
        "project_id": "em",
        "id": "brain",
        "display_name": "b",
        "shape": [200, 9000, 9000],
    }
    volume |= {"data_type": "uint8", "voxel_size_nm": [30.0, 8.0, 8.0], "levels": [], "key": "volumes/x"}
    volume |= {"source": "x.tif", "display_window": [0.0, 255.0], "slice_mean": [1.5], "slice_std": [0.5]}
    volume |= {"creator": "ada", **times}
    annotations, records = [], []
    for sequence, region in enumerate(regions(), 1):
        bounds = {
            f"{edge}_{axis}": value
            for edge in ("start", "stop")
            for axis, value in zip("zyx", getattr(region, edge), strict=True)
        }
        row = {**common, **bounds, "id": f"a{sequence}", "sequence": sequence, "kind": "dense"}
        row |= {"class_scope": [2], "author": "ada", "create_time_us": 10 * sequence, "sample": ""}
        row |= {"strategy": "", "model": "", "work_time_s": 1.0, "state": "pending", "labels_sha256": "0"}
        row |= {"review_comment": "", "voxel_counts": {"2": 3}, "comment": "", "key": f"k{sequence}"}
        annotations.append(row)
        record = {**common, "sequence": sequence, "annotation_id": f"a{sequence}", "action": "committed"}
        records.append(
            {**record, "accepted": False, "comment": "", "author": "ada", "create_time_us": sequence}
        )
    projection = {**common, "wanted_sequence": MANY, "applied_sequence": 7, "owner": "", "lease_us": 0}
    return {
        "projects": [project],
        "volumes": [volume],
        "annotations": annotations,
        "annotation_records": records,
        "projections": [projection],
        "garbage": [{"prefix": "volumes/gone", "due_us": 1 << 62, "owner": "datastore-job"}],
    }


def fill(url: str) -> None:
    """Make a database of the second revision with rows in it."""
    engine = open_engine(url)
    with begin_writing(engine) as connection:
        upgrade(connection, PACKAGE, "0002")
        metadata = sa.MetaData()
        metadata.reflect(connection)
        for name, rows in old_rows().items():
            # As reflected, SQLite's JSON is known as such too.
            connection.execute(sa.insert(metadata.tables[name]), rows)
    engine.dispose()


async def test_a_database_full_of_rows_is_upgraded_and_everything_is_found_in_it(url: str) -> None:
    await asyncio.to_thread(fill, url)
    await asyncio.to_thread(migrate, url, PACKAGE)
    database = Database.open(url)
    try:
        async with database.read() as connection:
            for name, rows in old_rows().items():
                table = METADATA.tables[name]
                found = [dict(row._mapping) for row in await connection.execute(sa.select(table))]
                names = list(rows[0])
                kept = [{key: row[key] for key in names} for row in found]
                assert sorted(kept, key=str) == sorted(rows, key=str), name
        annotations = SqlAnnotations(database)
        for near in (
            Region.of_shape((1, 500, 500), (20, 4000, 4000)),
            Region.of_shape((30, 200, 900), (100, 0, 8000)),
            Region.of_shape((200, 9000, 9000)),
        ):
            expected = [n for n, each in enumerate(regions(), 1) if each.intersection(near) is not None]
            page = PageRequest.of(2 * MANY, "", "test", largest=2 * MANY)
            listed = await annotations.list("em", page, "brain", region=near)
            assert [each.sequence for each in listed.items] == expected
            then = await annotations.holding("em", "brain", near, as_of_us=MANY // 2)
            assert [each.sequence for each in then] == [n for n in expected if n <= MANY // 2]
        volume = await SqlVolumes(database).get("em", "brain")
        assert (volume.reference, volume.key) == (None, "volumes/x")
    finally:
        await database.close()


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
