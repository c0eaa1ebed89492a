from __future__ import annotations

import pytest
from biosegment_sampler.domain.lease import GRACE_S, Lease
from biosegment_sampler.domain.pool import Loop, RetrainPolicy
from biosegment_sampler.domain.sample import Sample, SampleState
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from biosegment.errors import FailedPrecondition
from biosegment.volume import Index, Region

USERS = ("ann", "bob")


class LeaseMachine(RuleBasedStateMachine):
    """A sample under any sequence of calls, against a model that only knows who may still work on it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.sample = Sample(
            "s", "p", "v", Region.of_shape((1, 8, 8)), SampleState.LEASED, "random", self.now,
            lease=Lease("ann", self.now, self.now + 60),
        )  # fmt: skip
        self.owner: str | None = "ann"
        self.until = self.now + 60

    def held_by_other(self, user: str) -> bool:
        return self.owner is not None and self.owner != user and self.now < self.until + GRACE_S

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(user=st.sampled_from(USERS))
    def renew(self, user: str) -> None:
        state, lease = self.sample.state, self.sample.lease
        allowed = (
            state in (SampleState.LEASED, SampleState.OPEN) and lease is not None and lease.holder == user
        )
        if not allowed:
            with pytest.raises(FailedPrecondition):
                self.sample.renewed(user, self.now, 60)
            return
        self.sample = self.sample.renewed(user, self.now, 60)
        self.owner, self.until = user, max(self.until, self.now + 60)

    @rule(user=st.sampled_from(USERS), skip=st.booleans())
    def release_or_skip(self, user: str, skip: bool) -> None:
        def act() -> Sample:
            return (
                self.sample.skipped(user, self.now, "blurred")
                if skip
                else self.sample.released(user, self.now)
            )

        if self.sample.state is SampleState.ANNOTATED or self.held_by_other(user):
            with pytest.raises(FailedPrecondition):
                act()
            return
        self.sample, self.owner = act(), None
        self.until = 0.0

    @rule()
    def annotate(self) -> None:
        self.sample, self.owner, self.until = self.sample.annotated("a"), None, 0.0

    @rule()
    def reopen(self) -> None:
        if self.sample.state is SampleState.ANNOTATED:
            self.sample = self.sample.reopened()

    @invariant()
    def at_most_the_owner_holds_it(self) -> None:
        holders = [user for user in USERS if self.sample.held_by(user, self.now)]
        expected = [self.owner] if self.owner and self.now < self.until + GRACE_S else []
        assert holders == expected
        assert (self.sample.state_at(self.now) is SampleState.LEASED) == bool(expected)


TestLease = LeaseMachine.TestCase
TestLease.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


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
