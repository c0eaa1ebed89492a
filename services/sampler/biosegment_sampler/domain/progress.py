"""How far a project is: what was annotated by whom and when, and how good each model was when it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from biosegment.volume import VoxelSize
from biosegment_sampler.domain.stopping import Curve, Flatness, Point, judge

_NM2_PER_UM2 = 1e6
_NM3_PER_UM3 = 1e9


@dataclass(frozen=True, slots=True)
class Extent:
    """What is labelled.

    Attributes:
        voxels: Of level 0.
        area_um2: Of annotations that are one slice thick.
        volume_um3: Of thicker ones.
    """

    voxels: int = 0
    area_um2: float = 0.0
    volume_um3: float = 0.0

    def __add__(self, other: Extent) -> Extent:
        return Extent(
            self.voxels + other.voxels, self.area_um2 + other.area_um2, self.volume_um3 + other.volume_um3
        )

    @classmethod
    def of(cls, voxels: int, size: VoxelSize | None, flat: bool) -> Extent:
        """Of voxels of a volume; no area and no volume without a size."""
        if size is None:
            return cls(voxels)
        if flat:
            return cls(voxels, voxels * size.y_nm * size.x_nm / _NM2_PER_UM2)
        return cls(voxels, 0.0, voxels * size.z_nm * size.y_nm * size.x_nm / _NM3_PER_UM3)


@dataclass(frozen=True, slots=True)
class WorkTime:
    """Seconds of those annotations whose client measured them; `median_s` is 0 for none."""

    annotations: int = 0
    total_s: float = 0.0
    median_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reviews:
    """Annotations by what became of them."""

    pending: int = 0
    accepted: int = 0
    rejected: int = 0
    reverted: int = 0

    @property
    def holding(self) -> int:
        return self.pending + self.accepted


@dataclass(frozen=True, slots=True)
class Labelled:
    """Voxels of one class by one author in one volume, in flat or thick regions; of annotations that hold.

    Without those that their author has corrected since.
    """

    author: str
    volume_id: str
    flat: bool
    class_value: int
    annotations: int
    voxels: int


@dataclass(frozen=True, slots=True)
class Day:
    """One day, UTC, on which somebody annotated: days since 1970.

    Voxels are without what its author has corrected since, on whatever day.
    """

    number: int
    annotations: int
    voxels: int
    authors: int
    work: WorkTime


@dataclass(frozen=True, slots=True)
class AuthorTally:
    """What the rows say of one author."""

    reviews: Reviews
    samples: int
    work: WorkTime
    last_annotation_at: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What the sampler's rows say; the database has added them up."""

    labelled: Sequence[Labelled] = ()
    authors: Mapping[str, AuthorTally] = field(default_factory=dict)
    days: Sequence[Day] = ()
    work: WorkTime = WorkTime()
    new_annotations: int = 0
    samples_by_state: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuthorProgress:
    """What one person annotated."""

    author: str
    extent: Extent
    voxels_by_class: Mapping[int, int]
    tally: AuthorTally


@dataclass(frozen=True, slots=True)
class ClassProgress:
    """What was annotated of one class, in how many annotations."""

    class_value: int
    annotations: int
    extent: Extent


@dataclass(frozen=True, slots=True)
class NewAgreement:
    """How a parent agreed in one class with annotations that were new to it; as the trainer recorded it.

    Attributes:
        class_name: The class.
        iou: Over all voxels.
        error: Standard error of `iou`, None when it is not known.
        annotations: Those that show the class, or in which the parent saw it.
        seen: Those in which the parent saw it; None when it was not recorded.
    """

    class_name: str
    iou: float
    error: float | None
    annotations: int
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """How good a model was when it was made; fields as in the API."""

    name: str
    version: int
    display_name: str
    parent: str
    created_at: float
    deleted: bool
    trained_annotations: int
    held_out_annotations: int
    iou: float | None
    parent_iou: float | None
    parent_kept: bool
    class_ious: Mapping[str, tuple[float | None, float | None]]
    """By class: its own, the parent's."""
    new_agreements: Sequence[NewAgreement]
    new_annotations: int
    new_voxels: int
    remarks: Sequence[str]
    classes: Sequence[str] = ()
    """Of the project, that it tells apart."""


def authors_of(tally: Tally, sizes: Mapping[str, VoxelSize]) -> list[AuthorProgress]:
    """Most annotations first; `sizes` of voxels by volume id, a volume that is gone left out."""
    found = []
    for author, own in tally.authors.items():
        labelled = [each for each in tally.labelled if each.author == author]
        voxels: dict[int, int] = {}
        for each in labelled:
            voxels[each.class_value] = voxels.get(each.class_value, 0) + each.voxels
        found.append(AuthorProgress(author, extent_of(labelled, sizes), voxels, own))
    return sorted(found, key=lambda each: (-each.tally.reviews.holding, each.author))


def classes_of(tally: Tally, sizes: Mapping[str, VoxelSize]) -> list[ClassProgress]:
    """By value."""
    found = []
    for value in sorted({each.class_value for each in tally.labelled}):
        labelled = [each for each in tally.labelled if each.class_value == value]
        count = sum(each.annotations for each in labelled)
        found.append(ClassProgress(value, count, extent_of(labelled, sizes)))
    return found


def extent_of(labelled: Sequence[Labelled], sizes: Mapping[str, VoxelSize]) -> Extent:
    """Of groups together."""
    parts = (Extent.of(each.voxels, sizes.get(each.volume_id), each.flat) for each in labelled)
    return sum(parts, Extent())


def reviews_of(tally: Tally) -> Reviews:
    """Of all authors together."""
    own = [each.reviews for each in tally.authors.values()]
    return Reviews(
        sum(each.pending for each in own),
        sum(each.accepted for each in own),
        sum(each.rejected for each in own),
        sum(each.reverted for each in own),
    )


def curves_of(models: Sequence[ModelProgress], flatness: Flatness) -> list[Curve]:
    """The agreement with new annotations along the newest model's line: itself, its parent, its parent's parent ...

    All classes of the newest model have one, also those that new annotations never showed.
    """
    known = {model.name: model for model in models}
    line: list[ModelProgress] = []
    name = max(models, key=lambda model: model.version).name if models else ""
    while name in known:
        line.insert(0, known.pop(name))
        name = line[0].parent
    points: dict[str, list[Point]] = {each: [] for each in line[-1].classes} if line else {}
    tested = [model.name for model in line if model.new_agreements]
    for model in line:
        for each in model.new_agreements:
            point = Point(model.name, model.version, each.iou, each.error, each.annotations)
            points.setdefault(each.class_name, []).append(point)
    return [
        judge(name, found, flatness, unseen=_unseen(found, tested[-flatness.rounds :]))
        for name, found in sorted(points.items())
    ]


def _unseen(points: Sequence[Point], rounds: Sequence[str]) -> int:
    """In how many of these rounds new annotations did not show a class."""
    return len(set(rounds) - {point.model for point in points})
