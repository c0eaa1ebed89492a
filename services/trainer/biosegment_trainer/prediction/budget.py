"""Which blocks a scoring scores again, when it may not score them all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from biosegment.volume import Index
from biosegment_trainer.prediction.block import BlockId

NEVER = 0
"""Instead of the version of a model: nothing was scored yet, or by a shipped model alone."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block that may be scored.

    Attributes:
        pixels: Working pixels that it costs.
        place: In the grid of its volume's blocks.
        version: Of the model that scored it last, `NEVER` for none.
    """

    block: BlockId
    pixels: int
    place: Index
    version: int


def choose(candidates: Iterable[Candidate], max_pixels: int, seed: str) -> set[BlockId]:
    """Blocks of at most so many pixels: first those that an old model scored, or none, spread evenly.

    The blocks of one age are lined up along a curve through their volumes and cut into as many stretches as can be
    afforded; of each stretch one block is taken at random.

    Args:
        candidates: All blocks.
        max_pixels: What they may cost together.
        seed: The same one chooses the same blocks.
    """
    ages: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        ages.setdefault(candidate.version, []).append(candidate)
    chosen: set[BlockId] = set()
    rest = max_pixels
    for version in sorted(ages):
        line = sorted(ages[version], key=lambda each: (each.block.part, _along_curve(each.place)))
        taken = (
            line if sum(each.pixels for each in line) <= rest else _spread(line, rest, f"{seed}/{version}")
        )
        chosen |= {each.block for each in taken}
        rest -= sum(each.pixels for each in taken)
        if len(taken) < len(line):
            break
    return chosen


def _spread(line: Sequence[Candidate], max_pixels: int, seed: str) -> list[Candidate]:
    generator = random.Random(seed)
    mean = sum(each.pixels for each in line) / len(line)
    count = min(len(line), int(max_pixels // mean))
    bounds = [round(number * len(line) / count) for number in range(count + 1)] if count else []
    stretches = [line[low:high] for low, high in itertools.pairwise(bounds)]
    # In random order, so that it is not always the last ones that cannot be afforded any more.
    generator.shuffle(stretches)
    taken: list[Candidate] = []
    rest = max_pixels
    for stretch in stretches or [line]:
        affordable = [each for each in stretch if each.pixels <= rest]
        if affordable:
            taken.append(generator.choice(affordable))
            rest -= taken[-1].pixels
    return taken


def _along_curve(place: Index) -> int:
    """Position on a curve that keeps near places near (Morton order): the bits of the three numbers in turn."""
    position = 0
    for bit in range(21):
        for axis, number in enumerate(reversed(place)):
            position |= (number >> bit & 1) << (3 * bit + axis)
    return position
