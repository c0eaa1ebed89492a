"""Annotations that their authors have corrected, in SQL."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from biosegment_sampler.domain.annotation import AnnotationState
from biosegment_sampler.tables import annotation_table

_OVER: Final = tuple(state.value for state in AnnotationState if not state.holds)
_ANNOTATIONS = annotation_table.c


def corrected() -> sa.ColumnElement[bool]:
    """Condition: an annotation has a later one by its author, of the same sample, that holds."""
    later = annotation_table.alias().c
    has_later = sa.exists().where(
        later.project_id == _ANNOTATIONS.project_id,
        later.sample_id == _ANNOTATIONS.sample_id,
        later.author == _ANNOTATIONS.author,
        later.sequence > _ANNOTATIONS.sequence,
        # Not the states that hold: SQLite would look those up, all of the project for each annotation.
        later.state.not_in(_OVER),
    )
    # Regions of somebody's own choice answer no sample, each by itself.
    return sa.and_(_ANNOTATIONS.sample_id != "", has_later)
