"""SQL tables of jobs; each service has its own."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def job_table(metadata: sa.MetaData) -> sa.Table:
    """The table `jobs` as the code of this release uses it. Times are microseconds since 1970, UTC."""
    return sa.Table("jobs", metadata, *_job_columns_v1(), *_job_columns_v2(), *_job_columns_v3())


def job_log_table(metadata: sa.MetaData) -> sa.Table:
    """The table `job_logs`."""
    return sa.Table("job_logs", metadata, *_job_log_columns_v1())


def create_job_tables_v1(op: Any) -> None:
    """Create both tables in a service's first migration.

    Columns of this version stay as they are for ever; a later change adds `..._v2` and a migration in each
    service.

    Args:
        op: `alembic.op`.
    """
    op.create_table("jobs", *_job_columns_v1())
    op.create_index("jobs_by_state", "jobs", ["state", "priority", "job_id"])
    op.create_index("jobs_by_project", "jobs", ["project_id", "job_id"])
    op.create_table("job_logs", *_job_log_columns_v1())


def extend_job_tables_v2(op: Any) -> None:
    """Add what a job reserves and how often it was lost, and find ended jobs by kind, in a later migration.

    Args:
        op: `alembic.op`.
    """
    for column in _job_columns_v2():
        op.add_column("jobs", column)
    op.create_index("jobs_by_kind_end", "jobs", ["kind", "end_us"])


def extend_job_tables_v3(op: Any) -> None:
    """Add what earlier attempts computed, in a later migration.

    Args:
        op: `alembic.op`.
    """
    for column in _job_columns_v3():
        op.add_column("jobs", column)


def _job_columns_v3() -> list[sa.Column[Any]]:
    return [sa.Column("earlier_work_us", sa.BigInteger, nullable=False, server_default="0")]


def _job_columns_v2() -> list[sa.Column[Any]]:
    return [
        sa.Column("resources", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    ]


def _job_columns_v1() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("job_id", sa.String(100), primary_key=True),
        sa.Column("project_id", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("instance", sa.String(100), nullable=False),
        sa.Column("heartbeat_us", sa.BigInteger, nullable=False),
        sa.Column("create_us", sa.BigInteger, nullable=False),
        sa.Column("start_us", sa.BigInteger),
        sa.Column("end_us", sa.BigInteger),
        sa.Column("log_lines", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("result", sa.JSON(none_as_null=True)),
        sa.UniqueConstraint("project_id", "request_id", name="jobs_request"),
    ]


def _job_log_columns_v1() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("job_id", sa.String(100), primary_key=True),
        sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    ]
