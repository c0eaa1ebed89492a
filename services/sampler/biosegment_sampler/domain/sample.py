"""A sample and its life.

    (proposed or chosen) -> LEASED -> ANNOTATED <-> OPEN    reverted or rejected; accepted again
                              |  ^
            release, expiry   v  |  renewal by the last holder, while nobody else took the region
                              OPEN -> SKIPPED -> OPEN       set aside; released

An open sample is history: its region is a candidate again and comes back as a new sample.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from biosegment.errors import FailedPrecondition
from biosegment.volume import Region
from biosegment_sampler.domain.lease import Lease

CHOSEN = "chosen"
"""Strategy of a region that an annotator chose."""


class SampleState(enum.StrEnum):
    LEASED = "leased"
    ANNOTATED = "annotated"
    SKIPPED = "skipped"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Sample:
    """A region that is or was proposed.

    Attributes:
        sample_id: Within the project.
        project_id: Project.
        volume_id: Within the project.
        region: Level-0 voxels.
        state: What has become of it; ask `state_at` when time matters.
        strategy: What chose it.
        score: Larger was better; 0 for strategies without a score.
        rank: Place in its batch, from 1.
        model: models/{model} whose scores were used, or ''.
        score_layer: Name of the score map layer, or ''.
        seed: Seed of the batch.
        lease: Present or, while open after expiry, last lease.
        annotation: Name of the annotation that answered it, or ''.
        skip_reason: Why it was set aside, or ''.
        notice: For the annotator, or ''.
        created_at: Unix time in s.
    """

    sample_id: str
    project_id: str
    volume_id: str
    region: Region
    state: SampleState
    strategy: str
    created_at: float
    score: float = 0.0
    rank: int = 1
    model: str = ""
    score_layer: str = ""
    seed: int = 0
    lease: Lease | None = None
    annotation: str = ""
    skip_reason: str = ""
    notice: str = ""

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/samples/{self.sample_id}"

    @property
    def volume(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.volume_id}"

    def state_at(self, now: float) -> SampleState:
        """The state, with an expired lease read as open."""
        if self.state is SampleState.LEASED and not self._held(now):
            return SampleState.OPEN
        return self.state

    def held_by(self, user: str, now: float) -> bool:
        """Whether `user` holds it; for a moment after expiry it is still theirs."""
        return self._held(now) and self.lease is not None and self.lease.holder == user

    def _held(self, now: float) -> bool:
        return self.state is SampleState.LEASED and self.lease is not None and self.lease.blocks(now)

    def expired(self) -> Sample:
        """Open, with the last lease kept so that its holder may come back."""
        return replace(self, state=SampleState.OPEN)

    def renewed(self, user: str, now: float, duration_s: float) -> Sample:
        """Leased to `user` until `now + duration_s`; the caller has checked that nobody took the region.

        Raises:
            FailedPrecondition: LEASE_LOST unless `user` was its last holder and it is leased or open.
        """
        lease = self.lease
        if self.state not in (SampleState.LEASED, SampleState.OPEN) or lease is None or lease.holder != user:
            raise self._lost()
        expires_at = max(lease.expires_at, now + duration_s)
        return replace(self, state=SampleState.LEASED, lease=Lease(user, now, expires_at))

    def released(self, user: str, now: float) -> Sample:
        """Open again, whether it was held by `user` or set aside by anybody; an open one stays as it is.

        Raises:
            FailedPrecondition: LEASE_LOST when somebody else holds it, SAMPLE_ANNOTATED.
        """
        self._require_free_for(user, now)
        return replace(self, state=SampleState.OPEN, lease=None, skip_reason="")

    def skipped(self, user: str, now: float, reason: str) -> Sample:
        """Set aside by its holder, or by anybody while it is open.

        Raises:
            FailedPrecondition: LEASE_LOST when somebody else holds it, SAMPLE_ANNOTATED.
        """
        self._require_free_for(user, now)
        return replace(self, state=SampleState.SKIPPED, lease=None, skip_reason=reason)

    def annotated(self, annotation: str) -> Sample:
        return replace(self, state=SampleState.ANNOTATED, lease=None, annotation=annotation, skip_reason="")

    def reopened(self) -> Sample:
        """Its annotation does not hold any more."""
        return replace(self, state=SampleState.OPEN, lease=None, annotation="")

    def _require_free_for(self, user: str, now: float) -> None:
        if self.state is SampleState.ANNOTATED:
            raise FailedPrecondition(
                "SAMPLE_ANNOTATED",
                f"sample {self.name} is annotated already; revert {self.annotation} instead",
            )
        if self._held(now) and not self.held_by(user, now):
            raise self._lost()

    def _lost(self) -> FailedPrecondition:
        holder = self.lease.holder if self.lease is not None else ""
        return FailedPrecondition(
            "LEASE_LOST",
            f"sample {self.name} is {self.state.value}"
            + (f" and held by {holder}" if holder else "")
            + "; claim another one, or choose the region again with CreateSample",
            holder=holder,
        )
