"""The networks that BioSegment trains: what their channels mean, how a child takes over a parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import BACKGROUND, FIRST_CLASS
from biosegment_trainer.learning.architecture import NetworkConfig
from biosegment_trainer.learning.channel import with_input_channels, with_output_channels
from biosegment_trainer.learning.family import FAMILIES

Weights = dict[str, Tensor]

_NEW_CLASS_BIAS = -2.0
"""Where a class that the parent did not know starts: unlikely, so that the parent's answer stands until
taught.
"""


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class that a network tells apart.

    Attributes:
        value: Its value in label blocks, 2..255; 0 for a class of a foreign model that the project lacks,
            which never occurs in labels and counts as background where it wins.
        name: What it means; a child's classes are matched with its parent's by name.
    """

    value: int
    name: str

    def __post_init__(self) -> None:
        if self.value != 0 and not FIRST_CLASS <= self.value <= 255:
            raise InvalidArgument(
                "BAD_CLASS_VALUE",
                f"class {self.name!r} has value {self.value}; use 2..255, or 0 for one that the project lacks",
            )


def require_classes(classes: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """The classes as a tuple; raises InvalidArgument NO_CLASSES or DUPLICATE_CLASS."""
    found = tuple(classes)
    if not found:
        raise InvalidArgument(
            "NO_CLASSES", "a network needs at least one class besides the background; name one"
        )
    values = [c.value for c in found if c.value]
    if len(set(values)) < len(values) or len({c.name for c in found}) < len(found):
        raise InvalidArgument("DUPLICATE_CLASS", f"names and values of classes must differ, got {found}")
    return found


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network with weights and the meaning of its channels: channel 0 is background, channel i + 1 is
    `classes[i]`. A pretrained model has no classes: its one channel reconstructs, and it can only be a
    parent.
    """

    network: NetworkConfig
    classes: tuple[LabelClass, ...]
    weights: Weights

    @property
    def label_values(self) -> tuple[int, ...]:
        """What each channel writes into labels where it wins; classes that the project lacks write
        background.
        """
        return (BACKGROUND, *(c.value or BACKGROUND for c in self.classes))

    def require_usable(self) -> None:
        """Raise FailedPrecondition NO_USABLE_CLASS when there is nothing that it could predict."""
        if not any(c.value for c in self.classes):
            names = [c.name for c in self.classes]
            raise FailedPrecondition(
                "NO_USABLE_CLASS",
                f"the model knows {names}, none of the project's classes; fine-tune it first",
            )

    def build(self, device: torch.device | str = "cpu") -> nn.Module:
        """The network in evaluation mode on `device`; raises InvalidArgument BAD_WEIGHTS if the weights do
        not fit.
        """
        module = self.network.build(len(self.classes))
        try:
            module.load_state_dict(self.weights)
        except RuntimeError as error:
            raise InvalidArgument("BAD_WEIGHTS", f"the weights do not fit the network: {error}") from error
        return module.to(device).eval()


def not_finite(weights: Weights) -> list[str]:
    """Names of the tensors that hold NaN or infinite numbers."""
    return [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]


def pick_device(name: str | None = None) -> torch.device:
    """`name` if given, else CUDA where there is one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def inherited_weights(parent: NetworkModel, classes: Sequence[LabelClass], fresh: Weights) -> Weights:
    """The parent's weights, its head rearranged for `classes` and its input for the child's slices.

    Classes that both know keep their rows, so that before any training the logits of a child that knows all
    of the parent's classes equal the parent's (nothing flows from a new class's channel into theirs); a new
    class keeps the `fresh` initialisation of its own rows. A head that means something else altogether,
    reconstruction instead of classes or the other way round, stays fresh. Slices that the parent did not see
    start without influence.

    Args:
        parent: Where to start.
        classes: The child's classes, in channel order; empty for pretraining.
        fresh: State of a newly built network with the parent's configuration, or another number of
            `input_slices`, and the child's number of classes.

    Raises:
        InvalidArgument: BAD_WEIGHTS when the parent's tensors do not fit its configuration.
    """
    source = _sources(parent, classes)
    if set(fresh) != set(parent.weights):
        odd = sorted(set(fresh) ^ set(parent.weights))[:3]
        raise InvalidArgument(
            "BAD_WEIGHTS", f"the parent's weights do not fit its network, for example {odd}"
        )
    family, child = FAMILIES[parent.network.family], Weights()
    for name, tensor in fresh.items():
        axes = family.class_axes(name, tensor.ndim)
        old = parent.weights[name].to(tensor.dtype)
        if family.inputs.fullmatch(name) and old.ndim > 1:
            old = with_input_channels(old, tensor.shape[1])
        if axes is not None and source is None:
            old = tensor
        elif axes and source is not None:
            # Without a known class there is no answer that should stand, and the start would only be slower.
            bias = _NEW_CLASS_BIAS if family.is_final_bias(name) and max(source) > 0 else None
            old = with_output_channels(old, tensor, axes, source, bias)
        if old.shape != tensor.shape:
            raise InvalidArgument("BAD_WEIGHTS", f"{name} is {tuple(old.shape)}, not {tuple(tensor.shape)}")
        child[name] = old.clone()
    return child


def head_changes(parent: NetworkModel, classes: Sequence[LabelClass]) -> str:
    """What `inherited_weights` does to the head, for the log; empty when it is taken over as it is."""
    source = _sources(parent, classes)
    if source is None:
        return "the head is new, since the parent's means something else"
    if source == list(range(len(parent.classes) + 1)):
        return ""
    names = [c.name.casefold() for c in parent.classes]
    known = [c.name for c in classes if c.name.casefold() in names]
    new = [c.name for c in classes if c.name.casefold() not in names]
    wanted = {c.name.casefold() for c in classes}
    lost = [c.name for c in parent.classes if c.name.casefold() not in wanted]
    return f"the head was replaced: classes {known} kept, {new} new, {lost} left out"


def _sources(parent: NetworkModel, classes: Sequence[LabelClass]) -> list[int] | None:
    """For each of the child's channels the parent's, -1 for none; None when the heads cannot be compared."""
    if bool(parent.classes) != bool(classes):
        return None
    names = [c.name.casefold() for c in parent.classes]
    wanted = [c.name.casefold() for c in classes]
    return [0] + [names.index(name) + 1 if name in names else -1 for name in wanted]


__all__ = [
    "LabelClass",
    "NetworkConfig",
    "NetworkModel",
    "Weights",
    "head_changes",
    "inherited_weights",
    "not_finite",
    "pick_device",
    "require_classes",
]
