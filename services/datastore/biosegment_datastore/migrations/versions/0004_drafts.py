"""Drafts, and the indexes by region, sample and annotation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from biosegment_datastore.annotations.cell import cell_of

from biosegment.volume import Index, Region

revision = "0004"
down_revision = "0003"

_BATCH = 1000
_EDGES = [f"{edge}_{axis}" for edge in ("start", "stop") for axis in "zyx"]


def upgrade() -> None:
    op.create_table(
        "drafts",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("volume_id", sa.String(63), primary_key=True),
        sa.Column("author", sa.String(200), primary_key=True),
        sa.Column("id", sa.String(63), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _EDGES),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("class_scope", sa.JSON, nullable=False),
        sa.Column("sample", sa.String(200), nullable=False),
        sa.Column("work_time_s", sa.Float(53), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("base_sequence", sa.BigInteger, nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.Column("labels_sha256", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "volume_id"], ["volumes.project_id", "volumes.id"], ondelete="CASCADE"
        ),
    )
    op.create_index("drafts_by_author", "drafts", ["project_id", "author", "update_time_us"])
    _add_cells()
    op.create_index("annotations_by_sample", "annotations", ["project_id", "sample", "sequence"])
    op.create_index(
        "annotation_records_by_annotation", "annotation_records", ["project_id", "annotation_id", "sequence"]
    )


def _add_cells() -> None:
    # A default, as there may be rows; it is what the largest level has, and no row keeps it.
    op.add_column("annotations", sa.Column("cell", sa.BigInteger, nullable=False, server_default="0"))
    names = ["project_id", "id", "cell", *_EDGES]
    table = sa.table("annotations", *(sa.column(name) for name in names))
    connection = op.get_bind()
    last = ("", "")
    while True:
        query = (
            sa.select(table)
            .where(sa.tuple_(table.c.project_id, table.c.id) > sa.tuple_(*map(sa.literal, last)))
            .order_by(table.c.project_id, table.c.id)
            .limit(_BATCH)
        )
        rows = connection.execute(query).all()
        if not rows:
            break
        last = (rows[-1].project_id, rows[-1].id)
        change = (
            sa.update(table)
            .where(table.c.project_id == sa.bindparam("of_project"), table.c.id == sa.bindparam("of_id"))
            .values(cell=sa.bindparam("new_cell"))
        )
        connection.execute(change, [_cell(row) for row in rows])
    op.create_index("annotations_by_cell", "annotations", ["project_id", "volume_id", "cell"])


def _cell(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    start, stop = (Index(*(getattr(row, f"{edge}_{axis}") for axis in "zyx")) for edge in ("start", "stop"))
    return {"of_project": row.project_id, "of_id": row.id, "new_cell": cell_of(Region(start, stop))}
