"""The proposals that stand: each is replaced when a newer one is ready, not when it is wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from biosegment_sampler.board import Boards
from biosegment_sampler.cache import ByteCache
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.pool import Pool, StrategyShare
from biosegment_sampler.proposal import Proposal, Proposer
from biosegment_sampler.strategies import STRATEGIES

PATIENCE_S: Final = 0.05
"""So long a claim waits for scores that were just taken into use: mostly they were ranked before that."""
_log = structlog.get_logger("biosegment_sampler.standing")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for.

    Attributes:
        pool: As it is now.
        scores: Number of the change that last touched its score layers.
        field: All of its candidates; the same object as long as they do not change.
        shares: Strategies.
        volume_id: Only candidates of this volume, '' for all.
    """

    pool: Pool
    scores: int
    field: CandidateField
    shares: Sequence[StrategyShare]
    volume_id: str = ""

    @property
    def place(self) -> tuple[object, ...]:
        """What stays when there are new scores: an older answer will do for a while."""
        settings = self.pool.settings
        pool = (self.pool.project_id, self.pool.loop.nonce, settings.seed, settings.retrain.after_annotations)
        known = tuple(STRATEGIES.get(share.strategy) for share in self.shares)
        return *pool, self.field, tuple(self.shares), known, self.volume_id

    def stamp(self, follows_annotations: bool) -> tuple[object, ...]:
        """What the answer is made of."""
        loop = self.pool.loop
        annotations = loop.watermark if follows_annotations else 0
        models = (loop.scored_model, loop.latest_model, loop.scoring_failure)
        return self.scores, *models, loop.rounds, annotations


@dataclass(frozen=True, slots=True)
class _Answer:
    stamp: tuple[object, ...]
    proposal: Proposal


class StandingProposals:
    """Gives the last finished proposal while that of newer scores is being made.

    Args:
        proposer: Makes them.
        boards: Know what is taken, so that the first claim finds the beginning of each ranking worked out.
        max_bytes: Of the proposals that stand.
    """

    def __init__(self, proposer: Proposer, boards: Boards, max_bytes: int) -> None:
        self._proposer = proposer
        self._boards = boards
        self._standing: ByteCache[_Answer] = ByteCache(max_bytes, lambda answer: answer.proposal.nbytes)
        self._making: dict[tuple[object, ...], tuple[float, asyncio.Task[Proposal]]] = {}

    async def proposal(self, question: Question) -> Proposal:
        """What to choose from, now.

        Raises:
            Unavailable: Object storage cannot be read, and there is no earlier proposal.
        """
        known = self._standing.get(question.place)
        if known is not None and known.stamp == question.stamp(known.proposal.follows_annotations):
            return known.proposal
        since, making = self._making.get(question.place) or self._begin(question)
        if known is None:
            return await asyncio.shield(making)
        await asyncio.wait({making}, timeout=max(0.0, since + PATIENCE_S - time.monotonic()))
        is_ready = making.done() and not making.cancelled() and making.exception() is None
        return making.result() if is_ready else known.proposal

    def _begin(self, question: Question) -> tuple[float, asyncio.Task[Proposal]]:
        making = asyncio.create_task(self._make(question))
        making.add_done_callback(lambda task: self._made(question, task))
        self._making[question.place] = begun = (time.monotonic(), making)
        return begun

    async def _make(self, question: Question) -> Proposal:
        pool, volume_id = question.pool, question.volume_id
        field = question.field.only(volume_id) if volume_id else question.field
        made = await self._proposer.propose(pool, field, question.shares)
        board = await self._boards.board(pool, question.field)
        await asyncio.to_thread(board.prepare, volume_id, list(made.rankings.values()))
        stamp = question.stamp(made.follows_annotations)
        self._standing.put(question.place, _Answer(stamp, made))
        return made

    def _made(self, question: Question, task: asyncio.Task[Proposal]) -> None:
        self._making.pop(question.place, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("proposal failed", project=question.pool.project_id, error=str(error))
