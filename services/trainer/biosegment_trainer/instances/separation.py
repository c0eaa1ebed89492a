"""How objects are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from biosegment.volume import Index
from biosegment_trainer.instances.distance import reach

COMPONENTS: Final = "connected_components"
WATERSHED: Final = "watershed"
METHODS: Final = (COMPONENTS, WATERSHED)
CONNECTIVITIES: Final = (6, 26)
MAX_OBJECTS: Final = 2**32 - 2
"""0 is no object, 2^32 - 1 says in annotations that no object is there."""
MAX_REACH: Final = 64
"""Most voxels around a block that may decide its distances."""
_FLOOD: Final = 32


@dataclass(frozen=True, slots=True)
class Separation:
    """What makes two voxels one object.

    Attributes:
        method: Of `METHODS`.
        connectivity: Neighbours of a voxel, of `CONNECTIVITIES`.
        min_size: Voxels, of the layer, of the smallest object that is kept.
        seed_distance_nm: Watershed: seeds are what lies at least this far from the surface.
        spacing_nm: Edges (z, y, x) of a voxel.
    """

    method: str
    connectivity: int = 26
    min_size: int = 0
    seed_distance_nm: float = 0.0
    spacing_nm: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def reach(self) -> Index:
        """Voxels around a voxel that decide its distance."""
        return Index(*reach(self.seed_distance_nm, self.spacing_nm))

    @property
    def flood(self) -> Index:
        """Voxels around a block whose seeds may flood into it; wider, and a long thin end may belong elsewhere."""
        return Index(*(max(_FLOOD, 2 * edge) for edge in self.reach))
