from __future__ import annotations

from pathlib import Path

import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize


@pytest.mark.parametrize(
    ("name", "shape", "voxel_size"),
    [
        ("epfl/train_raw.tif", (165, 768, 1024), VoxelSize(5, 5, 5)),
        ("epfl/train_mito.tif", (165, 768, 1024), VoxelSize(5, 5, 5)),
        ("vnc/raw.tif", (20, 1024, 1024), VoxelSize(50, 4.6, 4.6)),
    ],
)
def test_real_volumes_open_with_their_shape_and_voxel_size(
    shared: Path, name: str, shape: tuple[int, int, int], voxel_size: VoxelSize
) -> None:
    with open_source(shared / "data" / name) as source:
        assert (tuple(source.shape), source.dtype.name, source.voxel_size) == (shape, "uint8", voxel_size)
        slab = source.read_slab(3, 5)
    assert (slab == tifffile.imread(shared / "data" / name, key=range(3, 5))).all()


def test_an_imagej_stack_opens(shared: Path) -> None:
    with open_source(shared / "data/formats/imagej_3d.tif") as source:
        assert tuple(source.shape) == (5, 16, 16)


@pytest.mark.parametrize("name", ["single-channel.ome.tiff", "multi-channel-z-series.ome.tif"])
def test_real_files_that_are_no_volume_are_refused_with_what_they_are(shared: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match=name) as refused, open_source(shared / "data/formats" / name):
        pass
    assert refused.value.reason == "NOT_A_VOLUME"
