"""The pictures that the demo leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

_BLUE, _ORANGE, _GREEN, _RED = "#1f6fb4", "#e07b00", "#2a9d5c", "#d1495b"


def learning_curve(patches: Sequence[int], iou: Sequence[float], title: str, path: Path) -> None:
    """Draw IoU on the held-out part against annotated patches."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=150)
    axes.plot(patches, iou, "o-", color=_BLUE, lw=2)
    for x, y in zip(patches, iou, strict=True):
        axes.annotate(f"{y:.2f}", (x, y), textcoords="offset points", xytext=(0, 8), ha="center", fontsize=8)
    axes.set(xlabel="annotated patches", ylabel="IoU on the held-out slices", title=title, ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def overlay(
    raw: NDArray[Any], truth: NDArray[np.bool_], prediction: NDArray[np.bool_], title: str, path: Path
) -> None:
    """Draw a slice, and beside it where prediction and truth agree, miss and exceed.

    Args:
        raw: (y, x) grey values.
        truth: (y, x).
        prediction: (y, x).
        title: Above the pictures.
        path: PNG file to write.
    """
    height, width = raw.shape
    low, high = np.percentile(raw, (0.5, 99.5))
    grey = np.clip((raw.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    colored = np.repeat(grey[..., None], 3, axis=2)
    for mask, color in (
        (truth & prediction, _GREEN),
        (truth & ~prediction, _ORANGE),
        (prediction & ~truth, _RED),
    ):
        colored[mask] = 0.45 * colored[mask] + 0.55 * np.array(matplotlib.colors.to_rgb(color), np.float32)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6 * height / width + 0.9), dpi=110)
    left.imshow(grey, cmap="gray", vmin=0, vmax=1)
    left.set_title("raw", fontsize=10)
    right.imshow(colored)
    right.set_title("green: found   orange: missed   red: wrong", fontsize=10)
    for axes in (left, right):
        axes.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
