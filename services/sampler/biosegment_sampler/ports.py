"""What the use cases need from outside."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index
from biosegment_sampler.domain.agreement import Comparison
from biosegment_sampler.domain.annotation import Annotation, Record
from biosegment_sampler.domain.event import Event
from biosegment_sampler.domain.exhaustion import Counts
from biosegment_sampler.domain.grid import CandidateGrid
from biosegment_sampler.domain.pool import Pool, VolumeGeometry, VolumeRegion
from biosegment_sampler.domain.progress import ModelProgress, Tally
from biosegment_sampler.domain.review import Review
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.domain.scores import WindowScore
from biosegment_sampler.strategies import Passes

_Result = TypeVar("_Result")

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
        job: That made it; known of what the datastore lists, and not kept.
        passes: What the passes varied over which it was computed; known of what was taken into use.
    """

    name: str
    volume_id: str
    measure: str
    uri: str
    downsampling: Index
    job: str = ""
    passes: Passes = Passes.NONE


class JobState(enum.StrEnum):
    RUNNING = "running"
    """Queued or being worked on."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobView:
    """A job of the trainer; `model` is set when a training succeeded, `failure` when it failed or was cancelled.

    `passes` is what a scoring was asked to vary.
    """

    name: str
    state: JobState
    model: str = ""
    failure: str = ""
    passes: Passes = Passes.NONE


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was answered to a request id: sample ids or the name of a job, and the notice."""

    results: tuple[str, ...]
    notice: str = ""


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """Where an annotation lies.

    Attributes:
        name: Of the annotation.
        place: Its region.
        holds: It does.
        in_latest_model: The newest model was trained on it.
    """

    name: str
    place: VolumeRegion
    holds: bool
    in_latest_model: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since an earlier change, as it is after the last one.

    Attributes:
        number: Of the last change; they grow.
        scores: Of the change that last touched score layers, 0 before the first.
        samples: Those that changed.
        annotations: Those that changed.
        dealt: How many samples were made since whose strategy the shares of the pool have chosen.
    """

    number: int
    scores: int = 0
    samples: Sequence[Sample] = ()
    annotations: Sequence[LabelledRegion] = ()
    dealt: int = 0


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

    async def end_lease(self, sample: str, term: int, successor: str, successor_name: str) -> None:
        """Have commits with leases of a sample whose term is below `term` refused from now on."""
        ...

    async def compare(self, first: str, second: str) -> Comparison:
        """How far two annotations of one volume agree. Raises NotFound ANNOTATION_NOT_FOUND."""
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
        passes: Passes,
        max_pixels: int,
    ) -> str:
        """Ask for score maps over several passes, or one. Returns the job's name.

        At most `max_pixels` working pixels of them are scored anew.
        """
        ...

    async def job(self, name: str) -> JobView: ...

    async def cancel(self, name: str) -> None: ...

    async def newest_model(self, project_id: str) -> str:
        """Name of the newest model that still has its weights, '' when there is none."""
        ...

    async def training_of(self, project_id: str) -> str:
        """Name of a training of the project that waits or runs, whoever asked for it; '' when there is none."""
        ...

    async def models(self, project_id: str, limit: int) -> Sequence[ModelProgress]:
        """The newest models of a project, at most `limit`, oldest first."""
        ...

    async def annotations_of(self, model: str) -> Sequence[str]:
        """Names of the annotations that a model was trained on."""
        ...


class ScoreMaps(Protocol):
    """Reads score maps from object storage."""

    async def windows(self, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore:
        """A map over the windows of its volume. Raises NotFound when it is gone."""
        ...

    def embeddings(
        self, layer: ScoreLayer, grid: CandidateGrid, numbers: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What windows look like by a map of several channels, (n, channels), NaN where unknown; blocks. NotFound."""
        ...


class Room(Protocol):
    """What annotators have to do with each other, in one transaction on the rows of one project."""

    async def resumable(self, user: str, ended_after: float) -> Sequence[Sample]:
        """Samples whose last lease was this user's, and that ended, or will end, after a moment; by their rank."""
        ...

    async def wanting_second(self, user: str, volumes: Collection[str], limit: int) -> Sequence[Sample]:
        """Annotated samples of volumes that a second annotator is to get, oldest first.

        Without those that this user annotated, or whose annotation they are looking at as a reviewer.
        """
        ...

    async def held_by_others(self, place: VolumeRegion, user: str, now: float) -> Sequence[Sample]:
        """Samples that others than `user` hold and that share a voxel with a region."""
        ...

    async def annotated_since(self, place: VolumeRegion, since: float) -> Sequence[Annotation]:
        """Annotations that were made there since a moment and hold, oldest first."""
        ...

    async def reviews(self, now: float) -> Sequence[Review]:
        """Those that somebody is at, oldest annotation first."""
        ...

    async def put_reviews(self, reviews: Iterable[Review]) -> None: ...

    async def drop_reviews(self, annotations: Iterable[str]) -> None: ...

    async def unreviewed(
        self, user: str, volumes: Collection[str], limit: int, now: float
    ) -> Sequence[Annotation]:
        """Annotations of samples in volumes that nobody has reviewed and nobody reviews, oldest first.

        Without those of `user`, and those that their author has corrected since.
        """
        ...

    async def count_unreviewed(self, user: str, volumes: Collection[str], now: float) -> int:
        """How many those are; of everybody when `user` is ''."""
        ...

    async def counts(self, user: str, volumes: Collection[str], now: float) -> Counts:
        """What stands in the way of further samples of volumes for a user."""
        ...

    async def doubly_annotated(self, sample_id: str) -> Sequence[Annotation]:
        """Annotations that hold of samples that have some of several annotators, or of one; in order of records."""
        ...

    async def events_of_doubly_annotated(self, sample_id: str) -> Mapping[str, Sequence[Event]]:
        """What happened to those samples, by id, oldest first."""
        ...

    async def comparisons(self) -> Mapping[tuple[str, str], Comparison]:
        """Those that are known, by the names of both annotations."""
        ...

    async def put_comparisons(self, comparisons: Mapping[tuple[str, str], Comparison]) -> None: ...


class ChangeLog(Protocol):
    """Which samples, annotations and score layers have changed, in one transaction on the rows of one project."""

    async def since(self, number: int | None) -> Changes:
        """What came after a change; with None what is held and labelled now, and all samples counted."""
        ...

    async def scores(self) -> int:
        """The number of the change that last touched score layers, 0 before the first."""
        ...


class Transaction(Protocol):
    """One transaction on the rows of one project."""

    @property
    def room(self) -> Room: ...

    @property
    def log(self) -> ChangeLog: ...

    @property
    def written(self) -> Mapping[str, Sample]:
        """Samples that were put in this transaction, by id, as they were put last."""
        ...

    async def pool(self) -> Pool | None: ...

    async def pool_since(self, pool: Pool) -> Pool | None:
        """As `pool`, for who knows how it was: its settings are read only when they have changed."""
        ...

    async def put_pool(self, pool: Pool) -> None: ...

    async def remove(self) -> None: ...

    async def follow(self, watermark: int, last_annotation_at: float) -> None:
        """Write how far the annotation records were applied, and nothing else of the pool."""
        ...

    async def sample(self, sample_id: str) -> Sample | None: ...

    async def put_samples(self, samples: Iterable[Sample]) -> None:
        """Write samples, new ones and old ones."""
        ...

    async def samples_leased(self) -> Sequence[Sample]:
        """In state LEASED, by their rank; also those whose time is over."""
        ...

    async def list_samples(
        self,
        states: frozenset[SampleState],
        holder: str,
        before: str,
        limit: int,
        now: float,
        user: str = "",
        flagged: bool = False,
    ) -> Sequence[Sample]:
        """Newest first; `states` (all when empty) as of `now`, ids below `before` ('' for all).

        With `user` only those that they hold or last held, annotated, set aside or flagged.
        """
        ...

    async def annotations(self) -> Sequence[Annotation]:
        """Those that hold."""
        ...

    async def annotation(self, name: str) -> Annotation | None: ...

    async def annotations_of_sample(self, sample_id: str) -> Sequence[Annotation]: ...

    async def put_annotation(self, annotation: Annotation) -> None: ...

    async def set_latest_model(self, names: Sequence[str]) -> None:
        """Mark exactly these annotations as seen by the newest model."""
        ...

    async def new_annotations(self, after_sequence: int = 0) -> int:
        """Annotations that hold and that the newest model has not seen, without those that were corrected since."""
        ...

    async def has_annotations(self) -> bool:
        """Whether any annotation holds."""
        ...

    async def tally(self) -> Tally:
        """What was annotated, but for the states of samples."""
        ...

    async def samples_by_state(self, now: float) -> Mapping[str, int]:
        """As of `now`."""
        ...

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

    async def read_at_once(
        self, project_id: str, work: Callable[[Transaction], Awaitable[_Result]]
    ) -> _Result:
        """As `read`, for what happens often: `work` is carried out in a thread, and may await the transaction alone."""
        ...

    async def write_at_once(
        self, project_id: str, work: Callable[[Transaction], Awaitable[_Result]], *, lazily: bool = False
    ) -> _Result:
        """As `write`, in the way of `read_at_once`.

        When `lazily` a power cut may lose it, unless a later one that was not lazy has ended.
        """
        ...

    async def projects(self) -> Sequence[str]:
        """Projects that have a pool."""
        ...
