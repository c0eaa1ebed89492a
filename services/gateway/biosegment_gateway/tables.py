"""Tables of the gateway; times are microseconds since 1970, UTC."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("user_id", sa.String(63), primary_key=True),
    sa.Column("display_name", sa.String(200), nullable=False),
    sa.Column("is_admin", sa.Boolean, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("token_id", sa.String(26), primary_key=True),
    sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), nullable=False, index=True),
    sa.Column("display_name", sa.String(200), nullable=False),
    sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("expire_time_us", sa.BigInteger),
    sa.Column("last_use_time_us", sa.BigInteger),
    sa.Column("revoke_time_us", sa.BigInteger),
)

audit_events = sa.Table(
    "audit_events",
    metadata,
    # SQLite numbers rows by itself only in a column of this very type.
    sa.Column(
        "sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.String(63), nullable=False),
    sa.Column("action", sa.String(200), nullable=False),
    sa.Column("resource", sa.String(400), nullable=False),
    sa.Column("outcome", sa.String(40), nullable=False),
    sa.Column("peer", sa.String(100), nullable=False),
    sqlite_autoincrement=True,
)
