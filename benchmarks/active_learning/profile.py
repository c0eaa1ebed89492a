"""How a run trains and asks; chosen on the validation tissues, never on a test stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.training import TrainingConfig
from biosegment_trainer.learning.validation import ValidationConfig


@dataclass(frozen=True, slots=True)
class Profile:
    """The same for all strategies.

    Attributes:
        training: Of a round; `steps` are those after the first.
        first_steps: On the starting set.
        parent_steps: Of the parent, on all of another data set.
        edge: Of a sample, in working pixels.
        margin: Working pixels around a sample that are seen in training without labels.
        batch: Samples to start with, and a query unless `query` says otherwise.
        query: Samples a query; 0 for `batch`. Not in the representation, by which records of before know their profile:
            a record says it by itself.
        passes: Where a strategy compares passes.
        patches: Where a run ends, by tissue.
    """

    training: TrainingConfig
    first_steps: int = 1500
    parent_steps: int = 2000
    edge: int = 64
    margin: int = 0
    batch: int = 20
    passes: int = 8
    patches: dict[str, int] = field(
        default_factory=lambda: {"epfl": 200, "vnc": 100, "epfl-validation": 200, "vnc-validation": 100}
    )
    query: int = field(default=0, repr=False)

    @property
    def asked(self) -> int:
        """Samples a query."""
        return self.query or self.batch


def _training(network: NetworkConfig, steps: int) -> TrainingConfig:
    return TrainingConfig(
        network=network,
        steps=steps,
        batch_size=8,
        patch_size=64,
        learning_rate=3e-3,
        weight_decay=1e-2,
        ema_decay=0.99,
        # All that is annotated trains: what is reported is measured elsewhere.
        validation=ValidationConfig(fraction=0.0),
    )


_SMALL: Final = NetworkConfig.unet((8, 16, 32, 64), (2, 2, 2))

PROFILES: Final[dict[str, Profile]] = {
    "small": Profile(_training(_SMALL, 200)),
    # A room asks for a few at a time; the beginning, where it matters what a parent saves.
    "fives": Profile(_training(_SMALL, 200), query=5, patches={"epfl": 50, "vnc": 40}),
    # The published setting compares passes of dropout, which is then in the network of every strategy.
    "dropout": Profile(_training(_SMALL.with_arguments(dropout=0.1), 200)),
    # For tests of the benchmark.
    "tiny": Profile(
        _training(NetworkConfig.unet((4, 8), (2,), 1), 3),
        first_steps=4,
        parent_steps=4,
        edge=32,
        batch=4,
        patches={"synthetic": 12},
    ),
}
