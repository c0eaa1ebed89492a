"""From strokes on one slice to a network: where the pixel classifier is sure is a target to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.normalisation import normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw
from biosegment_trainer.learning.training import TrainingConfig, train
from biosegment_trainer.scribbles.segmentation import ScribbleSegmenter, confident

from benchmarks.stroke import paint
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region
from bundles.data import MITOCHONDRIA, Stack, epfl
from bundles.evaluation import predicted

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

NM, FACTOR = 10.0, 2
PAINTED, DRAFTED, OTHERS = 100, (60, 80, 120, 140), (20, 40, 160)
STROKES, SURE = 40, 0.6  # surer than that are hardly any pixels of the class on slices without strokes


def iou(labels, stack):
    found = labels == FIRST_CLASS
    return (found & stack.truth).sum() / (found | stack.truth).sum()


def at_voxels(labels, shape):
    return labels.repeat(FACTOR, 1).repeat(FACTOR, 2)[:, : shape[1], : shape[2]]


def joined(stacks):
    raw, truth = (np.concatenate([getattr(stack, name) for stack in stacks]) for name in ("raw", "truth"))
    return Stack("some slices", raw, truth, stacks[0].in_plane_nm)


def test_a_network_that_learned_from_a_draft_does_no_worse_on_other_slices(shared: Path):
    order = (PAINTED, *DRAFTED, *OTHERS)
    stack = joined([epfl("train", z, z + 1) for z in order])
    image = normalise(downsample_raw(stack.raw, FACTOR), stack.statistics)
    truth = np.where(stack.truth[0], np.uint8(FIRST_CLASS), np.uint8(BACKGROUND))
    segmenter = ScribbleSegmenter()

    def answer(strokes):
        return segmenter.segment("painted", image[:1], strokes[None]).labels[0]

    *_, (strokes, _) = paint(downsample_labels(truth[None], FACTOR)[0], answer, STROKES, 400 / NM, 40 / NM)
    painted = np.zeros(image.shape, np.uint8)
    painted[0] = strokes
    draft = segmenter.segment("all", image, painted, draft=True)
    seen = 1 + len(DRAFTED)
    target = at_voxels(confident(draft, SURE), stack.raw.shape)
    # As a client commits it: scribbles, 0 where it is not sure.
    annotations = [
        AnnotatedRegion(
            region_id=f"slice {z}",
            volume_id="train",
            region=(where := Region.of_shape((1, *stack.raw.shape[1:]), Index(order[z], 0, 0))),
            context=where,
            raw=stack.raw[z : z + 1],
            labels=target[z : z + 1],
            scope=frozenset({FIRST_CLASS}),
            statistics=stack.statistics[z : z + 1],
            factor=FACTOR,
        )
        for z in range(seen)
    ]
    trained = train(TrainingConfig(), annotations, None, classes=(MITOCHONDRIA,), seed=0)
    others = Stack("others", stack.raw[seen:], stack.truth[seen:], stack.in_plane_nm)
    by_strokes = iou(at_voxels(draft.labels, stack.raw.shape)[seen:], others)
    by_network = iou(predicted(trained.model, others), others)
    print(f"IoU on slices {OTHERS}: pixel classifier {by_strokes:.3f}, network {by_network:.3f}")
    assert by_strokes > 0.3
    assert by_network >= by_strokes
