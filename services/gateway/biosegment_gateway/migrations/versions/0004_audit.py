"""The audit log is append-only: the database refuses what would change its past."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_REFUSAL = "the audit log is append-only"
_KEPT = "OLD.time_us >= coalesce((SELECT max(end_us) FROM audit_retention), 0)"

_SQLITE = (
    f"""
    CREATE TRIGGER audit_events_update BEFORE UPDATE ON audit_events
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER audit_events_delete BEFORE DELETE ON audit_events WHEN {_KEPT}
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
    """,
    # REPLACE deletes without asking the trigger above, unless recursive triggers are on.
    f"""
    CREATE TRIGGER audit_events_replace BEFORE INSERT ON audit_events
    WHEN EXISTS (SELECT 1 FROM audit_events WHERE sequence = NEW.sequence)
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER audit_retention_update BEFORE UPDATE ON audit_retention
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER audit_retention_delete BEFORE DELETE ON audit_retention
    BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
    """,
)

_POSTGRESQL = (
    f"""
    CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$
    """,
    f"""
    CREATE FUNCTION audit_refuse_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {_KEPT} THEN RAISE EXCEPTION '{_REFUSAL}'; END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE TRIGGER audit_events_update BEFORE UPDATE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_refuse()
    """,
    """
    CREATE TRIGGER audit_events_delete BEFORE DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_kept()
    """,
    """
    CREATE TRIGGER audit_events_truncate BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()
    """,
    """
    CREATE TRIGGER audit_retention_change BEFORE UPDATE OR DELETE ON audit_retention
    FOR EACH ROW EXECUTE FUNCTION audit_refuse()
    """,
    """
    CREATE TRIGGER audit_retention_truncate BEFORE TRUNCATE ON audit_retention
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()
    """,
)


def upgrade() -> None:
    op.create_table(
        "audit_retention",
        sa.Column(
            "end_us",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_audit_events_time_us", "audit_events", ["time_us"])
    op.create_index("ix_audit_events_user_id", "audit_events", ["user_id", "sequence"])
    connection = op.get_bind()
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)
