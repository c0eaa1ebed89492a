"""Files of labels that become annotations or drafts, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument

LabelsArgument = Annotated[
    Path, typer.Argument(help="Labels as .npy or .tif: 0 not annotated, 1 background, 2.. classes.")
]
KindOption = Annotated[str, typer.Option(help="dense, scribbles or instances.")]
ClassOption = Annotated[
    list[int] | None, typer.Option("--class", help="Value of a class that was looked for; repeatable.")
]
CommentOption = Annotated[str, typer.Option(help="For people.")]


def read_labels(path: Path, kind: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Read a file of labels.

    Args:
        path: A NumPy or TIFF file.
        kind: dense, scribbles or instances.

    Returns:
        (z, y, x): uint32 ids for instances, else uint8.
    """
    if path.suffix == ".npy":
        labels = np.load(path, allow_pickle=False)
    elif path.suffix in (".tif", ".tiff"):
        from tifffile import imread

        labels = imread(path)
    else:
        raise InvalidArgument("BAD_LABELS_FILE", f"{path} is neither a NumPy (.npy) nor a TIFF (.tif) file")
    labels = labels[None] if labels.ndim == 2 else labels
    data_type = np.uint32 if kind == "instances" else np.uint8
    if (
        labels.dtype.kind not in "ui"
        or labels.ndim != 3
        or labels.min() < 0
        or labels.max() > np.iinfo(data_type).max
    ):
        raise InvalidArgument(
            "BAD_LABELS_FILE",
            f"{path} holds {labels.dtype} {labels.shape}; labels are (z, y, x) or (y, x) with 0 not annotated, "
            "1 background, 2.. classes, or ids of instances up to 4294967295",
        )
    return np.asarray(labels, np.uint32) if kind == "instances" else np.asarray(labels, np.uint8)
