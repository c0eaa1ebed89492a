"""However long a history is, a page of it is looked up and not searched for."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from biosegment_datastore.annotations.annotation import Annotation
from biosegment_datastore.page import PageRequest
from biosegment_datastore.request import Request
from biosegment_datastore.sql.annotation import SqlAnnotations
from biosegment_datastore.sql.commit import Commit, SqlCommits

from biosegment.database import Database
from biosegment.volume import Region
from tests.rpc.datastore.test_group_commit import new
from tests.rpc.datastore_server import RunningDatastore

NEAR = Region.of_shape((1, 128, 128), (3, 30, 40))
AFTER = PageRequest(100, 7, "")


class Explained:
    """The rows of annotations, and the plans of the queries that were made of them."""

    def __init__(self, database: Database, file: Path) -> None:
        self.rows = SqlAnnotations(database)
        self._file = file
        self._seen: list[tuple[str, Any]] = []
        assert database._blocking is not None
        for engine in (database._engine.sync_engine, database._blocking):
            sa.event.listen(engine, "before_cursor_execute", self._see)

    def _see(self, connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if "annotation" in statement:
            self._seen.append((statement, parameters))

    def plans(self) -> list[str]:
        with closing(sqlite3.connect(self._file)) as connection:
            return [
                row[3]
                for statement, parameters in self._seen
                for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]


@pytest.fixture
async def explained(datastore: RunningDatastore, volume: Any) -> AsyncIterator[Explained]:
    url = datastore.settings.database_url
    database = Database.open(url)
    commits = [Commit(new(number), Request("em", "", "")) for number in range(50)]
    assert all(isinstance(each, Annotation) for each in await SqlCommits(database).commit_many(commits))
    yield Explained(database, Path(url.removeprefix("sqlite+aiosqlite:///")))
    await database.close()


@pytest.mark.parametrize(
    ("name", "arguments", "indexes"),
    [
        ("list", ("em", AFTER), ["annotations_by_sequence"]),
        ("list", ("em", AFTER, "brain"), ["annotations_by_volume"]),
        ("list", ("em", AFTER, "brain", (), NEAR), ["annotations_by_cell"]),
        ("list", ("em", AFTER, "", (), None, "projects/em/samples/s"), ["annotations_by_sample"]),
        ("records", ("em", 7, 200), ["sqlite_autoindex_annotation_records_1"]),
        ("records", ("em", 7, 200, "brain"), ["annotation_records_by_volume"]),
        (
            "records",
            ("em", 7, 200, "brain", NEAR),
            ["annotations_by_cell", "annotation_records_by_annotation"],
        ),
        ("holding", ("em", "brain", NEAR), ["annotations_by_cell"]),
        ("holding", ("em", "brain", NEAR, 1 << 60), ["annotations_by_cell"]),
        ("holding_instances", ("em", "brain", NEAR), ["annotations_by_cell"]),
    ],
)
async def test_queries_use_indexes_and_pages_in_order_are_not_sorted(
    explained: Explained, name: str, arguments: tuple[Any, ...], indexes: list[str]
) -> None:
    await getattr(explained.rows, name)(*arguments)
    plans = explained.plans()
    assert plans
    for index in indexes:
        assert any(index in plan for plan in plans), plans
    for plan in plans:
        assert not plan.startswith(("SCAN annotations", "SCAN annotation_records")), plans
        # In the order of records from the index; only what is found by its place is sorted.
        assert "USE TEMP B-TREE" not in plan or NEAR in arguments, plans


async def test_a_region_is_found_among_annotations_of_all_sizes(
    datastore: RunningDatastore, volume: Any
) -> None:
    shapes = [(1, 1, 1), (1, 70, 90), (6, 3, 90), (6, 70, 90), (2, 40, 2)]
    corners = [(0, 0, 0), (5, 60, 85), (3, 20, 40), (1, 35, 12)]
    regions = [
        Region.of_shape(
            tuple(min(s, b - c) for s, b, c in zip(shape, (6, 70, 90), corner, strict=True)), corner
        )
        for shape in shapes
        for corner in corners
    ]
    database = Database.open(datastore.settings.database_url)
    try:
        commits = [
            Commit(replace(new(number), region=region), Request("em", "", ""))
            for number, region in enumerate(regions)
        ]
        await SqlCommits(database).commit_many(commits)
        rows = SqlAnnotations(database)
        for wanted in (*regions, NEAR, Region.of_shape((6, 70, 90))):
            page = await rows.list("em", PageRequest(1000, None, ""), "brain", (), wanted)
            expected = [f"a{n}" for n, region in enumerate(regions) if region.intersection(wanted)]
            assert [each.id for each in page.items] == expected
            assert [each.id for each in await rows.holding("em", "brain", wanted)] == expected
    finally:
        await database.close()
