"""Requests for a segmentation that cannot be, each with the error that says so."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from biosegment.errors import (
    BiosegmentError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from biosegment.volume import Region
from tests.rpc.trainer.desk import BALLS, CENTRES, sent


def broken() -> list[tuple[str, dict[str, Any], type[BiosegmentError], str]]:
    click, ones = ((CENTRES[0], True),), np.ones(BALLS, np.uint8)
    inside = {"clicks": click}
    bomb = zlib.compress(bytes(1 << 26))
    stroke = np.zeros(BALLS, np.uint8)
    stroke[6, 4] = 2
    return [
        ("no prompt", {}, InvalidArgument, "NO_PROMPT"),
        ("outside of the volume", {"clicks": (((6, 96, 3), True),)}, InvalidArgument, "PROMPT_OUTSIDE"),
        ("before the volume", {"clicks": (((6, -1, 3), True),)}, InvalidArgument, "PROMPT_OUTSIDE"),
        ("outside of the region", {**inside, "region": Region((0, 50, 50), (12, 90, 90))},
         InvalidArgument, "PROMPT_OUTSIDE"),
        ("region outside", {"clicks": (((6, 90, 90), True),), "region": Region((0, 50, 50), (12, 97, 96))},
         InvalidArgument, "REGION_OUT_OF_BOUNDS"),
        ("region too large", {**inside, "region": Region((0, 0, 0), (5, 300, 300))},
         ResourceExhausted, "REGION_TOO_LARGE"),
        ("endless region", {**inside, "region": Region((0, 0, 0), (1 << 60, 1 << 60, 1 << 60))},
         ResourceExhausted, "REGION_TOO_LARGE"),
        ("no class", {**inside, "class_value": 0}, InvalidArgument, "UNKNOWN_CLASS"),
        ("background", {**inside, "class_value": 1}, InvalidArgument, "UNKNOWN_CLASS"),
        ("class of nobody", {**inside, "class_value": 9}, InvalidArgument, "UNKNOWN_CLASS"),
        ("huge class", {**inside, "class_value": 4_000_000_000}, InvalidArgument, "UNKNOWN_CLASS"),
        ("stroke of no class", {"scribbles": stroke * 4}, InvalidArgument, "UNKNOWN_CLASS"),
        ("strokes of one class", {"scribbles": stroke}, InvalidArgument, "NEED_TWO_CLASSES"),
        ("no stroke", {"scribbles": stroke * 0}, InvalidArgument, "NO_PROMPT"),
        ("mask too small", {**inside, "previous": ones[1:]}, InvalidArgument, "BAD_MASK"),
        ("mask of 2", {**inside, "previous": ones * 2}, InvalidArgument, "BAD_MASK"),
        ("mask not packed", {**inside, "previous_mask": b"no zlib"}, InvalidArgument, "BAD_MASK"),
        ("mask cut", {**inside, "previous_mask": sent(ones)[:-9]}, InvalidArgument, "BAD_MASK"),
        ("mask with more behind", {**inside, "previous_mask": sent(ones) + b"x"}, InvalidArgument, "BAD_MASK"),
        ("mask that explodes", {**inside, "previous_mask": bomb}, InvalidArgument, "BAD_MASK"),
        ("strokes that explode", {"scribbles_data": bomb}, InvalidArgument, "BAD_SCRIBBLES"),
        ("too many clicks", {"clicks": click * 1001}, ResourceExhausted, "TOO_MANY_CLICKS"),
        ("level that is not there", {**inside, "level": 1}, InvalidArgument, "UNKNOWN_LEVEL"),
        ("level below 0", {**inside, "level": -1}, InvalidArgument, "UNKNOWN_LEVEL"),
        ("no such plane", {**inside, "plane": 7}, InvalidArgument, "BAD_PLANE"),
        ("unknown model", {**inside, "model": "models/none"}, NotFound, "MODEL_NOT_FOUND"),
        ("no model's name", {**inside, "model": "mitochondria"}, InvalidArgument, "BAD_NAME"),
        ("layer of another volume", {**inside, "base_layer": "projects/em/volumes/wide/layers/a"},
         InvalidArgument, "BAD_BASE"),
        ("no such layer", {**inside, "base_layer": "projects/em/volumes/balls/layers/none"},
         NotFound, "LAYER_NOT_FOUND"),
        ("base of the past", {**inside, "base_sequence": -3}, InvalidArgument, "BAD_BASE"),
        ("no features to be had", {"scribbles": stroke, "network_features": True},
         FailedPrecondition, "NO_SHIPPED_MODEL"),
    ]  # fmt: skip
