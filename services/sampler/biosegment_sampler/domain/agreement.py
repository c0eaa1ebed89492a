"""How far two annotators of the same sample agree.

Counts of voxels come from where the labels are. Over several samples they are summed, so that large samples weigh more,
and a sample where neither found anything changes no ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from biosegment_sampler.domain.annotation import Annotation


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxels where both say a class, and where at least one does."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection over union; 1 when neither says the class: they agree that there is none."""
        return self.intersection / self.union if self.union else 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two annotations beside each other.

    Attributes:
        compared: Voxels where both say something.
        agreed: Of those, where they say the same of each class that both looked for.
        classes: By the classes that both looked for.
    """

    compared: int = 0
    agreed: int = 0
    classes: Mapping[int, Overlap] = field(default_factory=dict, hash=False)

    def __add__(self, other: Comparison) -> Comparison:
        classes = dict(self.classes)
        for value, each in other.classes.items():
            before = classes.get(value, Overlap(0, 0))
            classes[value] = Overlap(before.intersection + each.intersection, before.union + each.union)
        return Comparison(self.compared + other.compared, self.agreed + other.agreed, classes)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two annotations of one sample, the later one second, by different annotators."""

    sample_id: str
    first: Annotation
    second: Annotation

    @property
    def key(self) -> tuple[str, str]:
        return self.first.name, self.second.name

    @property
    def authors(self) -> tuple[str, str]:
        """By name."""
        first, second = sorted((self.first.author, self.second.author))
        return first, second


@dataclass(frozen=True, slots=True)
class AuthorAgreement:
    """Two annotators over all samples that both annotated."""

    authors: tuple[str, str]
    samples: int
    comparison: Comparison


def pairs_of(annotations: Iterable[Annotation]) -> list[Pair]:
    """Pairs to compare, newest first: of each sample the last annotation of every annotator.

    Args:
        annotations: That hold, in the order of their records.
    """
    last: dict[str, dict[str, Annotation]] = {}
    for each in annotations:
        last.setdefault(each.sample_id, {})[each.author] = each
    pairs = [
        Pair(sample_id, *sorted(two, key=lambda each: each.sequence))
        for sample_id, by_author in last.items()
        for two in combinations(by_author.values(), 2)
    ]
    return sorted(pairs, key=lambda pair: (pair.second.sequence, pair.first.sequence), reverse=True)


def by_authors(compared: Sequence[tuple[Pair, Comparison]]) -> list[AuthorAgreement]:
    """Sums for each two annotators, by their names."""
    sums: dict[tuple[str, str], AuthorAgreement] = {}
    for pair, comparison in compared:
        before = sums.get(pair.authors, AuthorAgreement(pair.authors, 0, Comparison()))
        total = before.comparison + comparison
        sums[pair.authors] = AuthorAgreement(pair.authors, before.samples + 1, total)
    return [sums[authors] for authors in sorted(sums)]
