"""Volumes whose voxels stay where they were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("volumes", sa.Column("reference", sa.JSON(none_as_null=True)))
