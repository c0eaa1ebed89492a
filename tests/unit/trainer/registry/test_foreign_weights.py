"""Weights as people save them: found where they can be, and said what is wrong and what to do where not."""

from __future__ import annotations

import functools

import pytest
import torch
from biosegment_trainer.learning.bundle import read_weights

from biosegment.errors import InvalidArgument
from tests.unit.trainer.learning.family import TINY_NETWORKS
from tests.unit.trainer.registry.zoo import built, read, window, write_zoo_bundle

UNET = TINY_NETWORKS["UNet 2D"]


@functools.cache
def network():
    return built(UNET, 1, 2)


def states(**changes):
    """The network's state dict, and the names of some of its tensors replaced."""
    return dict(network()[0].state_dict()) | changes


def other():
    return {name: torch.zeros_like(tensor) for name, tensor in states().items()}


def optimizer():
    """Torch's, whose moments have the shapes of kernels."""
    return {"state": {0: {"exp_avg": torch.zeros(3, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


WRAPPED = {
    "twice": lambda: {"checkpoint": {"state_dict": states()}},
    "twice, known names": lambda: {"model": {"state_dict": states()}},
    "unknown name": lambda: {"generator": states(), "epoch": 3},
    "beside an optimizer": lambda: {"generator": states(), "optimizer": optimizer()},
    "beside an optimizer by name": lambda: {
        "generator": states(), "optimizer": {"state": {"model.0": {"exp_avg": torch.zeros(3, 3)}}}
    },
    "beside metrics": lambda: {"generator": states(), "metrics": {"dice": torch.tensor(0.9)}},
    "beside a mean": lambda: {"ema": other(), "model": states()},
    "beside a mean, deep": lambda: {"saved": {"ema": other(), "state_dict": states()}},
    "known name of something else": lambda: {"model": {"depth": 3}, "generator": states()},
}  # fmt: skip


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
def test_weights_are_found_by_their_shape(tmp_path, content):
    torch.save(content(), tmp_path / "model.pt")
    found = read_weights(tmp_path / "model.pt")
    assert found.keys() == states().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in states().items())


def endless():
    content: dict[str, object] = {}
    content |= {str(i): content for i in range(100)}
    return content


REFUSED = {
    "none": (
        lambda: {"epoch": 3, "hyper": {"a": {"b": 1}}},
        r"no state dict of tensors; at its top are 'epoch' \(int\), 'hyper' \(dict\); save `net.state_dict\(\)`",
    ),
    "several": (
        lambda: {"generator": states(), "critic": other()},
        r"2 state dicts, of which one must be chosen; at its top are 'generator' \(dict\), 'critic' \(dict\)",
    ),
    "tensors and more": (lambda: states() | {"epoch": 3}, r"no state dict .* and \d+ more"),
    "too deep": (lambda: {"a": {"b": {"c": {"d": states()}}}}, r"no state dict .*'a' \(dict\)"),
    "a list": (lambda: [torch.zeros(3, 3)], r"no state dict of tensors but something else \(list\)"),
    "nothing": (dict, "no entries"),
    "within itself": (endless, "no state dict"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_without_one_state_dict_the_keys_are_listed(tmp_path, content, message):
    torch.save(content(), tmp_path / "model.pt")
    with pytest.raises(InvalidArgument, match=message) as error:
        read_weights(tmp_path / "model.pt")
    assert error.value.reason == "BAD_WEIGHTS"


def save_script(module, path):
    torch.jit.script(module).save(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("save", "message"),
    [
        (torch.save, r"holds a pickled object \(monai.networks.nets.unet.UNet\), not a state dict"),
        (
            lambda module, path: torch.save({"net": module}, path, _use_new_zipfile_serialization=False),
            r"holds a pickled object \(monai.networks.nets.unet.UNet\), not a state dict",
        ),
        (save_script, "is a TorchScript archive, which is code"),
    ],
    ids=["pickled", "pickled within, old format", "scripted"],
)
def test_a_saved_module_is_not_loaded_and_the_remedy_named(tmp_path, save, message):
    save(network()[0], tmp_path / "model.pt")
    with pytest.raises(InvalidArgument, match=message) as error:
        read_weights(tmp_path / "model.pt")
    assert "save `net.state_dict()` with torch.save, or as safetensors, and import again" in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "weights_only" not in str(error.value)


def test_damaged_weights_are_told_from_odd_ones(tmp_path):
    torch.save(states(), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for number, part in enumerate((b"", b"hello world", data[:-500], data[: len(data) // 2])):
        (tmp_path / "model.pt").write_bytes(part)
        with pytest.raises(InvalidArgument, match=r"cannot be read, it may be damaged: \w+") as error:
            read_weights(tmp_path / "model.pt")
        assert error.value.message.isprintable(), number


TORCH, SAFE = "models/model.pt", "models/model.safetensors"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (TORCH, lambda tensor: tensor.to(torch.complex64), "complex"),
        (SAFE, lambda tensor: tensor.to(torch.complex64), "complex"),
        (TORCH, lambda tensor: tensor.to_sparse(), "sparse"),
        (TORCH, lambda tensor: tensor.to("meta"), "without values"),
        (TORCH, lambda tensor: torch.full_like(tensor, torch.inf), "not finite"),
        (SAFE, lambda tensor: torch.full_like(tensor, torch.inf), "not finite"),
    ],
)
def test_tensors_that_no_network_has_are_refused_by_name(tmp_path, file, change, message):
    first = next(name for name, tensor in states().items() if tensor.ndim > 1)
    write_zoo_bundle(tmp_path, network()[1], states(**{first: change(states()[first])}), file=file)
    with pytest.raises(InvalidArgument, match=f"{first} is {message}") as error:
        read(tmp_path)
    assert error.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize("prefix", ["net.", "net.model.", "_orig_mod.module."])
def test_a_prefix_that_most_names_share_is_taken_off(tmp_path, prefix):
    module, definition = network()
    content = {prefix + name: tensor for name, tensor in states().items()}
    image = window(UNET)
    write_zoo_bundle(tmp_path, definition, content)
    with torch.inference_mode():
        assert torch.equal(read(tmp_path).bundle.model.build()(image), module(image))
    # As Lightning saves a loss that has weights.
    for foreign in ("loss.weight", "steps"):
        write_zoo_bundle(tmp_path, definition, {"state_dict": content | {foreign: torch.ones(2)}})
        with pytest.raises(InvalidArgument, match=rf"none missing, 1 \('{foreign}'\) in excess") as error:
            read(tmp_path)
        assert error.value.reason == "BAD_WEIGHTS"


def test_a_prefix_that_hides_another_tensor_stays(tmp_path):
    content = {f"net.{name}": tensor for name, tensor in states().items()}
    first = next(iter(content))
    twice = {f"a.{name}": tensor for name, tensor in content.items()} | {first: content[first]}
    write_zoo_bundle(tmp_path, network()[1], twice)
    with pytest.raises(InvalidArgument, match=f"{len(twice)} .* in excess"):
        read(tmp_path)


def test_weights_of_another_network_are_counted_and_a_few_named(tmp_path):
    content = {f"a.{name}": tensor for name, tensor in states().items()}
    content |= {f"b.{name}": tensor for name, tensor in states().items()}
    write_zoo_bundle(tmp_path, network()[1], content)
    with pytest.raises(InvalidArgument, match=r"correct its network_def") as error:
        read(tmp_path)
    missing, excess = str(error.value).partition(" in excess")[0].split(" missing, ")
    assert missing.count("'") == excess.count("'") == 6
    assert excess.startswith(f"{2 * len(states())} ('a.model.0")
