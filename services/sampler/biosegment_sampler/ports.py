"""What the use cases need from outside."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from biosegment.volume import Index
from biosegment_sampler.domain.annotation import Annotation, Progress, Record
from biosegment_sampler.domain.grid import CandidateGrid
from biosegment_sampler.domain.pool import Pool, VolumeGeometry, VolumeRegion
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.domain.scores import WindowScore

Clock = Callable[[], float]
"""Unix time in s."""


@dataclass(frozen=True, slots=True)
class ScoreLayer:
    """A committed score map.

    Attributes:
        name: projects/{p}/volumes/{v}/layers/{l}.
        volume_id: Within the project.
        measure: What it holds.
        uri: Where its array lies.
        downsampling: Level-0 voxels per cell.
    """

    name: str
    volume_id: str
    measure: str
    uri: str
    downsampling: Index


class JobState(enum.StrEnum):
    RUNNING = "running"
    """Queued or being worked on."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobView:
    """A job of the trainer; `model` is set when a training succeeded, `failure` when it failed or was cancelled."""

    name: str
    state: JobState
    model: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was answered to a request id: sample ids or the name of a job, and the notice."""

    results: tuple[str, ...]
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Occupied:
    """Regions that are out of reach, and why."""

    leased: Sequence[Sample]
    skipped: Sequence[VolumeRegion]
    labelled: Sequence[Annotation]
    """Annotations that hold."""


class Datastore(Protocol):
    """What the sampler asks the datastore."""

    async def volumes(self, project_id: str) -> Sequence[VolumeGeometry]:
        """All volumes by id. Raises NotFound PROJECT_NOT_FOUND."""
        ...

    async def records(self, project_id: str, after: int, limit: int) -> Sequence[Record]:
        """The annotation feed after a record, at most `limit` (1..1000) of it."""
        ...

    async def score_layers(self, project_id: str, volume_id: str, model: str) -> Sequence[ScoreLayer]:
        """Committed score maps of a model, newest first."""
        ...


class Trainer(Protocol):
    """What the sampler asks the trainer."""

    async def train(self, project_id: str, request_id: str, user: str) -> str:
        """Ask for a training on all annotations that hold; `user` caused it, or ''. Returns the job's name."""
        ...

    async def score(
        self,
        project_id: str,
        request_id: str,
        model: str,
        volume_ids: Sequence[str],
        measures: Sequence[str],
        max_pixels: int,
    ) -> str:
        """Ask for score maps, of which at most `max_pixels` working pixels are scored anew. Returns the job's name."""
        ...

    async def job(self, name: str) -> JobView: ...

    async def cancel(self, name: str) -> None: ...

    async def newest_model(self, project_id: str) -> str:
        """Name of the newest model that still has its weights, '' when there is none."""
        ...

    async def annotations_of(self, model: str) -> Sequence[str]:
        """Names of the annotations that a model was trained on."""
        ...


class ScoreMaps(Protocol):
    """Reads score maps from object storage."""

    async def windows(self, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore:
        """A map over the windows of its volume. Raises NotFound when it is gone."""
        ...


class Transaction(Protocol):
    """One transaction on the rows of one project."""

    async def pool(self) -> Pool | None: ...

    async def put_pool(self, pool: Pool) -> None: ...

    async def sample(self, sample_id: str) -> Sample | None: ...

    async def put_samples(self, samples: Iterable[Sample]) -> None:
        """Write samples, new ones and old ones."""
        ...

    async def samples_leased(self) -> Sequence[Sample]:
        """In state LEASED, by their rank; also those whose time is over."""
        ...

    async def list_samples(
        self, states: frozenset[SampleState], holder: str, before: str, limit: int, now: float
    ) -> Sequence[Sample]:
        """Newest first; `states` (all when empty) as of `now`, ids below `before` ('' for all)."""
        ...

    async def chosen_counts(self) -> Mapping[str, int]:
        """Samples by strategy."""
        ...

    async def occupied(self, now: float) -> Occupied: ...

    async def annotation(self, name: str) -> Annotation | None: ...

    async def annotations_of_sample(self, sample_id: str) -> Sequence[Annotation]: ...

    async def put_annotation(self, annotation: Annotation) -> None: ...

    async def set_latest_model(self, names: Sequence[str]) -> None:
        """Mark exactly these annotations as seen by the newest model."""
        ...

    async def new_annotations(self, after_sequence: int = 0) -> int:
        """Annotations that hold and that the newest model has not seen."""
        ...

    async def progress(self, now: float) -> Progress: ...

    async def receipt(self, user: str, request_id: str) -> Receipt | None: ...

    async def put_receipt(self, user: str, request_id: str, receipt: Receipt) -> None: ...

    async def score_layers(self, model: str) -> Sequence[ScoreLayer]:
        """Score maps of a model that were taken into use."""
        ...

    async def put_score_layers(self, model: str, layers: Sequence[ScoreLayer]) -> None:
        """Take score maps into use, in place of those of other models."""
        ...

    async def drop_score_layer(self, name: str) -> None: ...


class Ledger(Protocol):
    """The sampler's own rows."""

    def read(self, project_id: str) -> AbstractAsyncContextManager[Transaction]:
        """One consistent view."""
        ...

    def write(self, project_id: str) -> AbstractAsyncContextManager[Transaction]:
        """Alone on the project: no other transaction writes its rows meanwhile."""
        ...

    async def projects(self) -> Sequence[str]:
        """Projects that have a pool."""
        ...
