"""Several passes over the same voxels, whose mean is the prediction: dropout left on, turned copies, ensembles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment_trainer.learning.backend import Backend, Eager, open_backend
from biosegment_trainer.learning.measures import entropy_of
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.probe import Probe, Wanted, example_of, fold_norms

TURNS: Final = ((0, False), (2, False), (0, True), (2, True), (1, False), (3, False), (1, True), (3, True))
"""Quarter turns, and whether mirrored before: the square's symmetries, those that keep its sides first."""
_MAX_PASSES: Final = 100


@dataclass(frozen=True, slots=True)
class PassesConfig:
    """How often a voxel is looked at; the product of all, times the members of an ensemble.

    Attributes:
        mc_dropout: Passes with dropout switched on (Gal and Ghahramani 2016); 0 for one without.
        test_time_augmentation: Passes over turned and mirrored copies, 2 to 8; 0 for the image alone.
        seed: Of the dropout; the same tile of the same slice always drops the same features.
    """

    mc_dropout: int = 0
    test_time_augmentation: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.mc_dropout <= _MAX_PASSES or self.test_time_augmentation not in (0, *range(2, 9)):
            raise InvalidArgument(
                "BAD_PASSES",
                f"mc_dropout {self.mc_dropout} must be within 0..{_MAX_PASSES}, "
                f"test_time_augmentation {self.test_time_augmentation} 0 or within 2..8",
            )

    def count(self, members: int) -> int:
        """Passes over a voxel with so many members of an ensemble."""
        return members * max(1, self.mc_dropout) * max(1, self.test_time_augmentation)


class PassSum:
    """Adds up passes; holds as much for a hundred of them as for one.

    Args:
        with_spread: Keep what measures of the passes' disagreement need.
    """

    def __init__(self, with_spread: bool) -> None:
        self._with_spread = with_spread
        self._count = 0
        self._sum = self._entropy = self._squares = torch.empty(0)

    def add(self, p: Tensor) -> None:
        """One pass, float32 (N, 1 + C, y, x)."""
        self._count += 1
        if self._count == 1:
            self._sum = p
            if self._with_spread:
                self._entropy, self._squares = entropy_of(p), p.square()
            return
        self._sum = self._sum + p
        if self._with_spread:
            self._entropy += entropy_of(p)
            self._squares.addcmul_(p, p)

    def means(self) -> dict[str, Tensor]:
        """`probabilities`, and with spread `pass_entropy` and `pass_squares`, as in `Evidence`."""
        if self._count == 1:
            found = {"probabilities": self._sum}
        else:
            found = {"probabilities": self._sum / self._count}
        if self._with_spread:
            found |= {
                "pass_entropy": self._entropy / self._count,
                "pass_squares": self._squares / self._count,
            }
        return found


class Member:
    """One network of a committee, ready to run."""

    def __init__(
        self, model: NetworkModel, wanted: Wanted, backend: str, dropout: bool, device: torch.device
    ) -> None:
        network = fold_norms(model.build(device))
        self.slices = model.network.input_slices
        self._wanted = wanted
        probe = Probe(network, model.network, wanted)
        self.backend: Backend
        if dropout:
            _leave_dropout_on(probe)
            # Only PyTorch's own generator can be told what to drop.
            self.backend = Eager(probe, device)
        else:
            # Attention over windows goes another way when they do not fit.
            example = None if model.network.family == "SwinUNETR" else example_of(model.network, device)
            self.backend = open_backend(probe, backend, device, example)

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """`logits`, and `reach` and `embedding` if wanted."""
        wanted = [name for name in ("reach", "embedding") if getattr(self._wanted, name)]
        return dict(zip(["logits", *wanted], self.backend(images), strict=True))


class Committee:
    """All passes over a window.

    Args:
        models: One or more; they share classes and the number of axes.
        config: How many passes of each.
        wanted: What the first member tells besides its logits, in its first pass.
        backend: As in `open_backend`.
        device: Where they lie.

    Raises:
        InvalidArgument: BAD_ENSEMBLE.
        FailedPrecondition: NO_DROPOUT, NO_USABLE_CLASS, BACKEND_MISSING.
    """

    def __init__(
        self,
        models: Sequence[NetworkModel],
        config: PassesConfig,
        wanted: Wanted,
        backend: str,
        device: torch.device,
    ) -> None:
        first = models[0]
        for model in models:
            model.require_usable()
            same_axes = model.network.spatial_dims == first.network.spatial_dims
            if model.classes != first.classes or not same_axes:
                raise InvalidArgument(
                    "BAD_ENSEMBLE",
                    f"members must share classes and axes, got {[m.classes for m in models]} with "
                    f"{[m.network.spatial_dims for m in models]} axes",
                )
        self._config = config
        self._members = [
            Member(model, wanted if i == 0 else Wanted(), backend, config.mc_dropout > 0, device)
            for i, model in enumerate(models)
        ]
        self.context = max(member.slices for member in self._members) // 2

    @property
    def backend(self) -> str:
        """What runs the first member."""
        return self._members[0].backend.name

    def look(
        self, images: Tensor, crop: tuple[slice, ...], place: str, with_spread: bool
    ) -> dict[str, Tensor]:
        """What all passes say of a batch of windows, cropped.

        Returns:
            `probabilities` float32 (N, 1 + C, crop), with spread `pass_entropy` and `pass_squares`, as in `Evidence`;
            if wanted also `reach` (N, 1, crop) and `embedding` (N, EMBEDDING_SIZE, coarsest voxels of the windows).

        Args:
            images: float32 (N, 2 * context + 1, y, x), or (N, 1, z, y, x) for 3D networks.
            crop: What is kept of the windows, a slice for each spatial axis.
            place: Names the window in the volume: dropout draws from it.
            with_spread: Compare the passes.
        """
        part = (slice(None), slice(None), *crop)
        total, more = PassSum(with_spread), dict[str, Tensor]()
        for answer, turn in self._passes(images, place):
            if not more:
                # A backend overwrites its answers when it runs the next time.
                more = {name: tensor.clone() for name, tensor in answer.items() if name != "logits"}
            total.add(class_probabilities(_turned_back(answer["logits"], *turn)[part]))
        if "reach" in more:
            more["reach"] = more["reach"][part]
        return total.means() | more

    def _passes(self, images: Tensor, place: str) -> Iterator[tuple[dict[str, Tensor], tuple[int, bool]]]:
        repeats = max(1, self._config.mc_dropout)
        for number, member in enumerate(self._members):
            seen = images
            if images.ndim == 4:
                spare = self.context - member.slices // 2
                seen = images[:, spare : spare + member.slices]
            for turn in TURNS[: max(1, self._config.test_time_augmentation)]:
                turned = _turned(seen, *turn)
                for repeat in range(repeats):
                    if self._config.mc_dropout:
                        yield self._dropped(member, turned, f"{place}/{number}/{turn}/{repeat}"), turn
                    else:
                        yield member.run(turned), turn

    def _dropped(self, member: Member, images: Tensor, place: str) -> dict[str, Tensor]:
        digest = hashlib.sha256(f"{self._config.seed}/{place}".encode()).digest()
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int.from_bytes(digest[:7], "big"))
            return member.run(images)


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes, (N, 1 + C, spatial), in memory of its own, whatever the layout of the logits."""
    if logits.shape[1] > 2:
        return torch.softmax(logits.contiguous(), dim=1)
    # A sigmoid is a tenth of the work of a softmax over two.
    p = torch.empty(logits.shape, device=logits.device)
    torch.sub(logits[:, 1], logits[:, 0], out=p[:, 1]).sigmoid_()
    torch.sub(1, p[:, 1], out=p[:, 0])
    return p


def _turned(images: Tensor, turns: int, mirror: bool) -> Tensor:
    images = images.flip(-1) if mirror else images
    return torch.rot90(images, turns, (-2, -1)) if turns else images


def _turned_back(images: Tensor, turns: int, mirror: bool) -> Tensor:
    images = torch.rot90(images, -turns, (-2, -1)) if turns else images
    return images.flip(-1) if mirror else images


def _leave_dropout_on(network: nn.Module) -> None:
    """Everything else, batch norm above all, stays in evaluation mode."""
    layers = [m for m in network.modules() if isinstance(m, _DropoutNd) and m.p > 0]
    if not layers:
        raise FailedPrecondition(
            "NO_DROPOUT", "the network has no dropout; train one with dropout, or use other passes"
        )
    for layer in layers:
        layer.train()
