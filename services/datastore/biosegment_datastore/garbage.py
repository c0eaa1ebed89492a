"""What in the object storage nothing refers to: a value, and how it is told from what is in use."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

OWN: Final = ("volumes/", "projects/")
"""Where the datastore keeps its objects; the rest of the bucket belongs to others."""

SHOWN: Final = 1000
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects that nothing refers to.

    Attributes:
        objects: How many.
        size_bytes: Of all of them.
        prefixes: The first places, at most `SHOWN`, sorted.
    """

    objects: int
    size_bytes: int
    prefixes: tuple[str, ...]


def unreferenced(
    keys: Iterable[str], used: Collection[str], due: Collection[str], young_us: int
) -> dict[str, list[str]]:
    """Find the keys that may be deleted, by the place that they belong to.

    Args:
        keys: Of objects; listed before `used` was read, so that whatever is entered before its first byte is known.
        used: Keys and prefixes, without the final '/', that rows refer to.
        due: Prefixes that wait to be deleted. The longer one counts, when one is inside of the other.
        young_us: What was made later and has no row may be about to get one.
    """
    found: dict[str, list[str]] = {}
    for key in keys:
        place = _nearest(key, used, due)
        if place in due:
            found.setdefault(place, []).append(key)
        elif not place and max(map(made_us, key.split("/"))) < young_us:
            found.setdefault(_home(key), []).append(key)
    return found


def _nearest(key: str, used: Collection[str], due: Collection[str]) -> str:
    place = key
    while place and place not in due and place not in used:
        place = place.rpartition("/")[0]
    return place


def _home(key: str) -> str:
    """`volumes/{id}`, or `projects/{project}/{kind}/{id}`."""
    parts = key.split("/")
    return "/".join(parts[: 2 if parts[0] == "volumes" else 4])


def made_us(new_id: str) -> int:
    """When an id of `biosegment.ids.new_id` was made, in microseconds since 1970; 0 for other ids.

    What follows it after a '-' or '.' does not count.
    """
    stem = new_id.partition(".")[0].partition("-")[0]
    if len(stem) != 26 or any(character not in _ALPHABET for character in stem):
        return 0
    value = 0
    for character in stem:
        value = value << 5 | _ALPHABET.index(character)
    return (value >> 80) * 1000
