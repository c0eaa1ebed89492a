"""Noticing a model that finds foreground, but in the wrong places.

Its scores look as they should, so that nothing in them tells (see `blindness` for scores that do). Annotations do: each
model is tested on those that came after it, before its child is trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from biosegment_sampler.domain.progress import ModelProgress, NewAgreement
from biosegment_sampler.domain.stopping import BLIND_IOU

_FEWEST: Final = 5
"""New annotations in which the model before sees a class; of fewer nothing is said."""
_QUANTILE: Final = 1.645
"""Of the normal distribution, one-sided 5 %: the agreement must be low beyond what chance explains."""


def misleading(model: ModelProgress) -> str:
    """Why the foreground of a model's line is not to be trusted, '' when nothing speaks against it.

    Args:
        model: The newest; its parent was tested on annotations that were new, and itself on those that were held out.
    """
    tested = [each for each in model.new_agreements if _saw_enough(each)]
    if not tested or not all(map(_is_low, tested)) or _has_learnt(model):
        return ""
    said = ", ".join(f"{each.class_name} {each.iou:.2f}" for each in tested)
    most = max(each.annotations for each in tested)
    return f"of {most} new annotations hardly anything was where the model before this one saw it (IoU of {said})"


def _saw_enough(agreement: NewAgreement) -> bool:
    """A parent that saw the class nowhere was blind, which says nothing of where its child sees it."""
    seen = agreement.annotations if agreement.seen is None else agreement.seen
    return min(seen, agreement.annotations) >= _FEWEST


def _is_low(agreement: NewAgreement) -> bool:
    return agreement.iou + _QUANTILE * (agreement.error or 0.0) < BLIND_IOU


def _has_learnt(model: ModelProgress) -> bool:
    """Whether the model itself finds something where it was held out; what was wrong with its parent is over then."""
    own: Sequence[float] = [mine for mine, _ in model.class_ious.values() if mine is not None]
    return any(iou >= BLIND_IOU for iou in own)
