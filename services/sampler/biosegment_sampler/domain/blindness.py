"""Noticing a model whose scores say nothing.

A model that was trained without foreground answers 'background' everywhere; its uncertainty is then nearly nothing
everywhere, and a strategy that follows it proposes background for ever.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FOREGROUND_MEASURE: Final = "class_probability"
"""Scored besides what the strategies need, because it is what tells 'finds nothing' from 'is sure'."""
MIN_FOREGROUND: Final = 0.15
"""The cell that is most foreground is so by at least so much, when a model finds anything.

A model that only knows how frequent the class is answers with that, a few per cent, everywhere.
"""
MIN_SCORE: Final = 1e-3
MIN_SPREAD: Final = 1e-4


def blindness(scores: NDArray[np.float32], foreground_peak: float | None) -> str:
    """Why these scores cannot rank anything; '' when they can.

    Args:
        scores: Of the windows, NaN where not scored.
        foreground_peak: Largest foreground probability of any cell, None when it was not scored.
    """
    known = np.isfinite(scores)
    count = np.count_nonzero(known)
    if not count:
        return "the scores of the model hold no numbers"
    if foreground_peak is not None and foreground_peak < MIN_FOREGROUND:
        return "the model finds no foreground anywhere"
    highest = float(scores.max(where=known, initial=-np.inf))
    if highest < MIN_SCORE:
        return "the model is sure of everything, most likely because it finds no foreground"
    # A single window has no spread, and nothing to be ranked against.
    if count > 1 and highest - float(scores.min(where=known, initial=np.inf)) < MIN_SPREAD:
        return "the scores of the model are the same everywhere"
    return ""
