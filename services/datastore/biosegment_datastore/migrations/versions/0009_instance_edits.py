"""Edits of the objects of layers of instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_LAYER = ("project_id", "volume_id", "layer_id")


def upgrade() -> None:
    op.create_table(
        "instance_layers",
        *_layer_columns(),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("next_id", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.ForeignKeyConstraint(
            _LAYER, ["layers.project_id", "layers.volume_id", "layers.id"], ondelete="CASCADE"
        ),
    )
    op.create_table(
        "instance_edits",
        *_layer_columns(),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("ids", sa.JSON, nullable=False),
        sa.Column("target", sa.BigInteger, nullable=False),
        sa.Column("new_ids", sa.JSON, nullable=False),
        sa.Column("class_value", sa.Integer, nullable=False),
        sa.Column("region", sa.JSON(none_as_null=True)),
        sa.Column("labels_sha256", sa.String(64), nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("reverts", sa.String(63), nullable=False),
        sa.Column("revert_time_us", sa.BigInteger, nullable=False),
        _of_layer(),
    )
    op.create_index("instance_edits_by_id", "instance_edits", [*_LAYER, "id"], unique=True)
    op.create_table(
        "instance_edit_ids",
        *_layer_columns(),
        sa.Column("instance", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        _of_layer(),
    )


def _layer_columns() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(63), primary_key=True) for name in _LAYER]


def _of_layer() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(_LAYER, [f"instance_layers.{name}" for name in _LAYER], ondelete="CASCADE")
