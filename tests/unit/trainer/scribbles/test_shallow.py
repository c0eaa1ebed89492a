import numpy as np
import pytest
import torch
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.scribbles.segmentation import ScribbleSegmenter
from biosegment_trainer.scribbles.shallow import ShallowFeatures

from biosegment.errors import InvalidArgument

CLASSES = (LabelClass(2, "disc"),)


def model(network):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkModel(network, CLASSES, network.build(1).state_dict())


UNET = NetworkConfig.unet(channels=(4, 8, 16), strides=(2, 2), num_res_units=1)


def test_they_are_those_of_the_networks_own_encoder():
    network, image = model(UNET), np.random.default_rng(0).normal(size=(37, 50)).astype(np.float32)
    found = ShallowFeatures(network).of_slice(image)
    assert found.shape == (12, 37, 50)
    assert found.dtype == np.float32
    seen = []
    module = network.build()
    module.model[1].submodule[0].register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        module(torch.from_numpy(np.pad(image, ((0, 3), (0, 2)), mode="symmetric"))[None, None])
    fine = torch.nn.functional.interpolate(seen[0], (40, 52), mode="bilinear")[0, :, :37, :50]
    assert np.allclose(found[4:], fine.numpy(), atol=1e-6)


def test_they_do_not_depend_on_the_threads(tissue):
    features = ShallowFeatures(model(UNET))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = features.of_slice(tissue.image[0])
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert np.array_equal(features.of_slice(tissue.image[0]), two)
    finally:
        torch.set_num_threads(before)


def test_strokes_are_answered_with_them(tissue, iou):
    segmenter = ScribbleSegmenter(shallow=model(UNET))
    answer = segmenter.segment("tissue", tissue.image, tissue.strokes(1))
    plain = ScribbleSegmenter().segment("tissue", tissue.image, tissue.strokes(1))
    assert iou(answer.labels[1], tissue.truth[1]) > 0.7
    assert not np.array_equal(answer.labels, plain.labels)


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig(
            spatial_dims=3, arguments={"channels": (4, 8, 16), "strides": (2, 2), "num_res_units": 1}
        ),
        NetworkConfig(
            input_slices=3, arguments={"channels": (4, 8, 16), "strides": (2, 2), "num_res_units": 1}
        ),
        NetworkConfig.unet(channels=(4, 8), strides=(2,)),
        NetworkConfig("SegResNet"),
    ],
)
def test_other_networks_are_refused(network):
    with pytest.raises(InvalidArgument) as caught:
        ScribbleSegmenter(shallow=model(network))
    assert caught.value.reason == "NO_SHALLOW_FEATURES"
