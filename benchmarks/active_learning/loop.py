"""One run: choose, annotate, train, test, until the budget is spent."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from biosegment_trainer.learning.training import TrainingConfig, train

from benchmarks.active_learning.annotator import Annotator
from benchmarks.active_learning.chooser import Chooser, parse_plan
from benchmarks.active_learning.profile import PROFILES, Profile
from benchmarks.active_learning.record import (
    ASKING_PARENT,
    EVERYTHING,
    RANDOM,
    SCRATCH,
    STARTS,
    Name,
    Round,
    read,
    write,
)
from benchmarks.active_learning.tissue import TISSUES, Tissue
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.failpoint import failpoint
from biosegment.volume import FIRST_CLASS, Index, Region
from bundles.data import MITOCHONDRIA, ROOT, Stack

STORE: Final = ROOT / "build" / "benchmarks" / "active_learning"
"""States of runs, first models and parents; can be deleted at any time, and then costs the time again."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie.

    Attributes:
        csv: Folder of the records.
        store: Folder of states.
    """

    csv: Path
    store: Path = STORE


class Loop:
    """A run, which goes on at its last finished round.

    Args:
        name: Which.
        places: Where its record and its state lie.
        device: As in `train`.
        patches: Where it ends; None for where its profile ends.

    Raises:
        InvalidArgument: UNKNOWN_RUN for an unknown tissue, profile or start.
        FailedPrecondition: OTHER_SETTINGS when its state was made with other settings.
    """

    def __init__(self, name: Name, places: Places, device: str = "cpu", patches: int | None = None) -> None:
        if name.tissue not in TISSUES or name.profile not in PROFILES or name.start not in STARTS:
            raise InvalidArgument(
                "UNKNOWN_RUN",
                f"{name}: tissues are {sorted(TISSUES)}, profiles {sorted(PROFILES)}, starts {list(STARTS)}",
            )
        self._name, self._device = name, device
        self._takes_all = name.strategy == EVERYTHING
        self._plan = parse_plan(RANDOM if self._takes_all else name.strategy)
        self._profile: Profile = PROFILES[name.profile]
        self._tissue: Tissue = TISSUES[name.tissue]()
        self._factor = self._tissue.pool.factor(self._tissue.working_nm)
        self._chooser = Chooser(
            self._tissue.pool,
            self._factor,
            self._profile.edge * self._factor,
            self._tissue.slice_distance,
            self._profile.passes,
            device,
        )
        self._annotator = Annotator(self._tissue.pool, self._factor, self._profile.margin * self._factor)
        budget = len(self._chooser.tiles) if self._takes_all else self._profile.patches[name.tissue]
        budget = patches or budget
        if not self._takes_all and (budget - self._profile.batch) % self._profile.asked:
            raise InvalidArgument(
                "BAD_BUDGET",
                f"{budget} patches are not {self._profile.batch} and a number of queries of {self._profile.asked}",
            )
        self._settings = self._described(budget)
        self._csv, self._store = places.csv / f"{name}.csv", places.store
        self._state = self._store / "runs" / f"{name}.pt"
        self._regions: list[Region] = []
        self._model: NetworkModel | None = None
        self._rounds: list[Round] = []
        self._restore()

    def _described(self, budget: int) -> dict[str, Any]:
        return {
            **asdict(self._name),
            "budget": budget,
            "candidates": len(self._chooser),
            "slice_distance": self._plan.slice_distance or self._tissue.slice_distance,
            "pool": self._tissue.pool.name,
            "test": self._tissue.test.name,
            "settings": repr(self._profile),
            "query": self._profile.asked,
            "device": self._device,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "machine": _machine(),
        }

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return bool(self._rounds) and self._rounds[-1].patches >= self._settings["budget"]

    @property
    def _trainings(self) -> int:
        """On samples, so far."""
        return sum(row.patches > 0 for row in self._rounds)

    def run(self, say: Callable[[str], None] = print) -> None:
        """All rounds that are left."""
        while not self.finished:
            self._round()
            self._save()
            failpoint("active_learning.round_saved")
            last = self._rounds[-1]
            say(f"{self._name}: {last.patches} patches, IoU {last.iou:.3f} {last.notice}")

    def more(self, steps: int) -> tuple[int, float, float]:
        """Patches and IoU of the last finished round, and the IoU after so many steps more on the same patches.

        Whether rounds train long enough: if they do, this is chance. Nothing of it is kept.
        """
        if not self._rounds or self._model is None:
            raise FailedPrecondition("NO_ROUND", f"{self._name} has no finished round; run it first")
        last = self._rounds[-1]
        model = self._trained(steps, salt=500)
        return last.patches, last.iou, reached_iou(model, self._tissue.test, self._factor, self._device)

    def _round(self) -> None:
        profile = self._profile
        begin, notice = time.process_time(), ""
        if self._name.start != SCRATCH and not self._rounds:
            self._model = self._parent()
            self._rounds.append(self._tested(0, 0.0, 0.0, ""))
            return
        if self._takes_all:
            fresh = self._chooser.tiles
        elif not self._regions and self._name.start != ASKING_PARENT:
            fresh = self._chooser.start(profile.batch, self._name.seed)
        else:
            count = profile.asked if self._regions else profile.batch
            choice = self._chooser.choose(
                self._plan, self._model, self._regions, count, self._trainings, self._name.seed
            )
            fresh, notice = choice.regions, choice.notice
        chosen = time.process_time() - begin
        is_first = not self._regions
        self._regions = self._regions + fresh
        if is_first and not self._takes_all and self._name.start != ASKING_PARENT:
            trained = self._first()
        else:
            begin = time.process_time()
            self._model = self._trained(self._steps(is_first))
            trained = time.process_time() - begin
        self._rounds.append(self._tested(self._trainings + 1, trained, chosen, notice))

    def _steps(self, is_first: bool) -> int:
        """Of the next training: of all patches at once, as many as a run has in all."""
        profile = self._profile
        if self._takes_all:
            queries = (profile.patches[self._name.tissue] - profile.batch) // profile.asked
            return profile.first_steps + queries * profile.training.steps
        return profile.first_steps if is_first else profile.training.steps

    def _trained(self, steps: int, salt: int = 0) -> NetworkModel:
        config: TrainingConfig = dataclasses.replace(self._profile.training, steps=steps)
        return train(
            config,
            self._annotator.annotate(self._regions),
            self._model,
            classes=[MITOCHONDRIA],
            # Another round draws other patches.
            seed=1000 * self._name.seed + len(self._regions) + salt,
            device=self._device,
        ).model

    def _first(self) -> float:
        """Train on the starting set, once for all strategies; returns the processor time that it took."""
        kind = f"{self._name.profile}-{self._name.tissue}-{self._name.start}-{self._name.seed}"
        steps = self._profile.first_steps
        self._model, seconds = self._once(f"first/{kind}", lambda: self._trained(steps))
        return seconds

    def _parent(self) -> NetworkModel:
        def trained() -> NetworkModel:
            config = dataclasses.replace(self._profile.training, steps=self._profile.parent_steps)
            examples = [self._tissue.parent().annotated(self._tissue.working_nm)]
            return train(config, examples, None, classes=[MITOCHONDRIA], seed=0, device=self._device).model

        return self._once(f"parents/{self._name.profile}-{self._name.tissue}", trained)[0]

    def _once(self, what: str, make: Callable[[], NetworkModel]) -> tuple[NetworkModel, float]:
        """A model that several runs share, and the processor time that it took."""
        path = self._store / f"{what}.pt"
        identity = {k: self._settings[k] for k in ("pool", "settings", "device", "threads", "torch")}
        with locked(path):
            if path.exists():
                found = torch.load(path, weights_only=True)
                if found["identity"] == identity:
                    return self._model_of(found["weights"]), found["seconds"]
            begin = time.process_time()
            model = make()
            seconds = time.process_time() - begin
            keep(path, {"identity": identity, "weights": model.weights, "seconds": seconds})
            return model, seconds

    def _tested(self, number: int, trained: float, chosen: float, notice: str) -> Round:
        assert self._model is not None
        begin = time.process_time()
        reached = reached_iou(self._model, self._tissue.test, self._factor, self._device)
        return Round(
            round=number,
            patches=len(self._regions),
            iou=reached,
            foreground_voxels=self._annotator.foreground_voxels(self._regions),
            annotation_s=self._annotator.seconds(self._regions),
            train_s=trained,
            choose_s=chosen,
            test_s=time.process_time() - begin,
            notice=notice,
        )

    def _model_of(self, weights: dict[str, torch.Tensor]) -> NetworkModel:
        return NetworkModel(self._profile.training.network, (MITOCHONDRIA,), weights)

    def _save(self) -> None:
        assert self._model is not None
        state = {
            "settings": self._settings,
            "rounds": [asdict(row) for row in self._rounds],
            "regions": [[*region.start, *region.stop] for region in self._regions],
            "weights": self._model.weights,
        }
        keep(self._state, state)
        write(self._csv, self._settings, self._rounds)

    def _restore(self) -> None:
        if not self._state.exists():
            # Done on another machine; a run that was not goes on only where its state is.
            if self._csv.exists() and (record := read(self._csv)).patches >= self._settings["budget"]:
                self._rounds = list(record.rounds)
            return
        state = torch.load(self._state, weights_only=True)
        # A run may be made longer: its rounds do not depend on where it ends.
        # A state of before queries had a size of their own does not name it.
        state["settings"].setdefault("query", self._profile.batch)
        differs = {k for k in self._settings if state["settings"].get(k) != self._settings[k]} - {"budget"}
        if differs:
            raise FailedPrecondition(
                "OTHER_SETTINGS",
                f"{self._state} was made with other {sorted(differs)}; delete it to begin the run anew",
            )
        self._rounds = [Round(**row) for row in state["rounds"]]
        self._regions = [Region(Index(*v[:3]), Index(*v[3:])) for v in state["regions"]]
        self._model = self._model_of(state["weights"])
        # The last kill may have come between the two files.
        write(self._csv, self._settings, self._rounds)


def _machine() -> str:
    """With what tells kinds of processor apart: the same run gives other weights on another kind."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), processor
        )
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {instructions}, {os.cpu_count()} cores, {platform.system()}"


def reached_iou(model: NetworkModel, stack: Stack, factor: int, device: str) -> float:
    """Of the foreground, at full resolution, predicted as the platform does."""
    shape = Index(*stack.raw.shape)
    config = PredictionConfig(factor=factor, measures=(), backend="eager")
    found = predict_block(
        model,
        lambda region: stack.raw[region.slices],
        Region(Index(0, 0, 0), shape),
        shape,
        stack.statistics,
        config,
        device,
    )
    assert found.labels is not None
    guess = found.labels == FIRST_CLASS
    return float((guess & stack.truth).sum() / max(1, (guess | stack.truth).sum()))


def keep(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    torch.save(state, draft)
    draft.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock of a killed one is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
