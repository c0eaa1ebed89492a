"""What the workers of an instances job are told, and where they leave what they found.

All of it lies below `jobs/{job}/instances/`. What a block finds follows from the source and the settings alone, so
later attempts of the job go on with what earlier ones found in the same source; only the layer is written anew.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from biosegment.settings import ObjectStoreSettings
from biosegment_trainer.compute.task import Callback
from biosegment_trainer.instances.block import BlockCut
from biosegment_trainer.instances.separation import WATERSHED, Separation


class Stage(enum.StrEnum):
    """Steps of the work; each needs all blocks of the one before.

    Attributes:
        LABEL: Objects, or seeds of a watershed, of each block.
        JOIN_SEEDS: Which seeds of different blocks are the same; one piece of work.
        FLOOD: What the seeds flood.
        JOIN: Which objects are the same, and which are large enough; one piece of work.
        WRITE: Their ids into the layer.
    """

    LABEL = "label"
    JOIN_SEEDS = "join-seeds"
    FLOOD = "flood"
    JOIN = "join"
    WRITE = "write"


JOINS = frozenset({Stage.JOIN_SEEDS, Stage.JOIN})


@dataclass(frozen=True, slots=True)
class SourceArray:
    """What is set: the voxels of a layer with values from `low` to `high`.

    Attributes:
        key: Of its array in the object storage.
        is_graded: The values are probabilities.
    """

    key: str
    low: int
    high: int
    is_graded: bool


@dataclass(frozen=True, slots=True)
class InstancesTask:
    """Instances of one layer into one that exists.

    Attributes:
        source: Voxels of the class.
        boundary: Voxels where objects end; None when nothing says so.
        target: Key of the array of the layer to write.
        cut: Its blocks.
        separation: How objects are told apart.
    """

    store: ObjectStoreSettings
    callback: Callback
    source: SourceArray
    boundary: SourceArray | None
    target: str
    cut: BlockCut
    separation: Separation

    @property
    def stages(self) -> tuple[Stage, ...]:
        if self.separation.method == WATERSHED:
            return tuple(Stage)
        return Stage.LABEL, Stage.JOIN, Stage.WRITE

    @property
    def found(self) -> Stage:
        """The stage whose ids are those of objects, once they are joined."""
        return Stage.FLOOD if self.separation.method == WATERSHED else Stage.LABEL

    @property
    def prefix(self) -> str:
        """Of everything that the job leaves on its way; another one for a source that was made anew meanwhile."""
        what = repr((self.source, self.boundary, self.cut, self.separation))
        return f"jobs/{self.callback.job_id}/instances/{hashlib.sha256(what.encode()).hexdigest()[:16]}"

    def numbers(self, stage: Stage) -> tuple[int, ...]:
        """The pieces of work of a stage."""
        return (0,) if stage in JOINS else self.cut.numbers()

    def ids_key(self, stage: Stage) -> str:
        """The array with the ids that each block gave."""
        return f"{self.prefix}/ids/{stage}"

    def done_key(self, stage: Stage, number: int) -> str:
        """The object that says that a piece of work is done; of blocks that were labelled, what they found."""
        if stage is Stage.WRITE:
            return f"{self.prefix}/{stage}/{self.callback.attempt}/{number:08d}"
        return f"{self.prefix}/{stage}/{number:08d}"

    def table_key(self, stage: Stage, number: int) -> str:
        """The object of each id of a block, as a joining stage found it."""
        return f"{self.prefix}/{stage}/tables/{number:08d}"
