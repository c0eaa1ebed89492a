"""What interactive segmentation needs of its surroundings."""

from __future__ import annotations

from typing import Protocol

from biosegment_trainer.interaction.task import LabelTask, SegmentAnswer, SegmentTask


class Segmenter(Protocol):
    """A warm process that segments, one request at a time."""

    async def segment(self, task: SegmentTask | LabelTask) -> SegmentAnswer:
        """Compute an answer, having started the process when it is not there.

        When this is cancelled the process is not left behind busy with it.

        Raises:
            Unavailable: SEGMENTER_DIED over the request; SEGMENTER_UNAVAILABLE.
            BiosegmentError: What the computation met with.
        """
        ...

    async def warm(self) -> None:
        """Start the process."""
        ...

    async def close(self) -> None:
        """End the process; it may be started again."""
        ...
