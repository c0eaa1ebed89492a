"""What a room of annotators needs: sessions and clocks of leases, flags, events, reviews, agreements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns with what older rows mean, and tables."""
    for name in ("holder_name", "session", "skipped_by", "flag_text", "flag_user"):
        op.add_column("samples", sa.Column(name, sa.Text, nullable=False, server_default=""))
    purpose = sa.Column("purpose", sa.String(16), nullable=False, server_default="annotate")
    op.add_column("samples", purpose)
    for name in ("lease_active_at", "lease_heartbeat_at", "flag_at"):
        op.add_column("samples", sa.Column(name, sa.Float(53), nullable=False, server_default="0"))
    for name in ("term", "authors"):
        op.add_column("samples", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("samples", sa.Column("wants_second", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("samples", sa.Column("events", sa.JSON, nullable=False, server_default="[]"))
    op.execute("UPDATE samples SET lease_active_at = lease_issued_at")
    op.execute("UPDATE samples SET authors = 1 WHERE annotation <> ''")
    op.create_index("samples_by_holder", "samples", ["project_id", "holder", "state"])
    op.create_index("annotations_by_state", "annotations", ["project_id", "state", "sequence"])
    op.create_table(
        "reviews",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("annotation", sa.String(255), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("holder", "holder_name", "session")),
        *(
            sa.Column(name, sa.Float(53), nullable=False)
            for name in ("lease_issued_at", "lease_expires_at", "lease_active_at", "lease_heartbeat_at")
        ),
    )
    op.create_table(
        "agreements",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("first", sa.String(255), primary_key=True),
        sa.Column("second", sa.String(255), primary_key=True),
        sa.Column("compared", sa.BigInteger, nullable=False),
        sa.Column("agreed", sa.BigInteger, nullable=False),
        sa.Column("classes", sa.JSON, nullable=False),
    )
