"""How an array is cut into shards (one object each) and chunks (what is compressed and read)."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.errors import InvalidArgument

DEFAULT_SHARD = (256, 256, 256)
DEFAULT_CHUNK = (16, 128, 128)
"""Thin in z, so that browsing slices decodes little; cubes of 64 are 15 times slower there."""

ZSTD_LEVEL = 1
"""Level 3 costs five times the time for two per cent of space on EM data."""


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Shard and chunk shape of an array; the shard is a whole number of chunks along every axis."""

    shard: tuple[int, ...]
    chunk: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shard) != len(self.chunk) or any(
            inner < 1 or outer < 1 or outer % inner
            for outer, inner in zip(self.shard, self.chunk, strict=True)
        ):
            raise InvalidArgument(
                "BAD_LAYOUT",
                f"shard {self.shard} is not a whole number of chunks {self.chunk} along every axis",
            )

    @classmethod
    def for_shape(cls, shape: tuple[int, ...]) -> ArrayLayout:
        """The default layout for an array of `shape`; axes before the last three get a chunk of one.

        Small arrays get small chunks and shards, so that nothing is padded to 16 MB.
        """
        extra = (1,) * max(0, len(shape) - 3)
        first = max(0, 3 - len(shape))
        return cls(extra + DEFAULT_SHARD[first:], extra + DEFAULT_CHUNK[first:]).clamped(shape)

    def clamped(self, shape: tuple[int, ...]) -> ArrayLayout:
        """This layout, with no chunk and no shard larger than an array of `shape` needs."""
        chunk = tuple(min(edge, size) for edge, size in zip(self.chunk, shape, strict=True))
        shard = tuple(
            min(outer // inner * inner, -(-size // inner) * inner)
            for outer, inner, size in zip(self.shard, chunk, shape, strict=True)
        )
        return ArrayLayout(shard, chunk)
