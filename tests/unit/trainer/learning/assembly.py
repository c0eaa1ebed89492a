"""Volumes put together from predicted blocks, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from biosegment_trainer.learning.measures import MEASURES
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.prediction import Prediction, PredictionConfig, Predictor
from biosegment_trainer.learning.resolution import downsample_raw
from numpy.typing import NDArray

from biosegment.volume import BlockGrid, Index, Region


def assembled(
    models: NetworkModel | Sequence[NetworkModel],
    raw: NDArray[Any],
    block: tuple[int, int, int],
    config: PredictionConfig,
    make: Callable[..., Predictor] = Predictor,
) -> Prediction:
    """The volume put together from blocks of `block` voxels, every one of its values written once."""
    shape, f = Index(*raw.shape), config.factor
    classes = len(models.classes if isinstance(models, NetworkModel) else models[0].classes)
    small = (shape.z, -(-shape.y // f), -(-shape.x // f))
    cells = (shape.z, -(-small[1] // 16), -(-small[2] // 16))
    whole = Prediction(
        Region.of_shape(shape),
        np.zeros((classes, *small), np.uint8),
        np.zeros(shape, np.uint8) if config.with_labels else None,
        {
            name: np.full((*cells[:2], cells[2] * MEASURES[name].channels(classes)), np.nan, np.float16)
            for name in config.measures
        },
    )
    predictor, statistics = make(models, config, "cpu"), SliceStatistics.of_slices(raw)
    for region in BlockGrid(shape, Index(*block)):
        surroundings = predictor.reads(region, shape)

        def read(asked: Region, allowed: Region = surroundings) -> NDArray[Any]:
            assert allowed.contains(asked)
            return raw[asked.slices]

        expected_z = region.start.z
        for part in predictor.predict(read, region, shape, statistics):
            z, y, x = part.region.start
            assert z == expected_z
            expected_z = part.region.stop.z
            at = (slice(z, z + part.region.shape.z), y // f, x // f)
            _, _, h, w = part.probabilities.shape
            whole.probabilities[:, at[0], at[1] : at[1] + h, at[2] : at[2] + w] = part.probabilities
            if whole.labels is not None:
                assert part.labels is not None
                whole.labels[part.region.slices] = part.labels
            for name, score in part.scores.items():
                channels = MEASURES[name].channels(classes)
                cy, cx = at[1] // 16, at[2] // 16 * channels
                whole.scores[name][at[0], cy : cy + score.shape[1], cx : cx + score.shape[2]] = score
        assert expected_z == region.stop.z
    assert all(np.isfinite(score).all() for score in whole.scores.values())
    return whole


def one_pass(model: NetworkModel, raw: NDArray[Any], factor: int) -> torch.Tensor:
    """Probabilities (z, 1 + C, y, x) of whole slices, or of the whole volume with a 3D network, without any of the
    code under test but the resampling.
    """
    image = normalise(downsample_raw(raw, factor), SliceStatistics.of_slices(raw))
    strides = model.network.stride
    pads = [(s, s + -n % s) for n, s in zip(image.shape, strides, strict=True)]
    if model.network.spatial_dims == 2:
        pads[0] = (model.network.input_slices // 2,) * 2
    padded = torch.from_numpy(np.pad(image, pads, mode="symmetric"))
    inner = [slice(before, before + n) for (before, _), n in zip(pads, image.shape, strict=True)]
    module = model.build()
    with torch.inference_mode():
        if model.network.spatial_dims == 3:
            return torch.softmax(module(padded[None, None]), 1)[0][:, *inner].transpose(0, 1)
        stacked = padded.unfold(0, model.network.input_slices, 1).permute(0, 3, 1, 2)
        return torch.softmax(module(stacked), 1)[:, :, inner[1], inner[2]]
