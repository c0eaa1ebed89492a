"""A sample and its life.

    (proposed or chosen) -> LEASED -> ANNOTATED <-> OPEN    reverted or rejected; accepted again
                              |  ^
            release, expiry   v  |  renewal by the last holder, while nobody else took the region; resuming
                              OPEN -> SKIPPED -> OPEN       set aside; released

An open sample is history: its region is a candidate again and comes back as a new sample. An annotated one can be
leased again, to be corrected or annotated a second time; when such a lease ends it is annotated as before. One that was
set aside with a question has a flag, and so may an annotated one; a flagged sample is leased to nobody until somebody
answers.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from biosegment.errors import FailedPrecondition
from biosegment.volume import Index, Region
from biosegment_sampler.domain.event import Action, Event, Flag
from biosegment_sampler.domain.lease import Claimant, Clocks, Lease, Purpose

CHOSEN = "chosen"
"""Strategy of a region that an annotator chose."""
WHOLE: Final = Index(1, 1, 1)
"""Downsampling of what has a voxel for each of level 0."""
MAX_EVENTS: Final = 100
_TAKING: Final = (Action.RESUMED, Action.TAKEN_OVER)
_OFFERING: Final = (Action.RELEASED, Action.RESUMED, Action.TAKEN_OVER, Action.ANNOTATED)
"""After these it is not set aside any more."""


class SampleState(enum.StrEnum):
    LEASED = "leased"
    ANNOTATED = "annotated"
    SKIPPED = "skipped"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Sample:
    """A region that is or was proposed.

    Attributes:
        sample_id: Within the project.
        project_id: Project.
        volume_id: Within the project.
        region: Level-0 voxels.
        state: What has become of it; ask `state_at` when time matters.
        strategy: What chose it.
        score: Larger was better; 0 for strategies without scores.
        rank: Place in its batch, from 1.
        model: models/{model} whose scores were used, or ''.
        score_layer: Name of the score map layer, or ''.
        score_downsampling: Level-0 voxels per voxel of that layer; WHOLE when it is not known.
        seed: Seed of the batch.
        lease: Present or, after its end, last lease.
        annotation: Name of the last annotation that answered it and holds, or ''.
        skip_reason: Why it was set aside, or ''.
        skipped_by: Who set it aside, or ''.
        notice: For the annotator, or ''.
        created_at: Unix time in s.
        term: Grows when a lease is taken over or given back; tokens of smaller ones are refused.
        flag: A question that waits for an answer.
        events: What happened, oldest first.
        wants_second: A second annotator is to get it, too.
        authors: How many annotators' annotations of it hold.
        dealt: The shares of the pool have chosen its strategy, not an annotator.
    """

    sample_id: str
    project_id: str
    volume_id: str
    region: Region
    state: SampleState
    strategy: str
    created_at: float
    score: float = 0.0
    rank: int = 1
    model: str = ""
    score_layer: str = ""
    seed: int = 0
    lease: Lease | None = None
    annotation: str = ""
    skip_reason: str = ""
    notice: str = ""
    skipped_by: str = ""
    term: int = 0
    flag: Flag | None = None
    events: tuple[Event, ...] = ()
    wants_second: bool = False
    authors: int = 0
    score_downsampling: Index = WHOLE
    dealt: bool = False

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/samples/{self.sample_id}"

    @property
    def volume(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.volume_id}"

    @property
    def score_region(self) -> Region | None:
        """What it touches of its score map layer, in voxels of that layer; None when its resolution is not known.

        Samples of before the resolution was kept do not know it; no score map is as fine as its volume.
        """
        if not self.score_layer or self.score_downsampling == WHOLE:
            return None
        low, high, factor = self.region.start, self.region.stop, self.score_downsampling
        start = (edge // cell for edge, cell in zip(low, factor, strict=True))
        return Region(
            Index(*start), Index(*(-(-edge // cell) for edge, cell in zip(high, factor, strict=True)))
        )

    @property
    def taken_at(self) -> float:
        """Unix time in s when its present or last holder took it; who prolongs a lease takes nothing."""
        holder = self.lease.holder if self.lease else ""
        again = (each.time for each in self.events if each.user == holder and each.action in _TAKING)
        return max(again, default=self.created_at)

    @property
    def set_aside_at(self) -> float:
        """Unix time in s since when it is skipped or asked about, and no candidate; 0 when that is not known."""
        since, is_skipped = 0.0, False
        for each in self.events:
            if each.action in (Action.SKIPPED, Action.FLAGGED):
                since = since or each.time
                is_skipped = is_skipped or each.action is Action.SKIPPED
            elif each.action in _OFFERING or (each.action is Action.UNFLAGGED and not is_skipped):
                since, is_skipped = 0.0, False
        return since

    def state_at(self, now: float) -> SampleState:
        """The state, with an expired lease read as none."""
        return self.lapsed().state if self.state is SampleState.LEASED and not self._held(now) else self.state

    def held_by(self, user: str, now: float) -> bool:
        """Whether `user` holds it; for a moment after expiry it is still theirs."""
        return self._held(now) and self.lease is not None and self.lease.holder == user

    def held_in(self, who: Claimant, now: float) -> bool:
        """Whether `who` holds it in the same window."""
        return self.held_by(who.user, now) and self.lease is not None and self.lease.session == who.session

    def hides_annotation_from(self, user: str, now: float) -> bool:
        """Whether `user` is annotating it a second time and must not be led by the first."""
        return self.held_by(user, now) and self.lease is not None and self.lease.purpose is Purpose.SECOND

    def _held(self, now: float) -> bool:
        return self.state is SampleState.LEASED and self.lease is not None and self.lease.blocks(now)

    def lapsed(self) -> Sample:
        """As it is without a lease, with the last one kept so that its holder may come back."""
        return replace(self, state=SampleState.ANNOTATED if self.annotation else SampleState.OPEN)

    def leased(self, who: Claimant, now: float, clocks: Clocks, purpose: Purpose) -> Sample:
        """Held by `who`; the caller has checked that it may be."""
        lease = Lease.begin(who, now, clocks, purpose)
        return replace(self, state=SampleState.LEASED, lease=lease, skip_reason="", skipped_by="")

    def renewed(self, user: str, now: float, clocks: Clocks, *, idle: bool = False) -> Sample:
        """Leased to `user` for longer; the caller has checked that nobody took the region.

        Raises:
            FailedPrecondition: LEASE_LOST unless `user` was its last holder; LEASE_IDLE when `idle`, and the user has
                done nothing for too long.
        """
        lease = self.lease
        if self.state is SampleState.SKIPPED or lease is None or lease.holder != user:
            raise self._lost(user)
        if idle and lease.is_idle(now, clocks):
            raise FailedPrecondition(
                "LEASE_IDLE",
                f"the lease of {self.name} ended {clocks.activity_s:g} s after you last did something; "
                "renew it with your next activity to go on",
                holder="",
            )
        return replace(self, state=SampleState.LEASED, lease=lease.renewed(now, clocks, idle=idle))

    def resumed(self, who: Claimant, now: float, clocks: Clocks) -> Sample:
        """Leased again, to go on or to correct; in this window, when the caller held it in another.

        Raises:
            FailedPrecondition: LEASE_LOST when somebody else holds it, SAMPLE_FLAGGED.
        """
        self._require_no_flag()
        if self.held_by(who.user, now) and self.lease is not None:
            moved = replace(self, lease=self.lease.moved(who, now))
            return moved.renewed(who.user, now, clocks)
        self._require_not_others(who.user, now)
        purpose = Purpose.CORRECT if self.annotation else Purpose.ANNOTATE
        return self.leased(who, now, clocks, purpose).noted(now, who.user, Action.RESUMED)

    def released(self, user: str, now: float) -> Sample:
        """Given back, whether it was held by `user` or set aside by anybody; an open one stays as it is.

        So who held it last may still come back, unless that is `user`, who does not want it any more.

        Raises:
            FailedPrecondition: LEASE_LOST when somebody else holds it, SAMPLE_ANNOTATED, SAMPLE_FLAGGED.
        """
        self._require_free_for(user, now)
        if self.state_at(now) is SampleState.OPEN and self.lease is not None and self.lease.holder != user:
            return self
        resting = replace(self._given_back(user, now).lapsed(), lease=None, skip_reason="", skipped_by="")
        return resting.noted(now, user, Action.RELEASED) if self.state is SampleState.SKIPPED else resting

    def skipped(self, user: str, now: float, reason: str) -> Sample:
        """Set aside by its holder, or by anybody while it is open; an annotated one is annotated as before.

        Raises:
            FailedPrecondition: LEASE_LOST when somebody else holds it, SAMPLE_ANNOTATED, SAMPLE_FLAGGED.
        """
        if self.state is SampleState.SKIPPED and self._was_last(user, Action.SKIPPED, reason):
            return self
        self._require_free_for(user, now)
        noted = replace(self._given_back(user, now), lease=None).noted(now, user, Action.SKIPPED, reason)
        if self.annotation:
            return replace(noted, state=SampleState.ANNOTATED, wants_second=False)
        return replace(noted, state=SampleState.SKIPPED, skip_reason=reason, skipped_by=user)

    def flagged(self, user: str, now: float, text: str) -> Sample:
        """With a question; its holder's lease ends, and one that is not annotated is set aside.

        Raises:
            FailedPrecondition: LEASE_LOST when somebody else holds it, SAMPLE_FLAGGED.
        """
        if self.flag is not None and self._was_last(user, Action.FLAGGED, text):
            return self
        self._require_no_flag()
        self._require_not_others(user, now)
        state = SampleState.ANNOTATED if self.annotation else SampleState.SKIPPED
        asked = replace(self._given_back(user, now), state=state, lease=None, flag=Flag(text, user, now))
        return asked.noted(now, user, Action.FLAGGED, text)

    def unflagged(self, user: str, now: float, answer: str) -> Sample:
        """With its question answered: as it was before.

        Raises:
            FailedPrecondition: NOT_FLAGGED.
        """
        if self.flag is None and self._was_last(user, Action.UNFLAGGED, answer):
            return self
        if self.flag is None:
            raise FailedPrecondition("NOT_FLAGGED", f"no question about {self.name} waits for an answer")
        was_skipped = self.state is SampleState.SKIPPED and self.skip_reason
        state = self.state if was_skipped or self.annotation else SampleState.OPEN
        return replace(self, state=state, flag=None).noted(now, user, Action.UNFLAGGED, answer)

    def announced(self, user: str, now: float) -> Sample:
        """About to be taken over: tokens from now on have a higher term.

        Raises:
            FailedPrecondition: NOT_HELD.
        """
        if not self._held(now):
            raise FailedPrecondition(
                "NOT_HELD", f"nobody holds {self.name}, it is {self.state_at(now)}; {user} may resume it"
            )
        return replace(self, term=self.term + 1)

    def taken_over(self, who: Claimant, now: float, clocks: Clocks, *, is_author: bool = False) -> Sample:
        """Held by `who` instead of its holder, with tokens of a higher term than any that the holder has got.

        For what it was held, but by the author of the first annotation to correct it: they cannot annotate it blindly.
        """
        assert self.lease is not None
        former, purpose = self.lease.holder, self.lease.purpose
        if purpose is Purpose.SECOND and is_author:
            purpose = Purpose.CORRECT
        taken = replace(self, term=self.term + 1).leased(who, now, clocks, purpose)
        return taken.noted(now, who.user, Action.TAKEN_OVER, former)

    def settled(self, annotation: str, authors: int, committed_by: str = "") -> Sample:
        """As the annotations that hold for it want it.

        Args:
            annotation: The last one, '' when none holds.
            authors: How many annotators they are of.
            committed_by: Who just made the last one; their lease ends with it. Anybody else's goes on: a sample may be
                reviewed while it is being corrected or annotated a second time.
        """
        now = replace(self, annotation=annotation, authors=authors)
        in_work = self.state is SampleState.LEASED and self.lease is not None
        if in_work and self.lease is not None and self.lease.holder != committed_by:
            return now
        if annotation:
            return replace(now, state=SampleState.ANNOTATED, lease=None, skip_reason="", skipped_by="")
        if self.state is SampleState.ANNOTATED:
            state = SampleState.SKIPPED if self.flag else SampleState.OPEN
            return replace(now, state=state, lease=None)
        return now

    def noted(self, time: float, user: str, action: Action, text: str = "") -> Sample:
        """With one more event; the oldest ones are forgotten."""
        return replace(self, events=(*self.events, Event(time, user, action, text))[-MAX_EVENTS:])

    def _given_back(self, user: str, now: float) -> Sample:
        """With a higher term when `user` holds it, so that the tokens that they got for it can be refused."""
        return replace(self, term=self.term + 1) if self.held_by(user, now) else self

    def _was_last(self, user: str, action: Action, text: str) -> bool:
        """Whether exactly this was done last: the same call again, whose answer was lost on its way."""
        last = self.events[-1] if self.events else None
        return last is not None and (last.user, last.action, last.text) == (user, action, text)

    def _require_free_for(self, user: str, now: float) -> None:
        self._require_no_flag()
        if self.state_at(now) is SampleState.ANNOTATED:
            raise FailedPrecondition(
                "SAMPLE_ANNOTATED",
                f"sample {self.name} is annotated already; revert {self.annotation}, or resume it",
            )
        self._require_not_others(user, now)

    def _require_not_others(self, user: str, now: float) -> None:
        if self._held(now) and not self.held_by(user, now):
            raise self._lost(user)

    def _require_no_flag(self) -> None:
        if self.flag is not None:
            raise FailedPrecondition(
                "SAMPLE_FLAGGED",
                f"{self.flag.user} asks about {self.name}: {self.flag.text!r}; answer with UnflagSample first",
            )

    def _lost(self, user: str) -> FailedPrecondition:
        lease = self.lease
        holder = lease.holder if lease is not None else ""
        held = f" and held by {lease.holder_text}" if lease is not None else ""
        taken = [each for each in self.events if each.action is Action.TAKEN_OVER]
        if taken and taken[-1].text == user and lease is not None and taken[-1].user == holder:
            return FailedPrecondition(
                "LEASE_LOST",
                f"{lease.holder_text} took {self.name} over from you; your drafts are yours still, and what you have "
                "can be committed as a region of your own choice, without the sample",
                holder=holder,
                taken_over="true",
            )
        way = "choose the region again"
        if self.state is SampleState.LEASED and holder not in ("", user):
            way = "ask a manager to take it over"
        elif self.state is SampleState.OPEN:
            held = f", last held by {lease.holder_text}" if lease is not None else ""
            way = "resume it, unless somebody took its region"
        return FailedPrecondition(
            "LEASE_LOST",
            f"sample {self.name} is {self.state.value}{held}; claim another one, or {way}",
            holder=holder,
        )
