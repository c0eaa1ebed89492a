"""When annotations say that a model's foreground is in the wrong places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from biosegment_sampler.domain.misleading import misleading
from biosegment_sampler.domain.progress import ModelProgress, NewAgreement


def model(new: Sequence[tuple[Any, ...]], own: dict[str, float | None]) -> ModelProgress:
    return ModelProgress(
        name="models/m2",
        version=2,
        display_name="",
        parent="models/m1",
        created_at=1.0,
        deleted=False,
        trained_annotations=30,
        held_out_annotations=3,
        iou=None,
        parent_iou=None,
        parent_kept=False,
        class_ious={name: (iou, None) for name, iou in own.items()},
        new_agreements=[NewAgreement(*each) for each in new],
        new_annotations=10,
        new_voxels=1000,
        remarks=(),
    )


def test_no_agreement_where_it_was_tested_and_none_where_it_was_held_out_is_told() -> None:
    said = misleading(model([("mitochondria", 0.02, 0.01, 8)], {"mitochondria": 0.05}))
    assert "of 8 new annotations" in said
    assert "mitochondria 0.02" in said
    assert misleading(model([("mitochondria", 0.02, 0.01, 8)], {}))


def test_a_model_before_that_saw_nothing_was_blind_and_misleads_nobody() -> None:
    for seen in (0, 1, 4):
        assert misleading(model([("mitochondria", 0.0, 0.0, 8, seen)], {})) == ""
    assert misleading(model([("mitochondria", 0.0, 0.0, 8, 5)], {}))


@pytest.mark.parametrize(
    ("new", "own"),
    [
        ([], {}),
        # 0.05 + 1.645 * 0.04 is above 0.1: it may be chance.
        ([("mitochondria", 0.05, 0.04, 8)], {}),
        ([("mitochondria", 0.02, 0.01, 4)], {}),
        ([("mitochondria", 0.15, 0.01, 8)], {}),
        # One class that it finds is one to go by.
        ([("mitochondria", 0.02, 0.01, 8), ("membrane", 0.6, 0.02, 8)], {}),
        # What was wrong with the parent is over.
        ([("mitochondria", 0.02, 0.01, 8)], {"mitochondria": 0.4}),
    ],
)
def test_without_evidence_nothing_is_said(
    new: Sequence[tuple[str, float, float | None, int]], own: dict[str, float | None]
) -> None:
    assert misleading(model(new, own)) == ""
