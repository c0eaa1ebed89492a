"""Areas, volumes and curves of a progress report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from biosegment_sampler.domain.progress import (
    AuthorTally,
    Extent,
    Labelled,
    ModelProgress,
    NewAgreement,
    Reviews,
    Tally,
    WorkTime,
    authors_of,
    classes_of,
    curves_of,
    extent_of,
    reviews_of,
)
from biosegment_sampler.domain.stopping import Flatness, Verdict, hint

from biosegment.volume import VoxelSize

SIZES = {"v1": VoxelSize(40, 10, 10), "v2": VoxelSize(5, 5, 5)}
AUTHOR = AuthorTally(Reviews(pending=2, accepted=1, rejected=4), 3, WorkTime(2, 60.0, 30.0), 7.0)


def model(version: int, parent: str = "", *new: NewAgreement) -> ModelProgress:
    return ModelProgress(
        f"models/m{version}", version, "", parent, 0.0, False, 0, 0, None, None, False, {}, new, 0, 0, ()
    )


def test_flat_annotations_have_an_area_and_thick_ones_a_volume() -> None:
    # 10 nm x 10 nm x 10 000 = 1 um2; 5 nm cubed x 8 000 000 = 1 um3.
    assert Extent.of(10_000, SIZES["v1"], flat=True) == Extent(10_000, pytest.approx(1.0), 0.0)
    assert Extent.of(8_000_000, SIZES["v2"], flat=False) == Extent(8_000_000, 0.0, pytest.approx(1.0))
    assert Extent.of(5, None, flat=True) == Extent(5)


def test_groups_are_added_up_by_author_and_by_class() -> None:
    tally = Tally(
        labelled=[
            Labelled("ann", "v1", True, 1, 3, 10_000),
            Labelled("ann", "v1", True, 2, 1, 500),
            Labelled("bob", "v2", False, 2, 1, 8_000_000),
            Labelled("bob", "gone", True, 1, 1, 70),
        ],
        authors={"ann": AUTHOR, "bob": replace(AUTHOR, reviews=Reviews(pending=7, reverted=1))},
    )
    bob, ann = authors_of(tally, SIZES)
    assert (bob.author, ann.author) == ("bob", "ann")
    assert (ann.extent.voxels, dict(ann.voxels_by_class)) == (10_500, {1: 10_000, 2: 500})
    assert ann.extent.area_um2 == pytest.approx(1.05)
    assert bob.extent == Extent(8_000_070, 0.0, pytest.approx(1.0))
    none, mitochondria = classes_of(tally, SIZES)
    assert (none.class_value, none.annotations, none.extent.voxels) == (1, 4, 10_070)
    assert mitochondria.annotations == 2
    assert mitochondria.extent.area_um2 == pytest.approx(0.05)
    assert extent_of(tally.labelled, SIZES).voxels == 8_010_570
    assert reviews_of(tally) == Reviews(pending=9, accepted=1, rejected=4, reverted=1)


def test_curves_follow_the_line_of_the_newest_model() -> None:
    first, second = NewAgreement("a", 0.5, 0.01, 20), NewAgreement("a", 0.6, 0.01, 20)
    aside, third = NewAgreement("a", 0.1, 0.01, 20), NewAgreement("a", 0.7, 0.01, 20)
    other = NewAgreement("b", 0.9, None, 1)
    models = [
        model(1, "models/shipped", first),
        model(2, "models/m1", second, other),
        model(3, "models/m1", aside),
        model(4, "models/m2", third),
    ]
    a, b = curves_of(models, Flatness())
    assert [point.version for point in a.points] == [1, 2, 4]
    assert a.verdict is Verdict.RISING
    assert (b.class_name, b.verdict) == ("b", Verdict.TOO_FEW)
    assert curves_of([], Flatness()) == []
    # A model is not its own ancestor, whatever is recorded.
    assert len(curves_of([model(1, "models/m1", first)], Flatness())[0].points) == 1


def test_a_class_that_was_not_seen_lately_or_never_is_not_settled() -> None:
    rare = NewAgreement("rare", 0.8, 0.01, 20)
    often = NewAgreement("often", 0.8, 0.01, 20)
    line = [model(n, f"models/m{n - 1}", often, *([rare] if n < 4 else [])) for n in range(1, 8)]
    line[-1] = replace(line[-1], classes=("often", "rare", "unseen"))
    found = {curve.class_name: curve for curve in curves_of(line, Flatness())}
    assert {name: curve.verdict for name, curve in found.items()} == {
        "often": Verdict.FLAT,
        "rare": Verdict.TOO_FEW,
        "unseen": Verdict.TOO_FEW,
    }
    assert "3 of the last 3 rounds" in found["rare"].text
    assert "0 of 3 rounds were measured" in found["unseen"].text
    said = hint(list(found.values()))
    assert said.verdict is Verdict.TOO_FEW
    assert "rare: " in said.text
    assert "unseen: " in said.text
