"""Which labels of the MONAI Label API there are is read from an index, not from the rows with their voxels."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index(
        "ix_monailabel_labels_listed",
        "monailabel_labels",
        ["project_id", "image_id", "tag", "job", "layer"],
    )
