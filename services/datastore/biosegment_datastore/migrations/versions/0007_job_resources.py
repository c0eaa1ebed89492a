"""What jobs reserve, and how often they were lost without being to blame."""

from __future__ import annotations

from alembic import op

from biosegment.jobs.tables import extend_job_tables_v2

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    extend_job_tables_v2(op)
