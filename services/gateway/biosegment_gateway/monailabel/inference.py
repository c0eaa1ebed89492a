"""What `/infer/{model}` does: parameters of clients in, a label file and what to say about it out."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.auth import Principal
from biosegment.errors import InvalidArgument, NotFound
from biosegment.volume import BACKGROUND, Index
from biosegment_gateway.monailabel.file_reader import ReadFile
from biosegment_gateway.monailabel.file_writer import EXTENSIONS
from biosegment_gateway.monailabel.geometry import Geometry, placed
from biosegment_gateway.monailabel.info import CLICKS, CLICKS_2D, SCRIBBLES
from biosegment_gateway.monailabel.label_map import (
    BACKGROUND_NAME,
    BACKGROUND_SCRIBBLES,
    FOREGROUND_SCRIBBLES,
    ClassNames,
    from_classes,
)
from biosegment_gateway.monailabel.project import Project
from biosegment_gateway.monailabel.segmenter import Labels, Picture, Segmenter
from biosegment_gateway.monailabel.task import SEGMENTATION

MODELS: Final = (SEGMENTATION, CLICKS, CLICKS_2D, SCRIBBLES)
_DTYPES: Final = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")
_KEPT: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """The answer.

    Attributes:
        labels: (z, y, x), 0 background, 1 and up positions in `names`.
        names: Positions that occur, by name.
        extension: Of the file that is wanted.
        params: What clients are told beside it.
    """

    labels: NDArray[Any] = field(repr=False)
    names: Mapping[str, int]
    extension: str
    params: dict[str, Any]


class Inference:
    """Runs models.

    Args:
        segmenter: The trainer's process.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        # The plugin sends all clicks with each new one, and labels by a model are the same for all of them.
        self._starts: dict[tuple[Any, ...], bytes] = {}

    async def infer(
        self,
        principal: Principal,
        project: Project,
        model: str,
        picture: Picture,
        geometry: Geometry,
        params: Mapping[str, Any],
        label: ReadFile | None,
    ) -> Inferred:
        """Label a picture.

        Args:
            principal: The user.
            project: Whose classes and models.
            model: One of `MODELS`.
            picture: What to label.
            geometry: Of the picture, for the strokes.
            params: As the client sends them.
            label: File that came along: strokes.

        Raises:
            NotFound: NO_SUCH_MODEL.
            InvalidArgument: UNKNOWN_EXTENSION, BAD_PARAMETER, UNKNOWN_LABEL, NO_STROKES, GEOMETRY_MISMATCH.
            FailedPrecondition: NO_MODEL: none was trained and none is shipped.
        """
        if model not in MODELS:
            raise NotFound(
                "NO_SUCH_MODEL", f"there is no model {model[:100]!r}; there are {', '.join(MODELS)}"
            )
        extension = _extension(params)
        dtype = _dtype(params)
        begun = time.perf_counter()
        used = ""
        if model == SCRIBBLES:
            found, names = await self._strokes(principal, project, picture, geometry, params, label)
        elif model == SEGMENTATION:
            values, used = await self._segmenter.by_model(principal, project.name, picture)
            found, names = await asyncio.to_thread(from_classes, values, project.classes)
        else:
            values = await self._clicks(principal, project, picture, params, model == CLICKS_2D)
            found, names = await asyncio.to_thread(_positions, values, project, params)
        took = round(time.perf_counter() - begun, 3)
        said = {
            "label_names": names,
            "model": used,
            "latencies": {"pre": 0.0, "infer": took, "invert": 0.0, "post": 0.0, "write": 0.0, "total": took},
        }
        return Inferred(found.astype(dtype), names, extension, said)

    async def _clicks(
        self,
        principal: Principal,
        project: Project,
        picture: Picture,
        params: Mapping[str, Any],
        is_flat: bool,
    ) -> Labels:
        clicks = clicks_in(params, project.classes, picture.shape)
        start = np.full(tuple(picture.shape), BACKGROUND, np.uint8)
        if not is_flat and params.get("start", SEGMENTATION) == SEGMENTATION and "foreground" not in params:
            start = await self._start(principal, project, picture)
        if not clicks:
            return start
        return await self._segmenter.by_clicks(principal, project.name, picture, start, clicks, is_flat)

    async def _start(self, principal: Principal, project: Project, picture: Picture) -> Labels:
        """Labels by the model, which clicks then correct; remembered, for the clicks come one by one."""
        if picture.region is None:
            return (await self._segmenter.by_model(principal, project.name, picture))[0]
        newest = project.model.name if project.model is not None else ""
        key = (picture.volume, picture.region, newest, project.classes.names)
        if key in self._starts:
            data = await asyncio.to_thread(zlib.decompress, self._starts[key])
            return np.frombuffer(data, np.uint8).reshape(picture.shape)
        labels, _ = await self._segmenter.by_model(principal, project.name, picture)
        self._starts[key] = await asyncio.to_thread(zlib.compress, labels.tobytes(), 1)
        while len(self._starts) > _KEPT:
            self._starts.pop(next(iter(self._starts)))
        return labels

    async def _strokes(
        self,
        principal: Principal,
        project: Project,
        picture: Picture,
        geometry: Geometry,
        params: Mapping[str, Any],
        label: ReadFile | None,
    ) -> tuple[Labels, dict[str, int]]:
        name = str(params.get("selected_label_name") or next(iter(project.classes.names), ""))
        value = project.classes.value(name)
        if label is None:
            raise InvalidArgument("NO_STROKES", "strokes come as a label file; none came along")
        drawn = await asyncio.to_thread(
            placed, label.voxels, label.geometry, picture.shape, geometry, "the strokes"
        )
        strokes = await asyncio.to_thread(strokes_in, drawn, params.get("label_info"), value, project.classes)
        mask = await self._segmenter.by_strokes(
            principal,
            project.name,
            picture,
            strokes,
            value,
            all_slices=params.get("all_slices") is not False,
            network_features=params.get("network_features") is True,
        )
        box = _roi(params.get("roi"), picture.shape)
        outside = np.ones(mask.shape, np.bool_)
        outside[box] = False
        mask[outside] = False
        return mask.astype(np.uint8), ({name: 1} if mask.any() else {})


def clicks_in(
    params: Mapping[str, Any], classes: ClassNames, shape: Index
) -> dict[int, list[tuple[Index, bool]]]:
    """Clicks by class value, of either of the plugin's ways to say them.

    A voxel that is of one class, or of the background, is none of another: it counts as a click outside of those that
    have clicks of their own.

    Raises:
        InvalidArgument: BAD_CLICK, UNKNOWN_LABEL.
    """
    if "foreground" in params or not any(name in params for name in classes.names):
        inside = _points(params.get("foreground"), "foreground", shape)
        outside = _points(params.get("background"), "background", shape)
        if not inside and not outside:
            return {}
        name = str(params.get("label") or next(iter(classes.names), ""))
        return {classes.value(name): [*((at, True) for at in inside), *((at, False) for at in outside)]}
    points = {classes.value(name): _points(params.get(name), name, shape) for name in classes.names}
    background = _points(params.get(BACKGROUND_NAME), BACKGROUND_NAME, shape)
    found = {}
    for value, inside in points.items():
        if inside:
            others = [at for other, made in points.items() if other != value for at in made]
            found[value] = [*((at, True) for at in inside), *((at, False) for at in (*others, *background))]
    if not found and background:
        # Nothing but clicks outside: they are meant for the label that is being edited.
        value = classes.value(str(params.get("label") or next(iter(classes.names), "")))
        found[value] = [(at, False) for at in background]
    return found


def strokes_in(drawn: NDArray[Any], label_info: Any, value: int, classes: ClassNames) -> Labels:
    """Strokes as the trainer wants them: 0 none, 1 background, `value` the class.

    Args:
        drawn: Label map of all segments, (z, y, x).
        label_info: Which value is which segment: `[{"name", "id"}]`; trusted more than the usual order.
        value: Of the class that is drawn.
        classes: Of the project.

    Raises:
        InvalidArgument: NO_STROKES.
    """
    numbers = {}
    for number, item in enumerate(label_info if isinstance(label_info, list) else [], 1):
        if isinstance(item, dict) and isinstance(item.get("id", number), int):
            numbers[str(item.get("name"))] = item.get("id", number)
    usual = len(classes.names) + 1  # with the background
    inside = numbers.get(FOREGROUND_SCRIBBLES, usual + 2)
    outside = numbers.get(BACKGROUND_SCRIBBLES, usual + 1)
    strokes = np.zeros(drawn.shape, np.uint8)
    strokes[drawn == outside] = BACKGROUND
    strokes[drawn == inside] = value
    if not (strokes == value).any() or not (strokes == BACKGROUND).any():
        raise InvalidArgument(
            "NO_STROKES",
            f"draw some foreground and some background: the label file holds no voxel of {inside} or of {outside}",
        )
    return strokes


def _positions(values: Labels, project: Project, params: Mapping[str, Any]) -> tuple[Labels, dict[str, int]]:
    """All labels, or for a client that asks for one the clicked one as 1: it gives the only value its own name."""
    if "foreground" not in params:
        return from_classes(values, project.classes)
    name = str(params.get("label") or next(iter(project.classes.names), ""))
    mask = values == project.classes.value(name)
    return mask.astype(np.uint8), ({name: 1} if mask.any() else {})


def _points(value: Any, what: str, shape: Index) -> list[Index]:
    points = value if value is not None else []
    if not isinstance(points, list):
        raise InvalidArgument("BAD_CLICK", f"{what} must be a list of [i, j, k]")
    found = []
    for point in points:
        if not (
            isinstance(point, list) and len(point) == 3 and all(isinstance(at, int | float) for at in point)
        ):
            raise InvalidArgument("BAD_CLICK", f"{what} holds {str(point)[:60]!r}, which is not [i, j, k]")
        x, y, z = (round(at) for at in point)
        if not all(0 <= at < size for at, size in zip((z, y, x), shape, strict=True)):
            raise InvalidArgument(
                "BAD_CLICK",
                f"{what}: voxel {point} (i, j, k) is outside of the image of {tuple(shape)[::-1]}",
            )
        found.append(Index(z, y, x))
    return found


def _roi(value: Any, shape: Index) -> tuple[slice, slice, slice]:
    """`[imin, imax, jmin, jmax, kmin, kmax]`, all of the image when there is none."""
    whole = slice(None), slice(None), slice(None)
    if not value:
        return whole
    if not (
        isinstance(value, list) and len(value) == 6 and all(isinstance(each, int | float) for each in value)
    ):
        raise InvalidArgument("BAD_PARAMETER", f"roi is {str(value)[:80]!r}; it has six numbers")
    cuts = []
    for low, high, size in zip(value[::2], value[1::2], shape[::-1], strict=True):
        cuts.append(slice(max(0, min(size, int(low))), max(0, min(size, int(high) + 1))))
    x, y, z = cuts
    return z, y, x


def _extension(params: Mapping[str, Any]) -> str:
    extension = str(params.get("result_extension") or ".nrrd")
    if extension not in EXTENSIONS:
        raise InvalidArgument(
            "UNKNOWN_EXTENSION", f"result_extension {extension[:30]!r} is none of {', '.join(EXTENSIONS)}"
        )
    return extension


def _dtype(params: Mapping[str, Any]) -> np.dtype[Any]:
    name = str(params.get("result_dtype") or "uint8")
    if name not in _DTYPES:
        raise InvalidArgument("BAD_PARAMETER", f"result_dtype {name[:30]!r} is none of {', '.join(_DTYPES)}")
    return np.dtype(name)
