"""A second person's look at an annotation."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.lease import Lease


@dataclass(frozen=True, slots=True)
class Review:
    """An annotation that nobody has judged, and who is looking at it."""

    annotation: Annotation
    lease: Lease
