"""Why the foreground of the newest model is not to be trusted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; of earlier models nothing is said."""
    op.add_column("pools", sa.Column("misleading", sa.Text, nullable=False, server_default=""))
