"""The pool of a project: how samples are chosen, and how far the loop of training and scoring is."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Final

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region, VoxelSize
from biosegment_sampler.domain.lease import Clocks

SAMPLE_EDGE: Final = 128
"""Edge of a default sample in working pixels."""
MAX_SAMPLE_VOXELS: Final = 64 << 20
"""What one annotation may hold."""


@dataclass(frozen=True, slots=True)
class StrategyShare:
    """A strategy and its part of a batch, 0 < share <= 1."""

    strategy: str
    share: float


@dataclass(frozen=True, slots=True)
class VolumeRegion:
    """A region, level-0 voxels, of a volume given by its id."""

    volume_id: str
    region: Region


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """When to ask for a model.

    Attributes:
        manual: Never without being asked.
        after_annotations: After so many annotations that the newest model has not seen.
        after_idle_s: Also after so many seconds without a further annotation; 0 for never.
    """

    manual: bool = False
    after_annotations: int = 20
    after_idle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What the members of a project decide. `volumes` are ids, all of the project when empty.

    Raises:
        InvalidArgument: BAD_SHARES, BAD_SAMPLE_SHAPE, BAD_SLICE_DISTANCE, BAD_LEASE_DURATION, BAD_HEARTBEAT_TIMEOUT,
            BAD_SECOND_SHARE or BAD_RETRAIN_POLICY.
    """

    strategies: tuple[StrategyShare, ...] = (StrategyShare("entropy", 1.0),)
    volumes: tuple[str, ...] = ()
    excluded: tuple[VolumeRegion, ...] = ()
    sample_shape: Index | None = None
    slice_distance: int = 4
    lease_duration_s: float = 1800.0
    heartbeat_timeout_s: float = 90.0
    second_annotator_share: float = 0.0
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_shares()
        if self.sample_shape is not None and not (
            min(self.sample_shape) >= 1 and math.prod(self.sample_shape) <= MAX_SAMPLE_VOXELS
        ):
            raise InvalidArgument(
                "BAD_SAMPLE_SHAPE",
                f"sample shape {tuple(self.sample_shape)} must be positive along every axis and hold at most "
                f"{MAX_SAMPLE_VOXELS} voxels",
            )
        if not 1 <= self.slice_distance <= 10_000:
            raise InvalidArgument(
                "BAD_SLICE_DISTANCE", f"slice_distance {self.slice_distance} must be in 1..10000; 0 means 4"
            )
        if not 60 <= self.lease_duration_s <= 86_400:
            raise InvalidArgument(
                "BAD_LEASE_DURATION", f"lease_duration_s {self.lease_duration_s:g} must be in 60..86400"
            )
        if not 30 <= self.heartbeat_timeout_s <= 3600:
            raise InvalidArgument(
                "BAD_HEARTBEAT_TIMEOUT",
                f"heartbeat_timeout_s {self.heartbeat_timeout_s:g} must be in 30..3600; 0 means 90",
            )
        if not 0 <= self.second_annotator_share <= 1:
            raise InvalidArgument(
                "BAD_SECOND_SHARE",
                f"second_annotator_share {self.second_annotator_share:g} must be in 0..1",
            )
        if not (self.retrain.after_annotations >= 1 and 0 <= self.retrain.after_idle_s < 1e9):
            raise InvalidArgument(
                "BAD_RETRAIN_POLICY",
                f"after_annotations {self.retrain.after_annotations} must be positive (0 means "
                f"{RetrainPolicy().after_annotations}) and after_idle_s {self.retrain.after_idle_s:g} in 0..1e9 "
                "(0 means never)",
            )

    @property
    def clocks(self) -> Clocks:
        return Clocks(self.lease_duration_s, self.heartbeat_timeout_s)

    def wants_second(self, sample_id: str) -> bool:
        """Whether a second annotator is to get a sample, too: the same answer each time."""
        number = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:6], "big")
        return number < self.second_annotator_share * 2**48

    def _check_shares(self) -> None:
        total = sum(share.share for share in self.strategies)
        names = [share.strategy for share in self.strategies]
        if (
            not names
            or len(set(names)) != len(names)
            or not all(0 < share.share <= 1 for share in self.strategies)
            or not math.isclose(total, 1.0, abs_tol=1e-6)
        ):
            raise InvalidArgument(
                "BAD_SHARES",
                f"shares of {names} sum to {total:g}: each strategy once, every share above 0, together 1",
            )


@dataclass(frozen=True, slots=True)
class Loop:
    """How far the loop of a pool is; the sampler writes it, and goes on from it after a restart.

    Attributes:
        nonce: Made with the pool; request ids contain it, so that a pool made anew gets no job of the old one.
        watermark: Number of the last annotation record that was applied.
        latest_model: Newest model that is known, '' before the first.
        scored_model: Model whose finished score maps rank the pool, '' before the first.
        training_number: How many trainings were asked for.
        training_request_id: Set from the moment that a training is wanted until it has ended.
        training_job: Set as soon as the trainer has answered.
        training_sequence: The watermark when the training was asked for.
        training_user: Who asked for it, '' for the policy.
        scoring_number: How many scorings were asked for.
        scoring_request_id: As for trainings.
        scoring_job: As for trainings.
        scoring_model: Model that is being scored.
        failure: Why the last training or scoring failed, '' when it did not.
        considered_sequence: Annotations up to this record do not cause another training by themselves.
        failed_model: Model whose scoring failed; it is tried again a few times, and with the next training.
        rounds: Trainings that ended well.
        last_annotation_at: Unix time of the newest annotation, 0 before the first.
        misleading: Why the foreground of the newest model is not to be trusted, '' when nothing speaks against it.
    """

    nonce: str = ""
    watermark: int = 0
    latest_model: str = ""
    scored_model: str = ""
    training_number: int = 0
    training_request_id: str = ""
    training_job: str = ""
    training_sequence: int = 0
    training_user: str = ""
    scoring_number: int = 0
    scoring_request_id: str = ""
    scoring_job: str = ""
    scoring_model: str = ""
    failure: str = ""
    considered_sequence: int = 0
    failed_model: str = ""
    rounds: int = 0
    last_annotation_at: float = 0.0
    misleading: str = ""

    @property
    def active_job(self) -> str:
        """Training or scoring that is waited for, '' when none."""
        return self.training_job or self.scoring_job

    @property
    def scoring_failure(self) -> str:
        """Why no model has scored anything although there is one, '' when one has, or is still at it."""
        if self.scored_model or not self.latest_model or self.failed_model != self.latest_model:
            return ""
        return self.failure or "nothing is known of the reason"

    def training_due(self, policy: RetrainPolicy, new_annotations: int, now: float) -> bool:
        """Whether the policy asks for a training now.

        Args:
            policy: Of the pool.
            new_annotations: Those that hold, that the newest model has not seen and that came after
                `considered_sequence`.
            now: Unix time in s.
        """
        if self.training_request_id or policy.manual or new_annotations < 1:
            return False
        idle = policy.after_idle_s > 0 and now - self.last_annotation_at >= policy.after_idle_s
        return idle or new_annotations >= policy.after_annotations


@dataclass(frozen=True, slots=True)
class Pool:
    """Settings and state of a project's pool; `revision` grows with every change of the settings."""

    project_id: str
    settings: PoolSettings = field(default_factory=PoolSettings)
    loop: Loop = field(default_factory=Loop)
    revision: int = 1

    @property
    def etag(self) -> str:
        return f"{self.revision}"


@dataclass(frozen=True, slots=True)
class VolumeGeometry:
    """What the sampler knows of a volume: no voxel, only its frame.

    Attributes:
        volume_id: Within the project.
        shape: Level-0 voxels.
        voxel_size: Of level 0.
        working_resolution_nm: Of the project.
    """

    volume_id: str
    shape: Index
    voxel_size: VoxelSize
    working_resolution_nm: float

    @property
    def working_factor(self) -> int:
        """Level-0 voxels per working pixel in plane."""
        in_plane_nm = (self.voxel_size.y_nm + self.voxel_size.x_nm) / 2
        return max(1, round(self.working_resolution_nm / in_plane_nm))

    def sample_shape(self, wanted: Index | None) -> Index:
        """Shape of a sample in level-0 voxels: `wanted` or the default, cut to the volume."""
        edge = SAMPLE_EDGE * self.working_factor
        shape = wanted or Index(1, edge, edge)
        return Index(*(min(size, limit) for size, limit in zip(shape, self.shape, strict=True)))
