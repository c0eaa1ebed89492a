"""Leases: time-limited holds, signed so that the datastore can check them without asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GRACE_S: Final = 10.0
"""A region is given to somebody else only so long after its lease ran out.

Clocks differ, and a commit that the datastore accepted in the last moment must arrive in the feed first.
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on a sample.

    Attributes:
        holder: User id.
        issued_at: Unix time in s.
        expires_at: Unix time in s; the token ends here.
    """

    holder: str
    issued_at: float
    expires_at: float

    def blocks(self, now: float) -> bool:
        """Whether nobody else may take the region yet."""
        return now < self.expires_at + GRACE_S
