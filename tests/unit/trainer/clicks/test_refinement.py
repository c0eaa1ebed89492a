"""Clicks on masks: what they may change, that they count, and how far an object is followed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.clicks.model import CROP_PX, ClickModel, build, network_def
from biosegment_trainer.learning.clicks.refinement import Click, refine

from biosegment.errors import InvalidArgument


class Bright(ClickModel):
    """Takes every bright pixel for foreground, whatever the mask and the clicks say."""

    def foreground(self, image, previous, positive=(), negative=()):
        return np.where(image > 0, np.float32(0.9), np.float32(0.1))


class Trusting(ClickModel):
    """Believes whoever clicks, and else what it is shown: it never sees an end by itself."""

    def foreground(self, image, previous, positive=(), negative=()):
        if negative:
            return np.full(image.shape, np.float32(0.1))
        return np.where(image > 0 if positive else previous, np.float32(0.9), np.float32(0.1))


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return build(network_def()).state_dict()


@pytest.fixture(scope="module")
def model(weights):
    """The real network, with weights that know nothing: what holds for it holds for all."""
    return ClickModel("untrained", 10.0, network_def(), weights, "cpu")


@pytest.fixture(scope="module")
def bright(weights):
    return Bright("bright", 10.0, network_def(), weights, "cpu")


@pytest.fixture
def image():
    return np.random.default_rng(0).standard_normal((3, 400, 700), np.float32)


@pytest.fixture
def mask():
    found = np.zeros((3, 400, 700), np.uint8)
    found[:, 60:120, 40:600] = 1
    found[:, 300:330, 300:330] = 1
    return found


def test_nothing_outside_of_a_crop_around_the_click_changes(model, image, mask):
    result = refine(model, image, mask, [Click((1, 90, 350), True)])
    z, y, x = result.changed
    assert (z, y, x) == (slice(1, 2), slice(0, CROP_PX), slice(350 - 128, 350 + 128))
    outside = np.ones(mask.shape, bool)
    outside[result.changed] = False
    assert np.array_equal(result.mask[outside], mask[outside])
    assert (result.mask != mask).any()
    assert np.array_equal(result.probability[outside], 255 * mask[outside])


def test_objects_that_were_not_clicked_on_stay(bright, image, mask):
    bright_image = np.where(mask > 0, np.float32(-1), np.float32(1))
    bright_image[1, 100:380, 340:360] = -1
    result = refine(bright, bright_image, mask, [Click((1, 315, 315), False)])
    assert not result.mask[1, 300:330, 300:330][:, :30].any()
    assert np.all(result.mask[1, 60:120, 40:600])  # the long one was not meant


@pytest.mark.parametrize("is_positive", [True, False])
def test_a_click_counts_whatever_the_network_says(model, bright, image, mask, is_positive):
    rng = np.random.default_rng(1)
    for used in (model, bright):
        clicks = [Click((1, int(y), int(x)), is_positive) for y, x in rng.integers(0, 250, (4, 2))]
        result = refine(used, image, mask, clicks)
        for click in clicks:
            assert bool(result.mask[click.position]) is is_positive
            assert (result.probability[click.position] >= 128) is np.bool_(is_positive)


def test_contrary_clicks_beside_each_other_both_count_and_on_one_voxel_the_last(model, image, mask):
    beside = [Click((0, 200, 200), True), Click((0, 200, 201), False)]
    result = refine(model, image, mask, [*beside, Click((2, 50, 50), True), Click((2, 50, 50), False)])
    assert result.mask[0, 200, 200:202].tolist() == [1, 0]
    assert result.mask[2, 50, 50] == 0


def test_mask_and_probability_agree_and_inputs_stay(model, image, mask):
    before, looks = mask.copy(), image.copy()
    for through in (False, True):
        result = refine(model, image, mask, [Click((1, 90, 300), True)], through=through)
        assert np.array_equal(result.mask, result.probability >= 128)
        assert result.mask.dtype == result.probability.dtype == np.uint8
        assert set(np.unique(result.mask)) <= {0, 1}
    assert np.array_equal(mask, before)
    assert np.array_equal(image, looks)


def test_the_same_clicks_give_the_same_answer_also_on_other_planes(model, image, mask):
    first = refine(model, image, mask, [Click((1, 90, 300), True)])
    again = refine(model, image, mask, [Click((1, 90, 300), True)])
    assert np.array_equal(first.mask, again.mask)
    turned = refine(model, image.transpose(1, 0, 2).transpose(1, 0, 2), mask, [Click((1, 90, 300), True)])
    assert np.array_equal(first.mask, turned.mask)
    across = refine(model, image.transpose(2, 0, 1), mask.transpose(2, 0, 1), [Click((300, 1, 90), True)])
    assert across.mask.shape == (700, 3, 400)
    assert across.changed[0] == slice(300, 301)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 300), (2, 17, 33), (1, 256, 256)])
def test_images_smaller_than_a_crop_are_answered(model, shape):
    image = np.zeros(shape, np.float32)
    place = tuple(n - 1 for n in shape)
    for through in (False, True):
        result = refine(model, image, np.zeros(shape, np.uint8), [Click(place, True)], through=through)
        assert result.mask.shape == shape
        assert result.mask[place] == 1


def test_clicks_that_are_far_apart_have_crops_of_their_own(model, image, mask):
    result = refine(model, image, mask, [Click((1, 20, 20), True), Click((1, 390, 690), False)])
    middle = (1, slice(CROP_PX, 400), slice(0, 440))
    assert np.array_equal(result.mask[middle], mask[middle])
    assert result.changed == (slice(1, 2), slice(0, 400), slice(0, 700))


def test_what_cannot_be_answered_is_refused(model, image, mask):
    for position in ((3, 0, 0), (0, -1, 0), (0, 0, 700)):
        with pytest.raises(InvalidArgument, match=r"outside of the image of \(3, 400, 700\)") as error:
            refine(model, image, mask, [Click(position, True)])
        assert error.value.reason == "PROMPT_OUTSIDE"
    with pytest.raises(InvalidArgument) as error:
        refine(model, image, mask, [])
    assert error.value.reason == "NO_CLICKS"
    for wrong in (image[0], image.astype(np.float64), image[:, :10]):
        with pytest.raises(InvalidArgument) as error:
            refine(model, wrong, mask, [Click((0, 0, 0), True)])
        assert error.value.reason == "BAD_IMAGE"


def tube(depth=40, first=5, last=30, drift=1):
    """An oblique object with ends, bright on dark."""
    found = np.zeros((depth, 120, 200), bool)
    for z in range(first, last + 1):
        found[z, 40:70, 30 + drift * z : 60 + drift * z] = True
    return found


def test_an_object_is_followed_to_its_ends_and_no_further(bright):
    truth = tube()
    image = np.where(truth, np.float32(1), np.float32(-1))
    result = refine(bright, image, np.zeros(truth.shape, np.uint8), [Click((18, 50, 60), True)], through=True)
    assert np.array_equal(result.mask > 0, truth)
    assert result.changed[0] == slice(4, 32)  # the slices beyond the ends were looked at


def test_a_negative_click_takes_an_object_out_of_all_slices_but_not_its_neighbour(bright):
    wrong, right = tube(), np.zeros((40, 120, 200), bool)
    right[:, 90:110, 20:180] = True
    image = np.where(right, np.float32(1), np.float32(-1))
    previous = (wrong | right).astype(np.uint8)
    result = refine(bright, image, previous, [Click((18, 50, 60), False)], through=True)
    assert np.array_equal(result.mask > 0, right)


def test_an_object_that_runs_into_a_large_one_is_followed_no_further(bright):
    truth = tube(last=39)
    image = np.where(truth, np.float32(1), np.float32(-1))
    image[25:] = 1  # everything is bright from here on
    result = refine(bright, image, np.zeros(truth.shape, np.uint8), [Click((10, 50, 50), True)], through=True)
    assert np.array_equal(result.mask[:25] > 0, truth[:25])
    grown = result.mask[25:].sum() / truth[24].sum()
    assert grown < 15 * 1.6, "it spread through all that is bright"
    assert not result.mask[30:].any()


def test_clicks_on_several_slices_are_anchors(bright):
    truth = tube(drift=0)
    image = np.where(truth, np.float32(1), np.float32(-1))
    image[15:20] = -1  # a stretch in which nothing is seen
    clicks = [Click((8, 50, 40), True), Click((25, 50, 40), True)]
    one = refine(bright, image, np.zeros(truth.shape, np.uint8), clicks[:1], through=True)
    both = refine(bright, image, np.zeros(truth.shape, np.uint8), clicks, through=True)
    assert not one.mask[20:].any()
    assert np.array_equal(both.mask[20:] > 0, truth[20:])
    assert np.array_equal(both.mask[:15] > 0, truth[:15])


def test_a_click_beyond_an_end_leaves_the_slices_that_were_clicked_before(weights):
    model = Trusting("trusting", 10.0, network_def(), weights, "cpu")
    truth = tube(first=0, last=39, drift=0)
    image = np.where(truth, np.float32(1), np.float32(-1))
    clicks, mask = [], np.zeros(truth.shape, np.uint8)
    # It goes on to the end of the volume; halfway to the slice that is known; and halfway back.
    for z, is_positive, end in ((18, True, 40), (35, False, 27), (30, True, 33), (32, False, 31)):
        clicks.append(Click((z, 50, 40), is_positive))
        result = refine(model, image, mask, clicks, through=True)
        mask = result.mask
        assert np.array_equal(mask[:end] > 0, truth[:end])
        assert not mask[end:].any()
        assert np.array_equal(mask, result.probability >= 128)


def test_clicks_on_one_object_hold_nothing_of_another(weights):
    model = Trusting("trusting", 10.0, network_def(), weights, "cpu")
    truth = tube(first=0, last=39, drift=0)
    beside = np.zeros_like(truth)
    beside[:, 90:110, 20:60] = True
    image = np.where(truth | beside, np.float32(1), np.float32(-1))
    clicks = [Click((18, 50, 40), True), Click((30, 100, 40), True), Click((10, 100, 40), False)]
    mask = np.zeros(truth.shape, np.uint8)
    for number in (1, 2, 3):
        mask = refine(model, image, mask, clicks[:number], through=True).mask
    assert np.array_equal(mask[:, :80] > 0, truth[:, :80])
    assert np.array_equal(mask[21:, 80:] > 0, beside[21:, 80:])
    assert not mask[:21, 80:].any()


def test_a_thin_object_that_wanders_ends_with_the_volume(bright):
    rng = np.random.default_rng(0)
    truth = np.zeros((60, 200, 200), bool)
    y, x = 100, 100
    for z in range(60):
        y, x = y + int(rng.integers(-2, 3)), x + int(rng.integers(-2, 3))
        truth[z, y : y + 6, x : x + 6] = True
    image = np.where(truth, np.float32(1), np.float32(-1))
    start = tuple(int(v) for v in np.argwhere(truth[30])[10])
    result = refine(bright, image, np.zeros(truth.shape, np.uint8), [Click((30, *start), True)], through=True)
    assert np.array_equal(result.mask > 0, truth)
