"""Computing an answer: voxels and prompts in, a mask in the same geometry out. Importing this module loads torch."""

from __future__ import annotations

import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from biosegment.volume import Index, Region
from biosegment_trainer.interaction.task import (
    LabelTask,
    ModelPlace,
    SegmentAnswer,
    SegmenterConfig,
    SegmentTask,
)
from biosegment_trainer.learning.clicks.mask import flood
from biosegment_trainer.learning.clicks.refinement import Click, ClickModel, refine
from biosegment_trainer.learning.normalisation import LIMIT, SliceStatistics, standardise
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor
from biosegment_trainer.registry.bundle_files import download_bundle
from biosegment_trainer.scribbles.segmentation import ScribbleSegmenter
from biosegment_trainer.training.worker import load_model

Mask = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_T = TypeVar("_T")
_KEPT: Final = 2


class Engine:
    """Models and features that are kept from one request to the next; for one thread.

    Args:
        config: Where bundles are, and how much of the machine to use.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        torch.set_num_threads(config.threads)
        self._config = config
        self._opened: BlockingObjects | None = None
        self._clicks: _Kept[ClickModel] = _Kept()
        self._segmenters: _Kept[ScribbleSegmenter] = _Kept()
        self._predictors: _Kept[Predictor] = _Kept()

    def segment(self, task: SegmentTask | LabelTask) -> SegmentAnswer:
        """Answer one request; errors of the learning core and of the store."""
        if isinstance(task, LabelTask):
            return self._label(task)
        canvas = _Canvas(task)
        if task.scribbles is not None:
            self._scribble(canvas, task, task.scribbles)
        if task.clicks:
            self._refine(canvas, task)
        return canvas.answer()

    def _label(self, task: LabelTask) -> SegmentAnswer:
        # Classes too: a project may have renamed or added some since.
        key = f"{task.model.model_id} {task.factor} {task.model.classes}"
        predictor = self._predictors.get(key, lambda: self._make_predictor(task))
        whole, statistics = Region.of_shape(task.voxels.shape), SliceStatistics(task.mean, task.std)
        parts = predictor.predict(lambda part: task.voxels[part.slices], whole, task.voxels.shape, statistics)
        labels = np.concatenate([part.labels for part in parts if part.labels is not None])
        return SegmentAnswer(zlib.compress(labels[task.region.slices].tobytes(), 1), b"", None)

    def _make_predictor(self, task: LabelTask) -> Predictor:
        model = load_model(self._objects, task.model.key, task.model.classes)
        config = PredictionConfig(factor=task.factor, measures=(), backend="eager")
        return Predictor(model, config, self._config.device or None)

    def _scribble(self, canvas: _Canvas, task: SegmentTask, scribbles: Bytes) -> None:
        name = task.shallow.model_id if task.shallow is not None else ""
        segmenter = self._segmenters.get(name, lambda: self._make_segmenter(task.shallow))
        strokes = canvas.turned(task.grid.strokes(scribbles))
        _, top, left = canvas.turned_position(task.margin)
        answer = segmenter.segment(
            (task.image_key, task.plane), canvas.wide_image, strokes, context=(top, left), draft=task.draft
        )
        canvas.replace_slices(answer.labels, answer.probabilities.get(task.class_value), task.class_value)

    def _refine(self, canvas: _Canvas, task: SegmentTask) -> None:
        place = task.model
        assert place is not None
        model = self._clicks.get(place.model_id, lambda: self._read_clicks(place))
        clicks = [
            Click(canvas.turned_position(task.grid.position_of(click.position)), click.positive)
            for click in task.clicks
        ]
        through = task.plane.value == "3d"
        refined = refine(model, canvas.image, canvas.mask.astype(np.uint8), clicks, through=through)
        canvas.replace(refined.mask != 0, refined.probability, refined.changed, clicks)

    def _read_clicks(self, place: ModelPlace) -> ClickModel:
        with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
            download_bundle(self._objects, place.key, Path(folder))
            return ClickModel.read(Path(folder), self._config.device or None)

    def _make_segmenter(self, place: ModelPlace | None) -> ScribbleSegmenter:
        shallow = load_model(self._objects, place.key, place.classes) if place is not None else None
        return ScribbleSegmenter(shallow=shallow, threads=self._config.threads)

    @property
    def _objects(self) -> BlockingObjects:
        if self._opened is None:
            self._opened = open_blocking_objects(self._config.store)
        return self._opened


class _Kept(Generic[_T]):
    """What was made before, the least recently used dropped."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, _T] = OrderedDict()

    def get(self, key: str, make: Callable[[], _T]) -> _T:
        if key not in self._items:
            self._items[key] = make()
            if len(self._items) > _KEPT:
                self._items.popitem(last=False)
        self._items.move_to_end(key)
        return self._items[key]


class _Canvas:
    """The image and the mask at working pixels, the slices of the plane along the first axis."""

    def __init__(self, task: SegmentTask) -> None:
        self._task = task
        grid = task.grid
        raw = standardise(task.voxels.astype(np.float32), SliceStatistics(task.mean, task.std))
        self.wide_image: Float32 = np.clip(self.turned(task.surroundings.image(raw)), -LIMIT, LIMIT)
        inner = Region.of_shape(grid.shape, task.margin)
        self.image: Float32 = np.ascontiguousarray(
            self.wide_image[tuple(inner.slices[axis] for axis in task.plane.order)]
        )
        if task.previous is None:
            shares = np.zeros(grid.shape, np.float32)
        else:
            shares = grid.shares(task.previous)
        self._before = self.turned(shares >= 0.5)
        self._held = self.turned(shares > 0)
        self._mixed = self._held & self.turned(shares < 1)
        self.mask: Mask = self._before.copy()
        self._probability = np.where(self.mask, np.uint8(255), np.uint8(0))
        self._clicks: Sequence[Click] = ()
        self._touched: list[slice] | None = None

    def turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array (z, y, x) with the axis across the plane first."""
        return np.ascontiguousarray(array.transpose(self._task.plane.order))

    def turned_position(self, position: Index) -> tuple[int, int, int]:
        one, two, three = (position[axis] for axis in self._task.plane.order)
        return one, two, three

    def replace_slices(self, labels: Bytes, probability: Bytes | None, value: int) -> None:
        """Take over the slices that strokes answered."""
        answered = np.flatnonzero(labels.any((1, 2)))
        if not len(answered):
            return
        self.mask[answered] = labels[answered] == value
        self._probability[answered] = 0 if probability is None else probability[answered]
        _, rows, columns = labels.shape
        self._touch((slice(int(answered[0]), int(answered[-1]) + 1), slice(0, rows), slice(0, columns)))

    def replace(
        self, mask: Mask, probability: Bytes, changed: tuple[slice, slice, slice], clicks: Sequence[Click]
    ) -> None:
        """Take over a box, which follows from clicks on some of its pixels."""
        self.mask[changed] = mask[changed]
        self._probability[changed] = probability[changed]
        self._clicks = clicks
        self._touch(changed)

    def answer(self) -> SegmentAnswer:
        """Back at voxels of level 0: only those of pixels that changed are replaced."""
        task, grid = self._task, self._task.grid
        mask = np.zeros(task.region.shape, np.uint8) if task.previous is None else task.previous.copy()
        pointed = self._pointed_at()
        part = self._changed_voxels()
        if part is not None:
            differs = self.mask != self._before
            # A voxel of the old outline that shares its pixel with others would be left behind as a speck.
            differs |= self._mixed & _near(differs)
            differs |= pointed
            where = grid.at_voxels(self._unturned(differs), part)
            new = grid.at_voxels(self._unturned(self.mask), part)
            np.copyto(mask[part.slices], new, where=where, casting="unsafe")
        probability = b""
        if task.with_probability:
            shares = grid.at_voxels(self._unturned(self._probability))
            probability = zlib.compress(np.ascontiguousarray(shares, np.uint8).tobytes(), 1)
        changed = part.shifted(task.region.start) if part is not None else None
        return SegmentAnswer(zlib.compress(mask.tobytes(), 1), probability, changed)

    def _pointed_at(self) -> Mask:
        """Pixels that take all of their voxels along, though they may be as they were: who clicks means the voxel.

        After a negative click that is all that is connected with it and too little for a pixel of the mask.
        """
        found: Mask = np.zeros(self.mask.shape, np.bool_)
        for click in self._clicks:
            # Of several clicks on a pixel the last counts.
            found[click.position] = self.mask[click.position] == click.positive
        for z in sorted({click.position[0] for click in self._clicks if not click.positive}):
            specks = flood(found[z] & ~self.mask[z], self._held[z] & ~self.mask[z])
            # The outline of what stays is not left behind.
            found[z] |= specks & self._mixed[z] & ~_near(self.mask[z : z + 1])[0]
        edges = [np.flatnonzero(found.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
        if len(edges[0]):
            planes, rows, columns = (slice(int(each[0]), int(each[-1]) + 1) for each in edges)
            self._touch((planes, rows, columns))
        return found

    def _changed_voxels(self) -> Region | None:
        """What was touched, in voxels of level 0 of the region's frame."""
        if self._touched is None:
            return None
        edges: list[slice] = [slice(0)] * 3
        for axis, cut in zip(self._task.plane.order, self._touched, strict=True):
            edges[axis] = cut
        start, stop = (Index(*(getattr(cut, end) for cut in edges)) for end in ("start", "stop"))
        return self._task.grid.voxels_of(Region(start, stop))

    def _unturned(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.transpose(tuple(np.argsort(self._task.plane.order)))

    def _touch(self, box: tuple[slice, slice, slice]) -> None:
        if self._touched is None:
            self._touched = list(box)
            return
        pairs = zip(self._touched, box, strict=True)
        self._touched = [slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs]


def _near(mask: Mask) -> Mask:
    """The pixels of a mask and their neighbours within the plane."""
    if not mask.any():
        return mask
    planes = torch.from_numpy(mask)[:, None].float()
    return F.max_pool2d(planes, 3, 1, 1)[:, 0].numpy() > 0
