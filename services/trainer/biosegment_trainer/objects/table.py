"""The table of objects: one row each, units in the names of the columns, as CSV and as Parquet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from biosegment_trainer.objects.grid import ObjectGrid
from biosegment_trainer.objects.sums import ObjectSums
from biosegment_trainer.objects.surface import areas_nm2


def object_table(sums: ObjectSums, grid: ObjectGrid, class_value: int, class_name: str) -> pa.Table:
    """One row for each object, by id.

    Columns: `id`; `class_value` and `class_name`, 0 and '' when the layer does not say; `voxels` of the layer;
    `volume_um3`; `equivalent_diameter_nm` of the sphere of that volume; `surface_um2`, by
    `biosegment_trainer.objects.surface`: where the volume ends, so does the object; `bbox_start_*_voxels` and
    `bbox_stop_*_voxels`, half-open, level 0; `centroid_*_voxels`, level 0; `centroid_*_nm` from the centre of the
    volume's first voxel; `length_nm`, `elongation`, `flatness`, `axis_*`; `touches_border` of the volume or of the part
    of it that the layer speaks of; with an image `intensity_mean`, `_std` (of these voxels, not of a sample), `_min`
    and `_max`.

    Shape comes from the three principal second moments a >= b >= c of the object, a solid of boxes of a voxel's size:
    `elongation` is sqrt(a / b), `flatness` sqrt(b / c), `length_nm` the longest axis of the ellipsoid with these
    moments, 2 sqrt(5 a), and `axis_*` its direction, a unit vector whose largest component is positive.
    """
    size = grid.layer_voxel_size
    edges = np.array([*size])
    volumes_nm3 = sums.voxels * edges.prod()
    factor = np.array([*grid.downsampling])
    centroid = (sums.positions / sums.voxels[:, None] + 0.5) * factor - 0.5
    start, stop = sums.start * factor, np.minimum(sums.stop * factor, [*grid.volume_shape])
    moments, axis = _principal(sums, edges)
    columns: dict[str, object] = {
        "id": sums.ids,
        "class_value": np.full(len(sums), class_value, np.uint32),
        "class_name": pa.array([class_name] * len(sums), pa.string()),
        "voxels": sums.voxels,
        "volume_um3": volumes_nm3 / 1e9,
        "equivalent_diameter_nm": np.cbrt(6 * volumes_nm3 / np.pi),
        "surface_um2": areas_nm2(sums.exposed, size) / 1e6,
    }
    columns |= {f"bbox_start_{name}_voxels": start[:, i] for i, name in enumerate("zyx")}
    columns |= {f"bbox_stop_{name}_voxels": stop[:, i] for i, name in enumerate("zyx")}
    columns |= {f"centroid_{name}_voxels": centroid[:, i] for i, name in enumerate("zyx")}
    nm = centroid * [*grid.voxel_size]
    columns |= {f"centroid_{name}_nm": nm[:, i] for i, name in enumerate("zyx")}
    columns["length_nm"] = 2 * np.sqrt(5 * moments[:, 0])
    columns["elongation"] = np.sqrt(moments[:, 0] / moments[:, 1])
    columns["flatness"] = np.sqrt(moments[:, 1] / moments[:, 2])
    columns |= {f"axis_{name}": axis[:, i] for i, name in enumerate("zyx")}
    columns["touches_border"] = (start <= [*grid.region.start]).any(1) | (stop >= [*grid.region.stop]).any(1)
    if sums.values.shape[1]:
        columns |= _intensities(sums)
    return pa.table(columns)


def _principal(
    sums: ObjectSums, edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 3) principal moments in nm2, largest first, and (n, 3) the direction of the first, zyx."""
    # A voxel is not a point: the moments of a box about its own middle are added.
    moments = sums.central() * np.outer(edges, edges) + np.diag(edges**2 / 12)
    values, vectors = np.linalg.eigh(moments)
    axis = vectors[:, :, 2]
    largest = np.take_along_axis(axis, np.abs(axis).argmax(1)[:, None], 1)
    # Of a ball's moments rounding may leave less than there is in one voxel.
    return np.maximum(values[:, ::-1], edges.min() ** 2 / 12), axis * np.sign(largest)


def _intensities(sums: ObjectSums) -> dict[str, object]:
    return {
        "intensity_mean": sums.values[:, 0] / sums.voxels,
        "intensity_std": np.sqrt(sums.variances()),
        "intensity_min": sums.extremes[:, 0],
        "intensity_max": sums.extremes[:, 1],
    }


def csv_bytes(table: pa.Table) -> bytes:
    """The table as CSV with a header; numbers with all of their digits, `true` and `false`."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return bytes(sink.getvalue())


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet, compressed with zstd."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
