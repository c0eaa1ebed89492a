"""Whose turn it is: the order in which queued jobs begin, and when that will be.

Urgent jobs come first. Among equally urgent ones it is the turn of the user for whom least was done lately, so that a
user's hundred jobs do not keep another's first one waiting; a user's own jobs come in the order in which they were
asked for. One function says so to those who begin jobs and to those who ask for a job's place.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MEMORY_S: Final = 3600.0
"""What was done for a user longer ago is forgotten."""
_UNKNOWN_S: Final = 60.0
_PACE_WINDOW_S: Final = 60.0


@dataclass(slots=True)
class Lane:
    """Kinds of jobs that wait in one line and never in another one's.

    Attributes:
        name: For people.
        kinds: Fields of `JobSpec.kind`; all when empty.
        concurrent: Jobs at the same time, of all processes that share the database; 0: those processes decide.
            It may change while they run.
    """

    name: str
    kinds: frozenset[str] = frozenset()
    concurrent: int = 0

    def covers(self, kind: str) -> bool:
        """Whether jobs of a kind wait here."""
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job; ids grow with the time at which it was asked for."""

    job_id: str
    owner: str
    kind: str
    priority: int


@dataclass(frozen=True, slots=True)
class Work:
    """An attempt that runs or ended within `MEMORY_S`, or those of a job before it together.

    Attributes:
        owner: Of the job.
        kind: Of the job.
        seconds: That it has taken within `MEMORY_S`.
        runs: Whether it still does.
        eta_s: Seconds to its end as it says itself; 0 when it does not.
    """

    owner: str
    kind: str
    seconds: float
    runs: bool
    eta_s: float = 0.0


def turns(waiting: Iterable[Waiting], work: Iterable[Work], usual_s: Mapping[str, float]) -> list[Waiting]:
    """The queued jobs of a lane in the order in which they begin.

    Args:
        waiting: In any order.
        work: Of the same lane.
        usual_s: Seconds that jobs usually take, by kind.
    """
    done: dict[str, float] = {}
    for item in work:
        # A job that has just begun counts as what it will take: else its owner would be next again.
        seconds = max(item.seconds, usual_s.get(item.kind, _UNKNOWN_S)) if item.runs else item.seconds
        done[item.owner] = done.get(item.owner, 0.0) + seconds
    ordered: list[Waiting] = []
    by_priority: dict[int, dict[str, deque[Waiting]]] = {}
    for job in sorted(waiting, key=lambda job: job.job_id):
        by_priority.setdefault(job.priority, {}).setdefault(job.owner, deque()).append(job)
    for priority in sorted(by_priority, reverse=True):
        lines = by_priority[priority]
        heap = [(done.get(owner, 0.0), line[0].job_id, owner) for owner, line in lines.items()]
        heapq.heapify(heap)
        while heap:
            _, _, owner = heapq.heappop(heap)
            job = lines[owner].popleft()
            ordered.append(job)
            done[owner] = done.get(owner, 0.0) + usual_s.get(job.kind, _UNKNOWN_S)
            if lines[owner]:
                heapq.heappush(heap, (done[owner], lines[owner][0].job_id, owner))
    return ordered


def start_etas(
    ordered: Sequence[Waiting], work: Iterable[Work], usual_s: Mapping[str, float], concurrent: int
) -> list[float]:
    """Seconds until each of the ordered jobs begins; 0 where nobody knows, and for those that can begin at once.

    Args:
        ordered: As `turns` answers.
        work: Of the same lane.
        usual_s: As for `turns`.
        concurrent: Jobs at the same time; 0: as many as run now, at least one.
    """
    running = [item for item in work if item.runs]
    slots = [_remaining(item, usual_s) for item in running]
    slots += [0.0] * (max(1, concurrent) - len(slots))
    heapq.heapify(slots)
    found = []
    for job in ordered:
        begin = heapq.heappop(slots)
        found.append(begin if math.isfinite(begin) else 0.0)
        heapq.heappush(slots, begin + usual_s.get(job.kind, math.inf))
    return found


def _remaining(item: Work, usual_s: Mapping[str, float]) -> float:
    if item.eta_s:
        return item.eta_s
    usual = usual_s.get(item.kind)
    # One that takes longer than usual may end at any moment.
    return math.inf if usual is None else max(1.0, usual - item.seconds)


class Pace:
    """Estimates the end of a running attempt from how fast it was within the last minute.

    Not since its beginning: a resumed attempt begins far, and reading goes at another pace than training.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def eta_s(self, fraction: float, now_s: float) -> float:
        """Seconds to the end of a job that has reached `fraction` at `now_s`; 0 when unknown."""
        seen = self._seen
        seen.append((now_s, fraction))
        while len(seen) > 2 and now_s - seen[1][0] >= _PACE_WINDOW_S:
            seen.popleft()
        (since_s, first) = seen[0]
        if now_s <= since_s or fraction <= first:
            return 0.0
        return (1.0 - min(1.0, fraction)) * (now_s - since_s) / (fraction - first)
