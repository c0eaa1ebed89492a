"""A model is tested on annotations that are new to it before it is trained on them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.agreement import Agreement, ClassAgreement, agreement, pooled
from biosegment_trainer.learning.dataset import training_parts
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.optimisation import Run
from biosegment_trainer.learning.selection import HeldOut
from biosegment_trainer.learning.training import TrainingConfig
from biosegment_trainer.learning.validation import ValidationConfig
from hypothesis import given
from hypothesis import strategies as st

CONFIG = TrainingConfig(network=NetworkConfig.unet((4, 8), (2,), 1), patch_size=32)
COUNTS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda pair: (min(pair), sum(pair))),
    max_size=30,
)


def test_regions_are_pooled_by_voxels_and_doubted_by_leaving_each_out():
    # Without the first 2 of 10 are left, without the second 8 of 10.
    found = pooled([(8, 10), (0, 0), (2, 10)])
    assert found == ClassAgreement(0.5, pytest.approx(0.3), 2)
    # A speck beside a field: the mean of ratios would be 0.5. Leaving out the field leaves nothing: a large doubt.
    assert pooled([(0, 1), (99, 99)]) == ClassAgreement(0.99, pytest.approx(0.5), 2)
    assert pooled([(3, 4)]) == ClassAgreement(0.75, None, 1)
    assert pooled([(0, 0)]) is None


@given(COUNTS)
def test_a_pooled_agreement_is_a_share_whose_doubt_is_that_of_the_jackknife(counts):
    found = pooled(counts)
    present = [np.array(pair) for pair in counts if pair[1]]
    if found is None:
        assert not present
        return
    assert 0 <= found.iou <= 1
    assert found.regions == len(present)
    if found.error is None:
        assert len(present) == 1
        return
    total, count = sum(present), len(present)
    # Pseudo-values, as Tukey defined them: their standard error is the jackknife's.
    without = [(total - one)[0] / (total - one)[1] for one in present]
    pseudo = [count * found.iou - (count - 1) * ratio for ratio in without]
    assert found.error == pytest.approx(np.std(pseudo, ddof=1) / np.sqrt(count), abs=1e-9)


def test_the_agreement_is_that_of_the_model_s_own_answers(annotations, disc, make_model):
    model = make_model(CONFIG.network)
    state = torch.random.get_rng_state()
    found = agreement(model, annotations, classes=[disc], config=CONFIG, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    run = Run(CONFIG, model, (disc,), 0, torch.device("cpu"))
    counts, seen = [], 0
    for annotation in annotations:
        parts = training_parts([annotation], [disc], model.network)
        held = HeldOut(parts, [disc], model.network, 1 << 30).measure(run)
        counts.append((held.both[2], held.truth[2] + held.predicted[2] - held.both[2]))
        seen += held.predicted[2] > 0
    pooled_counts = pooled(counts)
    assert pooled_counts is not None
    assert found.classes == {"disc": dataclasses.replace(pooled_counts, seen=seen)}
    assert found.regions == len(annotations)
    assert found.voxels == sum(int((a.labels > 0).sum()) // a.factor**2 for a in annotations)


def test_no_more_is_computed_than_a_validation_may(annotations, disc, make_model):
    few = dataclasses.replace(CONFIG, validation=ValidationConfig(max_voxels=3 * 64 * 64))
    model = make_model(CONFIG.network)
    found = agreement(model, annotations, classes=[disc], config=few, device="cpu")
    assert 1 <= found.regions < len(annotations)
    assert found.classes["disc"].regions <= found.regions


def test_only_classes_that_the_model_knows_and_the_annotator_looked_for_are_compared(
    tissue, annotations, disc, make_model
):
    sheet = LabelClass(3, "sheet")
    model = make_model(CONFIG.network, (LabelClass(9, "DISC"), LabelClass(0, "vessel")))
    both = agreement(model, annotations, classes=[sheet, disc], config=CONFIG, device="cpu")
    assert set(both.classes) == {"disc"}
    strange = agreement(model, annotations, classes=[sheet], config=CONFIG, device="cpu")
    assert strange == Agreement({}, 0, 0)
    region = annotations[0].region
    blank = np.ones(region.shape, np.uint8)
    elsewhere = tissue.annotate(region, labels=blank, scope=frozenset({3}))
    none = agreement(model, [elsewhere], classes=[sheet, disc], config=CONFIG, device="cpu")
    assert none == Agreement({}, 0, 0)
    assert agreement(model, [], classes=[disc], config=CONFIG) == Agreement({}, 0, 0)
    pretrained = make_model(CONFIG.network, ())
    assert agreement(pretrained, annotations, classes=[disc], config=CONFIG) == Agreement({}, 0, 0)
