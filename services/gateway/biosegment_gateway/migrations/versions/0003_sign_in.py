"""Passwords, sessions, users of an identity provider, tries to sign in; what tokens are limited to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("tokens", sa.Column("scopes", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "passwords",
        sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), primary_key=True),
        sa.Column("hash", sa.String(200), nullable=False),
        sa.Column("change_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("secret_sha256", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), nullable=False),
        sa.Column("token_id", sa.String(26), sa.ForeignKey("tokens.token_id")),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("last_use_time_us", sa.BigInteger, nullable=False),
        sa.Column("expire_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expire_time_us", "sessions", ["expire_time_us"])
    op.create_table(
        "provider_users",
        sa.Column("issuer", sa.String(400), primary_key=True),
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), nullable=False),
        sa.Column("link_time_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("issuer", "user_id"),
    )
    op.create_table(
        "sign_in_tries",
        sa.Column("subject_sha256", sa.String(64), primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("last_time_us", sa.BigInteger, nullable=False),
        sa.Column("open_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sign_in_tries_last_time_us", "sign_in_tries", ["last_time_us"])
