"""Where the objects of an instances layer were found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("layers", sa.Column("source_layer", sa.String(400), nullable=False, server_default=""))
