"""A second target needs no other code: mitochondria and membranes of real tissue, each from its own records."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw
from biosegment_trainer.learning.training import TrainingConfig, train

from biosegment.volume import Region

MITOCHONDRIA, MEMBRANES = LabelClass(2, "mitochondria"), LabelClass(3, "membranes")
FACTOR = 2
TRAINING, TEST = slice(0, 6), slice(10, 12)
EDGE = 512


@pytest.mark.system
@pytest.mark.timeout(600)
def test_mitochondria_and_membranes_are_learned_together(shared):
    folder = shared / "data" / "vnc"
    raw = tifffile.imread(folder / "raw.tif")[:, :EDGE, :EDGE]
    truth = {
        MITOCHONDRIA: tifffile.imread(folder / "mito.tif")[:, :EDGE, :EDGE] > 0,
        MEMBRANES: tifffile.imread(folder / "membranes.tif")[:, :EDGE, :EDGE] > 0,
    }
    statistics = SliceStatistics.of_slices(raw)

    def record(target: LabelClass) -> AnnotatedRegion:
        """An annotator who looked for one class alone."""
        region = Region.of_shape(raw[TRAINING].shape)
        return AnnotatedRegion(
            region_id=target.name,
            volume_id="vnc",
            region=region,
            context=region,
            raw=raw[TRAINING],
            labels=np.where(truth[target][TRAINING], np.uint8(target.value), np.uint8(1)),
            scope=frozenset({target.value}),
            statistics=statistics[TRAINING],
            factor=FACTOR,
        )

    config = TrainingConfig(
        network=NetworkConfig.unet((16, 32, 64, 128), (2, 2, 2), 2), steps=150, learning_rate=3e-3
    )
    classes = [MITOCHONDRIA, MEMBRANES]
    model = train(config, [record(c) for c in classes], None, classes=classes, seed=0, device="cpu").model

    image = normalise(downsample_raw(raw[TEST], FACTOR), statistics[TEST])
    with torch.inference_mode():
        answer = model.build()(torch.from_numpy(image)[:, None]).argmax(1).numpy()
    found = np.array(model.label_values, np.uint8)[answer]
    for target in classes:
        confusion = Confusion((target,))
        full = np.where(truth[target][TEST], np.uint8(target.value), np.uint8(1))
        confusion.add(downsample_labels(full, FACTOR), found)
        assert confusion.iou(target.value) > 0.25, target.name
