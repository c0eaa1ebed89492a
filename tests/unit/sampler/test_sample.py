from __future__ import annotations

from dataclasses import replace

import pytest
from biosegment_sampler.domain.event import Action
from biosegment_sampler.domain.lease import GRACE_S, Claimant, Clocks, Lease, Purpose
from biosegment_sampler.domain.pool import Loop, PoolSettings, RetrainPolicy
from biosegment_sampler.domain.sample import MAX_EVENTS, Sample, SampleState
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import Index, Region

USERS = ("ann", "bob", "mia")
CLOCKS = Clocks(activity_s=60, heartbeat_s=30)


class LeaseMachine(RuleBasedStateMachine):
    """A sample under any sequence of calls, against a model that only knows who may still work on it, and until when.

    The model is one of promises: while a token that was given is good, nobody else holds the sample, unless its holder
    gave the sample back or somebody took it over, whom the datastore asks no more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.sample = Sample(
            "s", "p", "v", Region.of_shape((1, 8, 8)), SampleState.LEASED, "random", self.now,
            lease=Lease.begin(Claimant("ann"), self.now, CLOCKS),
        )  # fmt: skip
        self.owner: str | None = "ann"
        self.active_at = self.now
        self.heartbeat_at: float | None = None
        self.until = self.now + CLOCKS.activity_s
        self.annotation = ""
        self.skipped = False
        self.flagged = False
        self.tokens: list[tuple[str, int, float]] = [("ann", 0, self.until)]
        """Holder, term and end of all that were given."""

    @property
    def is_held(self) -> bool:
        return self.owner is not None and self.now < self.until + GRACE_S

    def held_by_other(self, user: str) -> bool:
        return self.is_held and self.owner != user

    def given(self, after: Sample, user: str, *, idle: bool = False, heartbeat: bool = False) -> None:
        """A lease was begun or prolonged."""
        is_new = self.owner != user or not self.is_held
        assert after.lease is not None
        if not idle:
            self.active_at = self.now
        if heartbeat or idle or self.heartbeat_at is not None:
            self.heartbeat_at = self.now
        end = self.active_at + CLOCKS.activity_s
        if self.heartbeat_at is not None:
            end = min(end, self.heartbeat_at + CLOCKS.heartbeat_s)
        self.until = end if is_new else max(self.until, end)
        self.owner = user
        self.sample = after
        self.tokens.append((user, after.term, after.lease.expires_at))

    def let_go(self, after: Sample) -> None:
        self.sample, self.owner, self.until, self.heartbeat_at = after, None, 0.0, None
        self.tokens = []

    @rule(seconds=st.sampled_from([1.0, 20.0, 29.0, 35.0, 65.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(user=st.sampled_from(USERS), idle=st.booleans())
    def renew(self, user: str, idle: bool) -> None:
        lease = self.sample.lease
        is_last = lease is not None and lease.holder == user and not self.skipped
        is_idle = idle and self.now >= max(self.active_at + CLOCKS.activity_s, self.until)
        if not is_last or is_idle:
            with pytest.raises(FailedPrecondition) as caught:
                self.sample.renewed(user, self.now, CLOCKS, idle=idle)
            assert caught.value.reason == ("LEASE_IDLE" if is_last else "LEASE_LOST")
            return
        after = self.sample.renewed(user, self.now, CLOCKS, idle=idle)
        self.owner = user
        # The same lease goes on, also after its end.
        self.until = max(self.until, self.now) if self.until else self.now
        self.active_at = self.active_at if idle else self.now
        self.heartbeat_at = self.now if idle or self.heartbeat_at is not None else None
        end = self.active_at + CLOCKS.activity_s
        if self.heartbeat_at is not None:
            end = min(end, self.heartbeat_at + CLOCKS.heartbeat_s)
        self.until = max(lease.expires_at if lease else 0.0, end)
        self.sample = after
        assert after.lease is not None
        self.tokens.append((user, after.term, after.lease.expires_at))

    @rule(user=st.sampled_from(USERS), heartbeat=st.booleans(), session=st.sampled_from(["", "a", "b"]))
    def resume(self, user: str, heartbeat: bool, session: str) -> None:
        who = Claimant(user, session=session, heartbeat=heartbeat)
        if self.flagged or self.held_by_other(user):
            with pytest.raises(FailedPrecondition) as caught:
                self.sample.resumed(who, self.now, CLOCKS)
            assert caught.value.reason == ("SAMPLE_FLAGGED" if self.flagged else "LEASE_LOST")
            return
        if not self.is_held:
            self.heartbeat_at = None
        after = self.sample.resumed(who, self.now, CLOCKS)
        self.given(after, user, heartbeat=heartbeat)
        self.skipped = False
        assert after.lease is not None
        assert after.lease.session == session

    @rule(user=st.sampled_from(USERS), skip=st.booleans())
    def release_or_skip(self, user: str, skip: bool) -> None:
        def act() -> Sample:
            return (
                self.sample.skipped(user, self.now, "blurred")
                if skip
                else self.sample.released(user, self.now)
            )

        last = self.sample.events[-1] if self.sample.events else None
        if skip and self.skipped and last and (last.user, last.action) == (user, Action.SKIPPED):
            assert act() is self.sample
            return
        if self.flagged or (self.annotation and not self.is_held) or self.held_by_other(user):
            with pytest.raises(FailedPrecondition):
                act()
            return
        lease = self.sample.lease
        is_open = not (skip or self.is_held or self.skipped)
        if is_open and lease is not None and lease.holder != user:
            # Whoever held it last may come back.
            assert act() is self.sample
            return
        self.let_go(act())
        self.skipped = skip and not self.annotation

    @rule(user=st.sampled_from(USERS))
    def flag(self, user: str) -> None:
        if self.flagged and self.sample.events[-1].user == user:
            assert self.sample.flagged(user, self.now, "what is this?") is self.sample
            return
        if self.flagged or self.held_by_other(user):
            with pytest.raises(FailedPrecondition):
                self.sample.flagged(user, self.now, "what is this?")
            return
        self.let_go(self.sample.flagged(user, self.now, "what is this?"))
        self.flagged = True

    @rule(user=st.sampled_from(USERS))
    def unflag(self, user: str) -> None:
        last = self.sample.events[-1] if self.sample.events else None
        if not self.flagged and last and (last.user, last.action) == (user, Action.UNFLAGGED):
            assert self.sample.unflagged(user, self.now, "a lysosome") is self.sample
            return
        if not self.flagged:
            with pytest.raises(FailedPrecondition, match="no question"):
                self.sample.unflagged(user, self.now, "a lysosome")
            return
        self.sample, self.flagged = self.sample.unflagged(user, self.now, "a lysosome"), False
        assert self.sample.events[-1].text == "a lysosome"

    @rule()
    def take_over(self) -> None:
        if not self.is_held:
            with pytest.raises(FailedPrecondition, match="nobody holds"):
                self.sample.announced("mia", self.now)
            return
        former = self.owner
        announced = self.sample.announced("mia", self.now)
        # The holder may get another token before it is over.
        assert announced.lease is not None
        self.tokens.append((str(former), announced.term, announced.lease.expires_at))
        self.heartbeat_at, self.owner = None, None
        self.given(announced.taken_over(Claimant("mia", "Mia"), self.now, CLOCKS), "mia")
        # As the datastore does from then on.
        self.tokens = [each for each in self.tokens if each[1] >= self.sample.term]
        if former != "mia":
            with pytest.raises(FailedPrecondition, match=r"Mia \(mia\) took"):
                self.sample.renewed(str(former), self.now, CLOCKS)

    @precondition(lambda self: not self.flagged)
    @rule(number=st.integers(0, 2))
    def annotate(self, number: int) -> None:
        """Anybody with a good token does."""
        good = [holder for holder, _, end in self.tokens if self.now < end]
        if not good:
            return
        author = good[number % len(good)]
        self.annotation = f"by-{author}"
        after = self.sample.settled(self.annotation, 1, author)
        if self.sample.state is SampleState.LEASED and self.owner != author:
            assert after.state is SampleState.LEASED
            self.sample = after
            return
        self.let_go(after)
        self.skipped = False

    @rule()
    def reject(self) -> None:
        was_annotated = self.sample.state is SampleState.ANNOTATED
        self.annotation, self.sample = "", self.sample.settled("", 0)
        if was_annotated:
            self.skipped = self.flagged

    @invariant()
    def at_most_the_owner_holds_it(self) -> None:
        holders = [user for user in USERS if self.sample.held_by(user, self.now)]
        assert holders == ([self.owner] if self.is_held else [])
        assert (self.sample.state_at(self.now) is SampleState.LEASED) == bool(holders)

    @invariant()
    def a_lease_ends_by_its_clocks(self) -> None:
        if not self.is_held:
            return
        lease = self.sample.lease
        assert lease is not None
        assert lease.expires_at == self.until

    @invariant()
    def nobody_holds_it_while_another_has_a_good_token(self) -> None:
        good = {holder for holder, _, end in self.tokens if self.now < end}
        holders = {user for user in USERS if self.sample.held_by(user, self.now)}
        assert good <= holders

    @invariant()
    def nobody_holds_what_is_flagged(self) -> None:
        assert not (self.flagged and self.is_held)
        assert (self.sample.flag is not None) == self.flagged
        resting = SampleState.ANNOTATED if self.annotation else None
        if resting and not self.is_held:
            assert self.sample.state_at(self.now) is resting

    @invariant()
    def events_are_kept(self) -> None:
        assert len(self.sample.events) <= MAX_EVENTS


TestLease = LeaseMachine.TestCase
TestLease.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


def leased(**changes: object) -> Sample:
    sample = Sample(
        "s", "p", "v", Region.of_shape((1, 8, 8)), SampleState.LEASED, "random", 0.0,
        lease=Lease.begin(Claimant("ann", heartbeat=True), 100.0, CLOCKS),
    )  # fmt: skip
    return replace(sample, **changes)  # type: ignore[arg-type]


def test_a_closed_laptop_frees_a_sample_at_the_next_missing_heartbeat_and_an_idle_window_does_too() -> None:
    sample = leased()
    assert sample.held_by("ann", 100 + CLOCKS.heartbeat_s + GRACE_S - 1)
    assert not sample.held_by("ann", 100 + CLOCKS.heartbeat_s + GRACE_S)
    for time in range(110, 160, 10):
        sample = sample.renewed("ann", time, CLOCKS, idle=True)
    assert sample.lease is not None
    assert sample.lease.expires_at == 100 + CLOCKS.activity_s
    with pytest.raises(FailedPrecondition) as caught:
        sample.renewed("ann", 161, CLOCKS, idle=True)
    assert caught.value.reason == "LEASE_IDLE"
    assert sample.renewed("ann", 161, CLOCKS).held_by("ann", 190)


def test_somebody_elses_commit_or_a_review_does_not_end_a_correction() -> None:
    sample = leased(annotation="a1", authors=1)
    assert sample.settled("a1", 1).state is SampleState.LEASED
    assert sample.settled("a2", 2, "bob").state is SampleState.LEASED
    done = sample.settled("a3", 2, "ann")
    assert (done.state, done.lease, done.annotation, done.authors) == (SampleState.ANNOTATED, None, "a3", 2)
    assert sample.settled("", 0).state is SampleState.LEASED


def test_what_is_annotated_stays_so_when_a_second_annotator_skips_it_and_is_not_offered_again() -> None:
    sample = leased(annotation="a1", authors=1, wants_second=True)
    skipped = sample.skipped("ann", 101, "I know this one")
    assert (skipped.state, skipped.annotation, skipped.wants_second) == (SampleState.ANNOTATED, "a1", False)
    assert [each.action for each in skipped.events] == [Action.SKIPPED]


def test_only_the_second_annotator_is_kept_from_seeing_the_first_annotation() -> None:
    blind = Lease.begin(Claimant("bob"), 100.0, CLOCKS, Purpose.SECOND)
    sample = leased(annotation="a1", lease=blind)
    assert sample.hides_annotation_from("bob", 101)
    assert not sample.hides_annotation_from("ann", 101)
    assert not leased(annotation="a1").hides_annotation_from("ann", 101)


def test_a_share_of_samples_wants_a_second_annotator_and_the_same_ones_each_time() -> None:
    pool = PoolSettings(second_annotator_share=0.25)
    chosen = {number for number in range(2000) if pool.wants_second(f"s{number}")}
    assert 400 < len(chosen) < 600
    assert chosen < {
        number
        for number in range(2000)
        if PoolSettings(second_annotator_share=0.5).wants_second(f"s{number}")
    }
    assert not any(PoolSettings().wants_second(f"s{number}") for number in range(100))
    assert all(PoolSettings(second_annotator_share=1).wants_second(f"s{number}") for number in range(100))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"heartbeat_timeout_s": 29}, "BAD_HEARTBEAT_TIMEOUT"),
        ({"second_annotator_share": 1.5}, "BAD_SECOND_SHARE"),
        ({"second_annotator_share": float("nan")}, "BAD_SECOND_SHARE"),
    ],
)
def test_settings_of_a_room_are_checked(values: dict[str, float], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        PoolSettings(**values)  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("loop", "policy", "new", "due"),
    [
        (Loop(), RetrainPolicy(after_annotations=3), 2, False),
        (Loop(), RetrainPolicy(after_annotations=3), 3, True),
        (Loop(), RetrainPolicy(manual=True, after_annotations=3), 9, False),
        (Loop(training_request_id="r"), RetrainPolicy(after_annotations=3), 9, False),
        (Loop(last_annotation_at=900), RetrainPolicy(after_idle_s=100), 1, True),
        (Loop(last_annotation_at=901), RetrainPolicy(after_idle_s=100), 1, False),
        (Loop(last_annotation_at=900), RetrainPolicy(after_idle_s=100), 0, False),
    ],
)
def test_the_policy_says_when_to_train(loop: Loop, policy: RetrainPolicy, new: int, due: bool) -> None:
    assert loop.training_due(policy, new, 1000.0) is due


def test_a_sample_shape_follows_the_working_resolution() -> None:
    from biosegment_sampler.domain.pool import VolumeGeometry

    from biosegment.volume import VoxelSize

    fine = VolumeGeometry("v", Index(165, 768, 1024), VoxelSize(5, 5, 5), 10)
    assert (fine.working_factor, fine.sample_shape(None)) == (2, Index(1, 256, 256))
    coarse = VolumeGeometry("v", Index(2, 100, 1024), VoxelSize(40, 20, 20), 10)
    assert (coarse.working_factor, coarse.sample_shape(None)) == (1, Index(1, 100, 128))
