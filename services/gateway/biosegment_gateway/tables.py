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
    # Separated by spaces; '' for all that the user may do.
    sa.Column("scopes", sa.Text, nullable=False, server_default=""),
)

passwords = sa.Table(
    "passwords",
    metadata,
    sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), primary_key=True),
    sa.Column("hash", sa.String(200), nullable=False),
    sa.Column("change_time_us", sa.BigInteger, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("secret_sha256", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), nullable=False, index=True),
    # Of a session that was begun with an API token, and ends with it.
    sa.Column("token_id", sa.String(26), sa.ForeignKey("tokens.token_id")),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("last_use_time_us", sa.BigInteger, nullable=False),
    sa.Column("expire_time_us", sa.BigInteger, nullable=False, index=True),
)

provider_users = sa.Table(
    "provider_users",
    metadata,
    sa.Column("issuer", sa.String(400), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("user_id", sa.String(63), sa.ForeignKey("users.user_id"), nullable=False),
    sa.Column("link_time_us", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("issuer", "user_id"),
)

sign_in_tries = sa.Table(
    "sign_in_tries",
    metadata,
    # Of the user, of the address, or of both.
    sa.Column("subject_sha256", sa.String(64), primary_key=True),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("last_time_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("open_time_us", sa.BigInteger, nullable=False),
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

# Triggers refuse to change rows of the log, and to remove those that no row here has let go.
audit_retention = sa.Table(
    "audit_retention",
    metadata,
    sa.Column(
        "end_us", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    sa.Column("time_us", sa.BigInteger, nullable=False),
)

# The MONAI Label API keeps what clients say that is nobody else's business, and what they were given.

monailabel_projects = sa.Table(
    "monailabel_projects",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("part_z", sa.Integer, nullable=False),
    sa.Column("part_y", sa.Integer, nullable=False),
    sa.Column("part_x", sa.Integer, nullable=False),
)

monailabel_images = sa.Table(
    "monailabel_images",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("image_id", sa.String(200), primary_key=True),
    # '' for an image that was not uploaded here.
    sa.Column("uploaded_volume_id", sa.String(63), nullable=False),
    # Of an uploaded file: rows of the affine map; NULL for what follows from the volume.
    sa.Column("geometry", sa.JSON),
    sa.Column("info", sa.JSON, nullable=False),
)

monailabel_labels = sa.Table(
    "monailabel_labels",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("image_id", sa.String(200), primary_key=True),
    sa.Column("tag", sa.String(100), primary_key=True),
    sa.Column("extension", sa.String(10), nullable=False),
    sa.Column("info", sa.JSON, nullable=False),
    sa.Column("author", sa.String(63), nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
    # Names by position, and uint8 positions as a zlib stream; empty for one that a job predicts.
    sa.Column("names", sa.JSON, nullable=False),
    sa.Column("labels", sa.LargeBinary, nullable=False),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("layer", sa.String(400), nullable=False),
    # Names of the records that a final label became.
    sa.Column("annotations", sa.JSON, nullable=False),
    # What lists of labels need, so that they do not wade through the voxels.
    sa.Index("ix_monailabel_labels_listed", "project_id", "image_id", "tag", "job", "layer"),
)

monailabel_samples = sa.Table(
    "monailabel_samples",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("image_id", sa.String(200), primary_key=True),
    sa.Column("user_id", sa.String(63), nullable=False),
    sa.Column("client_id", sa.String(200), nullable=False),
    sa.Column("sample", sa.String(200), nullable=False),
    sa.Column("lease_token", sa.Text, nullable=False),
    sa.Column("serve_time_us", sa.BigInteger, nullable=False),
    sa.Column("expire_time_us", sa.BigInteger, nullable=False),
)

monailabel_sessions = sa.Table(
    "monailabel_sessions",
    metadata,
    sa.Column("session_id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("user_id", sa.String(63), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("expiry_s", sa.BigInteger, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("access_time_us", sa.BigInteger, nullable=False),
)

monailabel_tasks = sa.Table(
    "monailabel_tasks",
    metadata,
    sa.Column("task_id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(63), nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("jobs", sa.JSON, nullable=False),
    sa.Column("user_id", sa.String(63), nullable=False),
    sa.Column("start_time_us", sa.BigInteger, nullable=False),
)
