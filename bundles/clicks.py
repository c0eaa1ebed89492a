"""Trains the model that corrects masks with clicks: `python -m bundles.clicks`. A run that was stopped goes on.

It starts from the weights of `mitochondria_vem_segmentation` and learns on the same slices 0 to 144 of EPFL's training
volume. Each patch has a mask that is wrong somehow (`bundles.corruption`); somebody clicks on its largest error, the
network answers, and clicks on what is wrong then, up to three times, before it learns from the last answer, as in RITM
(arXiv 2102.06583).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from biosegment_trainer.learning.augmentation import AugmentationConfig, tarnish
from biosegment_trainer.learning.bundle import read_bundle
from biosegment_trainer.learning.clicks.mask import merged
from biosegment_trainer.learning.clicks.model import CHANNELS, ClickModel, build, disks, network_def
from biosegment_trainer.learning.network import Weights
from biosegment_trainer.learning.optimisation import one_cycle
from numpy.typing import NDArray
from torch import Tensor, nn

from bundles.corruption import Case, case
from bundles.data import ROOT, epfl
from bundles.interaction import Mask, Point, WorkingStack, centre, next_click
from bundles.recipe import WORKING_RESOLUTION_NM

NAME = "mitochondria_vem_clicks"
START = "mitochondria_vem_segmentation"
GUESSES = ("mitochondria_vem_segmentation", "mitochondria_vem_general")
BUILD = ROOT / "build" / "bundles" / NAME
_INPUTS = ("model.0.conv.unit0.conv.weight", "model.0.residual.weight")
"""Weights of the parent's that see the image."""


@dataclass(frozen=True, slots=True)
class ClickRecipe:
    """How it is trained.

    Attributes:
        steps: Of the optimiser.
        planned_steps: The learning rate rises and falls as in a run of so many.
        last_steps: At the end of which it is 0 all the same: the run is shorter than planned.
        batch_size: Patches in a step.
        patch_px: Their edge, working pixels.
        learning_rate: Its peak.
        weight_decay: Of AdamW.
        ema_decay: The result is this running mean of the weights.
        rounds: Probability of 0, 1, 2 ... answers before the one that is learned from.
        all_clicks: Probability that the network sees all clicks on a patch, and not the newest alone.
        blind: Probability that the image is blurred or noisy beyond use: mask and clicks are all there is.
        weight_near: Weight of pixels near clicks, against 1 elsewhere.
        seed: Of all chance.
    """

    steps: int = 550
    planned_steps: int = 1400
    last_steps: int = 150
    batch_size: int = 8
    patch_px: int = 160
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.995
    rounds: tuple[float, ...] = (0.4, 0.35, 0.15, 0.1)
    all_clicks: float = 0.5
    blind: float = 0.08
    weight_near: float = 4.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        fall = min(1.0, (self.steps - step) / self.last_steps)
        return self.learning_rate * one_cycle(step / self.planned_steps, 0.05) * fall


_LOOKS = AugmentationConfig(
    affine=0.6, scale=0.35, contrast=0.35, brightness=0.35, gamma=0.35, blur=0.3, noise=0.25, seam=0.0
)


class Patches:
    """Draws patches of the training slices."""

    def __init__(self, recipe: ClickRecipe) -> None:
        self._recipe = recipe
        stack = WorkingStack.of(epfl("train", 0, 145))
        self._image, self._truth = stack.image, stack.truth
        self._guesses = [foreground(name, stack.image).astype(np.float16) for name in GUESSES]
        self._inside = np.argwhere(self._truth[:, ::8, ::8]) * (1, 8, 8)

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, list[Case]]:
        """Images, float32 (N, 1, y, x), and what is to be corrected."""
        size, count = self._recipe.patch_px, self._recipe.batch_size
        planes = torch.from_numpy(np.stack([self._planes(rng) for _ in range(count)]))
        planes = _moved(planes, rng)
        images = tarnish(planes[:, :1].clone(), torch.ones(count, size, size, dtype=torch.uint8), _LOOKS, rng)
        for n in np.flatnonzero(rng.random(count) < self._recipe.blind):
            images[n] = 0.2 * images[n] + torch.from_numpy(rng.standard_normal((1, size, size), np.float32))
        found = []
        for image, rest in zip(planes[:, 0].numpy(), planes[:, 1:].numpy(), strict=True):
            found.append(case(image, rest[0] > 0.5, rest[2:], rest[1] > 0.5, rng))
        return images, found

    def _planes(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Image, truth, truth of a slice nearby, guesses: float32 (planes, y, x)."""
        depth, *edges = self._image.shape
        if rng.random() < 0.7:
            z, *centre_yx = self._inside[rng.integers(len(self._inside))]
            jitter = rng.integers(-60, 61, 2)
            corner = [int(c + j) - self._recipe.patch_px // 2 for c, j in zip(centre_yx, jitter, strict=True)]
        else:
            z, *corner = (int(rng.integers(n)) for n in self._image.shape)
        at = tuple(
            slice(low, low + self._recipe.patch_px)
            for low in (max(0, min(c, n - self._recipe.patch_px)) for c, n in zip(corner, edges, strict=True))
        )
        near = int(np.clip(z + rng.choice([-1, 1]) * rng.integers(1, 7), 0, depth - 1))
        return np.stack(
            [
                self._image[z][at],
                self._truth[z][at],
                self._truth[near][at],
                *(g[z][at] for g in self._guesses),
            ]
        ).astype(np.float32)


def foreground(name: str, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of a shipped model, float32 like `image`, (z, y, x) at the working resolution."""
    module = read_bundle(ROOT / "bundles" / name).model.build()
    height, width = image.shape[1:]
    found = np.empty_like(image)
    with torch.inference_mode():
        for z, plane in enumerate(image):
            window = F.pad(torch.from_numpy(plane)[None, None], (0, -width % 16, 0, -height % 16))
            found[z] = torch.softmax(module(window), 1)[0, 1, :height, :width].numpy()
    return found


def _moved(planes: Tensor, rng: np.random.Generator) -> Tensor:
    """Turned, mirrored and scaled; what a turn uncovers is a mirror image."""
    turned = [
        torch.rot90(plane, int(rng.integers(4)), (1, 2)).flip([2] if rng.integers(2) else [])
        for plane in planes
    ]
    result = torch.stack(turned)
    chosen = np.flatnonzero(rng.random(len(planes)) < _LOOKS.affine)
    if chosen.size:
        angle = rng.uniform(-np.pi, np.pi, len(chosen))
        zoom = np.exp(rng.uniform(-1, 1, len(chosen)) * np.log1p(_LOOKS.scale))
        cos, sin, zero = np.cos(angle) * zoom, np.sin(angle) * zoom, np.zeros(len(chosen))
        matrix = np.stack([np.stack([cos, -sin, zero], 1), np.stack([sin, cos, zero], 1)], 1)
        grid = F.affine_grid(
            torch.from_numpy(matrix).float(), [len(chosen), *planes.shape[1:]], align_corners=False
        )
        index = torch.from_numpy(chosen)
        result[index] = F.grid_sample(result[index], grid, padding_mode="reflection", align_corners=False)
    return result


class Dialogue:
    """One patch between the person who clicks and the network."""

    def __init__(self, wanted: Case) -> None:
        self.wanted = wanted
        self.mask = wanted.mask
        self.clicks: list[tuple[Point, bool]] = []

    def click(self, rng: np.random.Generator, keep: float) -> None:
        """The next click, if anything is wrong."""
        if self.wanted.follows:
            return
        found = next_click(self.mask, self.wanted.truth, rng)
        asked = self.wanted.asked
        if asked is not None and not self.clicks and asked.any():
            y, x = centre(asked, rng)
            found = (y, x), bool(self.wanted.truth[y, x])
        if found is None:
            return
        self.clicks = [*(self.clicks if rng.random() < keep else ()), found]

    def seen(self) -> NDArray[np.float32]:
        """The channels beside the image, float32 (3, y, x)."""
        shape = self.mask.shape
        places = [[p for p, is_positive in self.clicks if is_positive is wanted] for wanted in (True, False)]
        return np.stack([self.mask.astype(np.float32), *(disks(p, (shape[0], shape[1])) for p in places)])

    def take(self, answer: Mask) -> None:
        """Correct the mask."""
        seeds = np.zeros_like(self.mask)
        for place, is_positive in self.clicks:
            seeds[place], answer[place] = True, is_positive
        self.mask = merged(self.mask, answer, seeds)[0]

    def weights(self, near: float) -> NDArray[np.float32]:
        """What pixels count for, float32 (y, x)."""
        found = np.ones(self.mask.shape, np.float32)
        for (y, x), _ in self.clicks:
            found[max(0, y - 24) : y + 25, max(0, x - 24) : x + 25] = near
        return found


def loss_of(logits: Tensor, dialogues: Sequence[Dialogue], near: float) -> Tensor:
    """Weighted cross-entropy and soft Dice; a scalar."""
    truth = torch.from_numpy(np.stack([d.wanted.truth for d in dialogues]).astype(np.float32))
    weights = torch.from_numpy(np.stack([d.weights(near) for d in dialogues]))
    difference = logits[:, 1] - logits[:, 0]
    entropy = F.binary_cross_entropy_with_logits(difference, truth, weights) / weights.mean()
    chance = torch.sigmoid(difference)
    overlap = (weights * chance * truth).sum()
    dice = (2 * overlap + 1) / ((weights * (chance + truth)).sum() + 1)
    return entropy + 1 - dice


def start_weights() -> Weights:
    """Those of the shipped model; mask and clicks have no influence yet."""
    weights = dict(read_bundle(ROOT / "bundles" / START).model.weights)
    for name in _INPUTS:
        old = weights[name]
        weights[name] = old.new_zeros((old.shape[0], len(CHANNELS), *old.shape[2:]))
        weights[name][:, :1] = old
    return weights


class Training:
    """The state of a run."""

    def __init__(self, recipe: ClickRecipe) -> None:
        self._recipe = recipe
        torch.manual_seed(recipe.seed)
        self.module = build(network_def())
        self.module.load_state_dict(start_weights())
        self.average = copy.deepcopy(self.module).eval().requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.step, self.cpu_s = 0, 0.0

    def advance(self, patches: Patches) -> float:
        """One step, all of whose chance comes from (seed, step)."""
        begin = time.process_time()
        recipe = self._recipe
        rng = np.random.default_rng([recipe.seed, self.step])
        images, cases = patches.draw(rng)
        dialogues = [Dialogue(one) for one in cases]
        for dialogue in dialogues:
            # Now and then there is no click at all, as when an object is followed through slices.
            if rng.random() < 0.9 or dialogue.wanted.asked is not None:
                dialogue.click(rng, 1.0)
        self.module.eval()
        for _ in range(int(rng.choice(len(recipe.rounds), p=recipe.rounds))):
            with torch.inference_mode():
                logits = self.module(_inputs(images, dialogues))
            answers = (logits[:, 1] > logits[:, 0]).numpy()
            for dialogue, answer in zip(dialogues, answers, strict=True):
                if dialogue.clicks:
                    dialogue.take(answer.copy())
                    dialogue.click(rng, recipe.all_clicks)
        self.module.train()
        loss = loss_of(self.module(_inputs(images, dialogues)), dialogues, recipe.weight_near)
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate(self.step)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self._optimiser.step()
        self._average()
        self.step += 1
        self.cpu_s += time.process_time() - begin
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self._recipe.ema_decay, (1 + self.step) / (10 + self.step))
        mean = self.average.state_dict()
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point():
                mean[name].lerp_(tensor, 1 - decay)
            else:
                mean[name].copy_(tensor)

    def checkpoint(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "recipe": json.dumps(asdict(self._recipe)),
            "step": self.step,
            "cpu_s": self.cpu_s,
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same recipe."""
        if state["recipe"] != json.dumps(asdict(self._recipe)):
            raise SystemExit(f"the checkpoint in {BUILD} is of another recipe; delete it to start afresh")
        self.step, self.cpu_s = state["step"], state["cpu_s"]
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])


def _inputs(images: Tensor, dialogues: Sequence[Dialogue]) -> Tensor:
    return torch.cat([images, torch.from_numpy(np.stack([d.seen() for d in dialogues]))], 1)


def trained(folder: Path = BUILD) -> ClickModel:
    """The model that a run left in `folder`, also of a run that is not finished."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return ClickModel(NAME, WORKING_RESOLUTION_NM, network_def(), state["average"])


def main() -> None:
    """Train it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    recipe = ClickRecipe()
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / "checkpoint.pt"
    run = Training(recipe)
    if path.exists():
        run.restore(torch.load(path, weights_only=True))
    patches = Patches(recipe)
    losses: list[float] = []
    while run.step < recipe.steps:
        losses.append(run.advance(patches))
        if run.step % 50 == 0 or run.step == recipe.steps:
            print(
                f"step {run.step}/{recipe.steps} loss {np.mean(losses[-50:]):.4f} cpu {run.cpu_s:.0f} s",
                flush=True,
            )
            torch.save(run.checkpoint(), BUILD / "checkpoint.new")
            os.replace(BUILD / "checkpoint.new", path)
    print(f"{run.step} steps, cpu {run.cpu_s:.0f} s")


if __name__ == "__main__":
    main()
