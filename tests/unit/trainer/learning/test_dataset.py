from __future__ import annotations

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.dataset import AnnotatedRegion, PatchSampler, training_parts
from biosegment_trainer.learning.network import LabelClass, NetworkConfig

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region

FLAT = NetworkConfig()
NEIGHBOURS = NetworkConfig(input_slices=3)
VOLUME = NetworkConfig(spatial_dims=3)


@pytest.fixture
def aligned(tissue):
    """Contexts start at even voxels, whatever the region."""

    def annotate(region: Region, **changes):
        context = region.padded((0, 32, 32), Region.of_shape(tissue.raw.shape))
        start = Index(context.start.z, context.start.y // 2 * 2, context.start.x // 2 * 2)
        context = Region(start, context.stop)
        return tissue.annotate(region, context=context, raw=tissue.raw[context.slices], **changes)

    return annotate


def test_labels_lie_on_the_image_where_they_were_drawn(aligned, disc):
    region = Region(Index(2, 65, 33), Index(4, 141, 120))
    slices = training_parts([aligned(region)], [disc], FLAT)
    assert len(slices) == 2
    part = slices[0]
    top, left = 32, 0  # where the context starts: 65 - 32 and 33 - 32, aligned
    assert part.image.shape == part.labels.shape
    annotated = np.argwhere(part.labels[0])
    assert annotated.min(0).tolist() == [(65 - top) // 2, (33 - left) // 2]
    # The discs are dark: labels and image agree only if neither was moved.
    assert part.image[part.labels == 2].mean() < part.image[part.labels == 1].mean() - 0.5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scope": frozenset({3})}, "UNKNOWN_CLASS"),
        ({"factor": 3}, "BAD_CONTEXT"),
        ({"context": Region(Index(0, 0, 0), Index(1, 64, 64))}, "BAD_CONTEXT"),
        ({"labels": np.ones((1, 8, 8), np.uint8)}, "BAD_SHAPE"),
        ({"labels": np.ones((1, 128, 128), np.int64)}, "BAD_LABELS"),
    ],
)
def test_an_annotation_that_contradicts_itself_is_refused(tissue, changes, reason):
    region = Region.of_shape((1, 128, 128), (0, 64, 64))
    with pytest.raises(InvalidArgument) as caught:
        tissue.annotate(region, **changes)
    assert caught.value.reason == reason


def sampler_of(
    annotations: list[AnnotatedRegion], disc: LabelClass, share: float, patch: int = 48
) -> PatchSampler:
    return PatchSampler(training_parts(annotations, [disc], FLAT), (patch, patch), share)


def test_the_same_seed_draws_the_same_patches_and_another_one_does_not(annotations, disc):
    sampler = sampler_of(annotations, disc, 0.5)
    first, again, other = (sampler.draw(6, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)


def test_a_larger_foreground_share_shows_more_foreground(annotations, disc):
    def foreground(share: float) -> float:
        labels = sampler_of(annotations, disc, share, 16).draw(300, np.random.default_rng(0)).labels
        return (labels == 2).float().mean().item()

    assert foreground(1.0) > 1.5 * foreground(0.0)


def test_every_patch_holds_annotated_pixels_and_its_record_s_scope(tissue, annotations, disc):
    blind = tissue.annotate(
        Region.of_shape((1, 64, 64), (0, 0, 0)), scope=frozenset({9}), labels=np.ones((1, 64, 64), np.uint8)
    )
    batch = sampler_of([*annotations, blind], disc, 0.3).draw(200, np.random.default_rng(3))
    assert batch.images.shape == (200, 1, 48, 48)
    assert (batch.labels.flatten(1) > 0).any(1).all()
    assert batch.scope[:, 0].all()
    assert set(batch.scope[:, 1].tolist()) == {True, False}


def test_a_context_smaller_than_the_patch_is_mirrored_without_claiming_labels(tissue, disc):
    region = Region.of_shape((1, 32, 32), (0, 0, 0))
    small = tissue.annotate(region, context=region, raw=tissue.raw[region.slices])
    batch = sampler_of([small], disc, 0.0, 48).draw(4, np.random.default_rng(0))
    assert batch.images.shape == (4, 1, 48, 48)
    assert ((batch.labels > 0).flatten(1).sum(1) == 16 * 16).all()
    assert torch.equal(batch.images[0, 0, :16, 16:32], batch.images[0, 0, :16, :16].flip(1))


def deep(tissue, region: Region, margin: int) -> AnnotatedRegion:
    """With slices before and after the annotation."""
    context = region.padded((margin, 0, 0), Region.of_shape(tissue.raw.shape))
    return tissue.annotate(
        region,
        context=context,
        raw=tissue.raw[context.slices],
        statistics=tissue.statistics[context.start.z : context.stop.z],
    )


def test_a_network_of_several_slices_sees_the_neighbours_and_is_asked_about_the_centre(tissue, disc):
    region = deep(tissue, Region.of_shape((1, 64, 64), (4, 0, 0)), 1)
    (part,) = training_parts([region], [disc], NEIGHBOURS)
    assert part.image.shape == (3, 32, 32)
    whole = training_parts([tissue.annotate(Region.of_shape((8, 64, 64)))], [disc], FLAT)
    for image, z in zip(part.image, (3, 4, 5), strict=True):
        assert np.array_equal(image, whole[z].image[0, :32, :32])
    assert np.array_equal(part.labels, whole[4].labels[:, :32, :32])
    batch = PatchSampler([part], (16, 16), 0.5).draw(5, np.random.default_rng(0))
    assert batch.images.shape == (5, 3, 16, 16)
    assert batch.labels.shape == (5, 16, 16)
    # At the volume's border the neighbour that is not there is a mirror image.
    (border,) = training_parts([deep(tissue, Region.of_shape((1, 64, 64)), 1)], [disc], NEIGHBOURS)
    assert np.array_equal(border.image[0], border.image[1])
    assert not np.array_equal(border.image[2], border.image[1])


def test_patches_of_a_volume_have_labels_in_every_annotated_slice(tissue, disc):
    region = deep(tissue, Region.of_shape((4, 64, 64), (2, 0, 0)), 2)
    (part,) = training_parts([region], [disc], VOLUME)
    assert part.image.shape == part.labels.shape == (8, 32, 32)
    assert part.labels.any((1, 2)).tolist() == [False] * 2 + [True] * 4 + [False] * 2
    batch = PatchSampler([part], (4, 16, 16), 0.5).draw(20, np.random.default_rng(0))
    assert batch.images.shape == (20, 1, 4, 16, 16)
    assert batch.labels.shape == (20, 4, 16, 16)
    assert (batch.labels > 0).flatten(1).any(1).all()
    shallow = PatchSampler([part], (16, 16, 16), 0.5).draw(1, np.random.default_rng(0))
    assert shallow.images.shape == (1, 1, 16, 16, 16)
    assert not shallow.labels[0, 8:].any()


def test_a_rare_class_is_in_as_many_foreground_patches_as_a_frequent_one(tissue, disc):
    region = Region.of_shape((1, 256, 256))
    labels = tissue.labels[region.slices].copy()
    labels[0, 200:204, 200:204] = 3
    rare = LabelClass(3, "rare")
    annotation = tissue.annotate(region, labels=labels, scope=frozenset({2, 3}))
    parts = training_parts([annotation], [disc, rare], FLAT)
    labels = PatchSampler(parts, (16, 16), 1.0).draw(300, np.random.default_rng(0)).labels
    assert 0.4 < (labels == 3).flatten(1).any(1).float().mean() < 0.7


def test_nothing_annotated_is_an_error(tissue, disc):
    region = Region.of_shape((1, 32, 32), (0, 0, 0))
    empty = tissue.annotate(region, labels=np.zeros((1, 32, 32), np.uint8))
    with pytest.raises(InvalidArgument, match="annotate at least one"):
        sampler_of([empty], disc, 0.5)
