"""Layers with several values per voxel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("layers", sa.Column("channels", sa.Integer, nullable=False, server_default="1"))
