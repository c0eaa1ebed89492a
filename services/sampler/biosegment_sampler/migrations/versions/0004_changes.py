"""Numbers of changes, so that who knows what was taken at one of them can go on from there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Count from here: what there is already has number 0."""
    op.create_table(
        "changes",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("scores", sa.BigInteger, nullable=False),
    )
    for table, name in (("samples", "first_change"), ("samples", "change"), ("annotations", "change")):
        op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("samples_by_change", "samples", ["project_id", "change"])
    op.create_index("samples_by_first_change", "samples", ["project_id", "first_change"])
    op.create_index("annotations_by_change", "annotations", ["project_id", "change"])
