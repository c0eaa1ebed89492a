"""Sums of agreement, and what is said at the end of a pool."""

from __future__ import annotations

from biosegment_sampler.domain.agreement import Comparison, Overlap, by_authors, pairs_of
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.event import Action, Event
from biosegment_sampler.domain.exhaustion import Counts, Exhaustion, Suggestion
from hypothesis import given
from hypothesis import strategies as st

from biosegment.volume import Region

SMALL = st.integers(0, 3)


@given(
    held=st.dictionaries(st.sampled_from(["ann", "bob"]), st.integers(1, 3)),
    numbers=st.tuples(SMALL, SMALL, SMALL, SMALL),
    may_review=st.booleans(),
    limited=st.booleans(),
    has_new=st.booleans(),
    in_hand=SMALL,
)
def test_there_is_always_something_to_do_and_nothing_is_named_that_is_not_there(
    held: dict[str, int],
    numbers: tuple[int, int, int, int],
    may_review: bool,
    limited: bool,
    has_new: bool,
    in_hand: int,
) -> None:
    skipped, flagged, reviewable, excluded = numbers
    counts = Counts(held, skipped, flagged, reviewable, reviewable)
    end = Exhaustion(counts, "ann", may_review, excluded, limited, has_new, in_hand)
    found = set(end.suggestions)
    assert {Suggestion.CHOOSE_REGION, Suggestion.ADD_VOLUME} <= found
    assert (Suggestion.REVIEW in found) == (may_review and reviewable > 0)
    assert (Suggestion.ANSWER_FLAGS in found) == (flagged > 0)
    assert (Suggestion.RELEASE_SKIPPED in found) == (skipped > 0)
    assert (Suggestion.OTHER_WINDOW in found) == (held.get("ann", 0) > in_hand)
    assert (Suggestion.WAIT in found) == ("bob" in held)
    assert (Suggestion.WIDEN_POOL in found) == (limited or excluded > 0)
    assert (end.suggestions[0] is Suggestion.CLAIM_AGAIN) == has_new
    notice = end.notice(1, 5)
    assert ("no more" in notice) == (not has_new)
    assert notice.startswith("1 of 5 samples")
    assert all(f"{user} {count}" in notice for user, count in held.items())
    assert ("skipped" in notice) == (skipped > 0)


def note(number: int, author: str, sample_id: str = "s") -> Annotation:
    box = Region.of_shape((1, 2, 2))
    return Annotation(f"n{number}", number, "v", box, author, sample_id, 0.0, {1: 4}, float(number))


def test_of_three_annotators_every_two_are_a_pair_by_their_last_annotations() -> None:
    notes = [note(1, "ann"), note(2, "bob"), note(3, "cem"), note(4, "ann"), note(5, "bob", "t")]
    assert [pair.key for pair in pairs_of(notes)] == [("n3", "n4"), ("n2", "n4"), ("n2", "n3")]


def test_who_began_from_what_somebody_else_had_made_does_not_agree_with_anybody_earlier() -> None:
    notes = [note(1, "ann"), note(2, "bob"), note(3, "rev"), note(4, "cem")]

    def made(number: int, author: str) -> Event:
        return Event(float(number), author, Action.ANNOTATED, f"n{number}")

    def did(user: str, action: Action, text: str = "") -> Event:
        return Event(0.0, user, action, text)

    blind = [made(number, author) for number, author in enumerate(("ann", "bob", "rev", "cem"), 1)]
    assert len(pairs_of(notes, {"s": blind})) == 6
    resumed = [*blind[:2], did("rev", Action.RESUMED), *blind[2:]]
    assert [pair.key for pair in pairs_of(notes, {"s": resumed})] == [
        ("n3", "n4"),
        ("n2", "n4"),
        ("n1", "n4"),
        ("n1", "n2"),
    ]
    # Before anybody had annotated it there was nothing to see, nor in what somebody held to annotate it.
    early = [did("bob", Action.RESUMED), did("rev", Action.TAKEN_OVER, "bob"), *blind]
    assert len(pairs_of(notes, {"s": early})) == 6
    # A lease that is taken over is for what it was before: to correct one's own, or to annotate blindly.
    for former, count in (("ann", 4), ("dee", 6)):
        taken = [*blind[:2], did("rev", Action.TAKEN_OVER, former), *blind[2:]]
        assert len(pairs_of(notes, {"s": taken})) == count
    # Of one's own correction the first one says whether it was made independently.
    corrected = [*blind[:2], did("bob", Action.RESUMED), made(5, "bob")]
    assert [pair.key for pair in pairs_of([*notes[:2], note(5, "bob")], {"s": corrected})] == [("n1", "n5")]
    # When that one holds no more, the later one was made from what the other had shown.
    assert pairs_of([notes[0], note(5, "bob")], {"s": corrected}) == []


def test_sums_weigh_samples_by_their_voxels_and_leave_empty_ones_out() -> None:
    pairs = [
        *pairs_of([note(1, "bob"), note(2, "ann")]),
        *pairs_of([note(3, "ann", "t"), note(4, "bob", "t")]),
    ]
    pairs += pairs_of([note(5, "ann", "u"), note(6, "cem", "u")])
    counts = [
        Comparison(100, 90, {2: Overlap(30, 40)}),
        Comparison(900, 900, {2: Overlap(0, 0), 3: Overlap(1, 4)}),
        Comparison(0, 0, {}),
    ]
    first, second = by_authors(list(zip(pairs, counts, strict=True)))
    assert (first.authors, first.samples, first.comparison.compared, first.comparison.agreed) == (
        ("ann", "bob"), 2, 1000, 990,
    )  # fmt: skip
    assert {value: each.iou for value, each in first.comparison.classes.items()} == {2: 0.75, 3: 0.25}
    assert (second.authors, second.samples, second.comparison) == (("ann", "cem"), 1, Comparison())
    assert Overlap(0, 0).iou == 1
