"""Why a claim got fewer samples than it asked for, and what the annotator can do now."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Suggestion(enum.StrEnum):
    CLAIM_AGAIN = "claim_again"
    REVIEW = "review"
    ANSWER_FLAGS = "answer_flags"
    RELEASE_SKIPPED = "release_skipped"
    OTHER_WINDOW = "other_window"
    WAIT = "wait"
    CHOOSE_REGION = "choose_region"
    WIDEN_POOL = "widen_pool"
    ADD_VOLUME = "add_volume"


@dataclass(frozen=True, slots=True)
class Counts:
    """What stands in the way.

    Attributes:
        held: Samples by who holds them.
        skipped: Samples that were set aside, without those with a question.
        flagged: Samples with a question.
        awaiting_review: Annotations that nobody has reviewed and nobody reviews now.
        reviewable: Of those, the ones of others than the caller.
        annotations: Annotations that hold.
    """

    held: Mapping[str, int] = field(default_factory=dict, hash=False)
    skipped: int = 0
    flagged: int = 0
    awaiting_review: int = 0
    reviewable: int = 0
    annotations: int = 0


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """The end of a pool as one annotator finds it.

    Attributes:
        counts: What stands in the way.
        user: Who asked.
        may_review: They have the permission.
        excluded: Regions that the pool's settings exclude.
        limited: The pool takes only some of the project's volumes, or the claim did.
        has_new: The claim got new samples, and a batch leaves out what lies too near to its samples: there may be more.
        in_hand: Samples that the claim got or keeps: what they hold besides is in another window.
    """

    counts: Counts
    user: str
    may_review: bool
    excluded: int
    limited: bool
    has_new: bool = False
    in_hand: int = 0

    @property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """What they can do, the nearest first; never empty."""
        counts = self.counts
        possible = {
            Suggestion.CLAIM_AGAIN: self.has_new,
            Suggestion.REVIEW: self.may_review and counts.reviewable > 0,
            Suggestion.OTHER_WINDOW: counts.held.get(self.user, 0) > self.in_hand,
            Suggestion.ANSWER_FLAGS: counts.flagged > 0,
            Suggestion.RELEASE_SKIPPED: counts.skipped > 0,
            Suggestion.WAIT: any(user != self.user for user in counts.held),
            Suggestion.CHOOSE_REGION: True,
            Suggestion.WIDEN_POOL: self.excluded > 0 or self.limited,
            Suggestion.ADD_VOLUME: True,
        }
        return tuple(suggestion for suggestion, is_possible in possible.items() if is_possible)

    def notice(self, found: int, wanted: int) -> str:
        """For people, one line."""
        counts = self.counts
        holders = ", ".join(f"{user} {count}" for user, count in sorted(counts.held.items()))
        facts = [
            f"{counts.annotations} annotated" if counts.annotations else "",
            f"{sum(counts.held.values())} held ({holders})" if holders else "",
            f"{counts.skipped} skipped" if counts.skipped else "",
            f"{counts.flagged} flagged" if counts.flagged else "",
            f"{counts.awaiting_review} to be reviewed" if counts.awaiting_review else "",
            f"{self.excluded} excluded" if self.excluded else "",
        ]
        state = ", ".join(fact for fact in facts if fact) or "no candidate"
        ways = [_WAYS[suggestion].format(counts=counts) for suggestion in self.suggestions]
        end = (
            "what else is left, if anything, lies too near to these"
            if self.has_new
            else "the pool has no more"
        )
        return f"{found} of {wanted} samples: {end} ({state}). You can {'; '.join(ways)}."


_WAYS = {
    Suggestion.CLAIM_AGAIN: "claim again when these are done",
    Suggestion.REVIEW: "review {counts.reviewable} of others",
    Suggestion.OTHER_WINDOW: "go on in your other window, or resume its samples here",
    Suggestion.ANSWER_FLAGS: "answer what is flagged",
    Suggestion.RELEASE_SKIPPED: "release skipped samples",
    Suggestion.WAIT: "wait for what others hold",
    Suggestion.CHOOSE_REGION: "choose a region of your own",
    Suggestion.WIDEN_POOL: "have the pool's settings widened",
    Suggestion.ADD_VOLUME: "have a volume added",
}
