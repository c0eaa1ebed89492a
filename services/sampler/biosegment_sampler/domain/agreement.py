"""How far two annotators of the same sample agree, of whom the second had not been shown what the first did.

Counts of voxels come from where the labels are. Over several samples they are summed, so that large samples weigh more,
and a sample where neither found anything changes no ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.event import SEEING, Action, Event


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


def pairs_of(
    annotations: Iterable[Annotation], events: Mapping[str, Sequence[Event]] | None = None
) -> list[Pair]:
    """Pairs to compare, newest first: of each sample the last annotation of every annotator.

    Without those of which the annotator who began later began from what somebody else had made, as reviewers do who
    correct it: such two agree by themselves.

    Args:
        annotations: That hold, in the order of their records.
        events: Of their samples, by id, oldest first.
    """
    first: dict[str, dict[str, Annotation]] = {}
    last: dict[str, dict[str, Annotation]] = {}
    for each in annotations:
        first.setdefault(each.sample_id, {}).setdefault(each.author, each)
        last.setdefault(each.sample_id, {})[each.author] = each
    pairs = []
    for sample_id, begun in first.items():
        happened = (events or {}).get(sample_id, ())
        # As they are in the order of records, the second of two began later.
        for author, other in combinations(begun, 2):
            if not was_shown(happened, begun[other]):
                two = (last[sample_id][author], last[sample_id][other])
                pairs.append(Pair(sample_id, *sorted(two, key=lambda each: each.sequence)))
    return sorted(pairs, key=lambda pair: (pair.second.sequence, pair.first.sequence), reverse=True)


def was_shown(events: Iterable[Event], annotation: Annotation) -> bool:
    """Whether its author had been shown somebody else's annotation of the sample when they made one.

    Args:
        events: Of the sample, oldest first.
        annotation: Of the sample.
    """
    authors: set[str] = set()
    shown: set[str] = set()
    for each in events:
        if each.action is Action.ANNOTATED:
            if each.text == annotation.name:
                return annotation.author in shown
            authors.add(each.user)
        elif each.action in SEEING and authors - {each.user}:
            # Who takes over goes on with what the former holder did: to annotate it, to correct it, or blindly.
            if each.action is not Action.TAKEN_OVER or each.text in shown | authors:
                shown.add(each.user)
    # What happened is known of the last hundred things.
    return False


def by_authors(compared: Sequence[tuple[Pair, Comparison]]) -> list[AuthorAgreement]:
    """Sums for each two annotators, by their names."""
    sums: dict[tuple[str, str], AuthorAgreement] = {}
    for pair, comparison in compared:
        before = sums.get(pair.authors, AuthorAgreement(pair.authors, 0, Comparison()))
        total = before.comparison + comparison
        sums[pair.authors] = AuthorAgreement(pair.authors, before.samples + 1, total)
    return [sums[authors] for authors in sorted(sums)]
