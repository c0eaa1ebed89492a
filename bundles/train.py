"""Trains a shipped model: `python -m bundles.train NAME`. A run that was stopped goes on where it was."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import torch
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.training import TrainingProgress, train

from bundles.data import MITOCHONDRIA, ROOT
from bundles.recipe import RECIPES, WORKING_RESOLUTION_NM

BUILD = ROOT / "build" / "bundles"


def trained(name: str) -> NetworkModel:
    """Train `name`, or go on with it; the weights and checkpoints lie below `build/bundles/NAME`."""
    recipe, folder = RECIPES[name], BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "checkpoint.pt"
    resume: Any = torch.load(state, weights_only=True) if state.exists() else None
    begin = time.process_time()

    def keep(checkpoint: dict[str, Any]) -> None:
        torch.save(checkpoint, folder / "checkpoint.new")
        os.replace(folder / "checkpoint.new", state)

    def report(progress: TrainingProgress) -> None:
        if progress.step % 50 == 0:
            spent = time.process_time() - begin
            print(
                f"step {progress.step}/{progress.steps} loss {progress.loss:.4f} cpu {spent:.0f} s",
                flush=True,
            )

    examples = [stack.annotated(WORKING_RESOLUTION_NM) for stack in recipe.stacks()]
    result = train(
        recipe.config,
        examples,
        None,
        classes=[MITOCHONDRIA],
        seed=recipe.seed,
        resume_from=resume,
        on_progress=report,
        on_checkpoint=keep,
    )
    spent_s = round(time.process_time() - begin)
    (folder / "run.json").write_text(json.dumps({"steps": result.metrics.steps, "cpu_s": spent_s}))
    torch.save(result.model.weights, folder / "weights.pt")
    print(f"{result.metrics.steps} steps, cpu {spent_s} s")
    return result.model


def main() -> None:
    """Train one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    trained(parser.parse_args().name)


if __name__ == "__main__":
    main()
