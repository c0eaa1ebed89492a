import numpy as np
import pytest
from biosegment_trainer.scribbles.segmentation import HALO, ScribbleSegmenter, confident

from biosegment.errors import InvalidArgument


@pytest.fixture(name="segmenter")
def new_segmenter():
    return ScribbleSegmenter()


def same(one, other):
    return np.array_equal(one.labels, other.labels) and all(
        np.array_equal(one.probabilities[value], other.probabilities[value]) for value in one.probabilities
    )


def test_a_few_strokes_segment_their_slice(segmenter, tissue, iou):
    strokes = tissue.strokes(1)
    answer = segmenter.segment("tissue", tissue.image, strokes)
    assert iou(answer.labels[1], tissue.truth[1]) > 0.65
    # Half of the slice is darker than the other, stripes as dark as discs.
    threshold = np.where(tissue.image[1] < 0, 2, 1)
    assert iou(answer.labels[1], tissue.truth[1]) > 1.2 * iou(threshold, tissue.truth[1])
    assert not answer.labels[[0, 2]].any()
    assert not any(share[[0, 2]].any() for share in answer.probabilities.values())


def test_a_draft_labels_the_other_slices_and_leaves_the_painted_one(segmenter, tissue, iou):
    strokes = tissue.strokes(1)
    draft = segmenter.segment("tissue", tissue.image, strokes, draft=True)
    assert draft.labels.all()
    assert iou(draft.labels[[0, 2]], tissue.truth[[0, 2]]) > 0.6
    assert np.array_equal(draft.labels[1], segmenter.segment("tissue", tissue.image, strokes).labels[1])


def test_probabilities_add_up_and_agree_with_the_labels(segmenter, tissue):
    answer = segmenter.segment("tissue", tissue.image, tissue.strokes(0))
    shares = np.stack([answer.probabilities[value][0] for value in (1, 2)]).astype(int)
    assert set(answer.probabilities) == {1, 2}
    assert np.abs(shares.sum(0) - 255).max() <= 1
    clear = np.abs(shares[0] - shares[1]) > 1
    assert np.array_equal(answer.labels[0][clear], 1 + shares.argmax(0)[clear])


def test_painted_pixels_keep_what_they_were_painted_as(segmenter, tissue):
    strokes = tissue.strokes(0)
    strokes[0, 100:104, 60:64] = 2  # nothing is there
    answer = segmenter.segment("tissue", tissue.image, strokes)
    under = strokes > 0
    assert np.array_equal(answer.labels[under], strokes[under])
    assert (answer.probabilities[2][strokes == 2] == 255).all()
    assert not answer.probabilities[2][strokes == 1].any()


def test_more_classes_than_one(segmenter, tissue):
    strokes = tissue.strokes(0)
    stripes = (tissue.image[0] < -0.3) & (tissue.truth[0] == 1)
    strokes[0, 60:120][stripes[60:120]] = 7
    answer = segmenter.segment("tissue", tissue.image, strokes)
    assert set(np.unique(answer.labels[0])) == {1, 2, 7}
    assert (answer.labels[0, :50][stripes[:50]] == 7).mean() > 0.5


def test_strokes_on_several_slices_teach_together(segmenter, tissue):
    both = segmenter.segment("tissue", tissue.image, tissue.strokes(0, 2))
    one = segmenter.segment("tissue", tissue.image, tissue.strokes(0))
    assert both.labels[[0, 2]].all()
    assert not both.labels[1].any()
    assert not np.array_equal(both.labels[0], one.labels[0])


def test_the_same_answer_for_any_number_of_threads(tissue):
    strokes = tissue.strokes(1)
    answers = [
        ScribbleSegmenter(threads=threads).segment("tissue", tissue.image, strokes, draft=True)
        for threads in (1, 2, 5)
    ]
    assert same(answers[0], answers[1])
    assert same(answers[0], answers[2])


def test_another_seed_is_another_chance(segmenter, tissue):
    first, again, other = (
        segmenter.segment("tissue", tissue.image, tissue.strokes(1), seed=seed) for seed in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)


def test_an_answer_does_not_depend_on_where_the_region_was_cut(segmenter):
    rng = np.random.default_rng(5)
    image = rng.normal(size=(1, 2 * HALO + 100, 2 * HALO + 80)).astype(np.float32)
    strokes = np.zeros(image.shape, np.uint8)
    strokes[0, HALO + 10 : HALO + 14, HALO + 5 : HALO + 60] = 1
    strokes[0, HALO + 60 : HALO + 64, HALO + 5 : HALO + 60] = 2
    whole = segmenter.segment("whole", image, strokes)
    inner = np.s_[:, HALO : HALO + 70, HALO : HALO + 65]
    cut = segmenter.segment(
        "cut", image[:, : 2 * HALO + 70, : 2 * HALO + 65], strokes[inner], context=(HALO, HALO)
    )
    assert np.array_equal(cut.labels, whole.labels[inner])
    assert np.array_equal(cut.probabilities[2], whole.probabilities[2][inner])
    bare = segmenter.segment("bare", image[inner], strokes[inner])
    assert not np.array_equal(bare.labels, whole.labels[inner])


def test_kept_features_are_those_of_the_image(tissue):
    strokes = tissue.strokes(1)
    kept, none = ScribbleSegmenter(), ScribbleSegmenter(features_cache_bytes=0)
    first = kept.segment("tissue", tissue.image, strokes)
    assert same(first, kept.segment("tissue", tissue.image, strokes))
    assert same(first, none.segment("tissue", tissue.image, strokes))
    # A key that names other voxels now, as after a new import.
    other = np.ascontiguousarray(tissue.image[:, ::-1])
    assert same(kept.segment("tissue", other, strokes), none.segment("tissue", other, strokes))


def test_thousands_of_painted_pixels_are_thinned_evenly(segmenter, tissue, iou):
    strokes = tissue.truth.copy()
    strokes[:2] = 0
    strokes[2, :, 100:] = 0
    answer = segmenter.segment("tissue", tissue.image, strokes, draft=True)
    assert iou(answer.labels[:2], tissue.truth[:2]) > 0.8


@pytest.mark.parametrize("values", [(), (1,), (2,)])
def test_one_value_is_nothing_to_tell_apart(segmenter, tissue, values):
    strokes = np.zeros(tissue.truth.shape, np.uint8)
    for value in values:
        strokes[0, 10:20, 10:20] = value
    with pytest.raises(InvalidArgument, match="paint at least two, for example some background") as caught:
        segmenter.segment("tissue", tissue.image, strokes)
    assert caught.value.reason == "NEED_TWO_CLASSES"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": np.zeros((1, 20, 20))}, "BAD_DTYPE"),
        ({"strokes": np.zeros((1, 20, 20), np.int64)}, "BAD_DTYPE"),
        ({"strokes": np.zeros((2, 20, 20), np.uint8)}, "BAD_SHAPE"),
        ({"strokes": np.zeros((20, 20), np.uint8)}, "BAD_SHAPE"),
        ({"strokes": np.zeros((1, 21, 20), np.uint8)}, "BAD_SHAPE"),
        ({"context": (0, 1)}, "BAD_SHAPE"),
        ({"context": (-1, 0)}, "BAD_SHAPE"),
        ({"image": np.full((1, 20, 20), np.nan, np.float32)}, "BAD_IMAGE"),
    ],
)
def test_what_does_not_fit_is_refused(segmenter, change, reason):
    strokes = np.zeros((1, 20, 20), np.uint8)
    strokes[0, 0], strokes[0, 10] = 1, 2
    given = {"image": np.zeros((1, 20, 20), np.float32), "strokes": strokes, "context": (0, 0)} | change
    with pytest.raises(InvalidArgument) as caught:
        segmenter.segment("key", given["image"], given["strokes"], context=given["context"])
    assert caught.value.reason == reason


def test_where_it_is_sure(segmenter, tissue):
    answer = segmenter.segment("tissue", tissue.image, tissue.strokes(1))
    everywhere, sure, certain = (confident(answer, threshold) for threshold in (0, 0.8, 1))
    assert np.array_equal(everywhere, answer.labels)
    assert 0 < (certain > 0).sum() < (sure > 0).sum() < (everywhere > 0).sum()
    kept = sure > 0
    assert np.array_equal(sure[kept], answer.labels[kept])
    wrong, wrong_sure = answer.labels[1] != tissue.truth[1], (sure[1] > 0) & (sure[1] != tissue.truth[1])
    assert wrong_sure.sum() / kept.sum() < 0.5 * wrong.mean()
    with pytest.raises(InvalidArgument, match=r"0\.\.1"):
        confident(answer, 80)
