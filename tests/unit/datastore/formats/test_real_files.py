from __future__ import annotations

from pathlib import Path

import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions

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


def test_an_imagej_stack_with_voxels_of_ten_centimetres_opens_without_a_voxel_size(shared: Path) -> None:
    with open_source(shared / "data/formats/imagej_3d.tif") as source:
        assert (tuple(source.shape), source.voxel_size) == ((5, 16, 16), None)


def test_a_channel_of_a_real_ome_tiff_opens_when_it_is_chosen(shared: Path) -> None:
    path = shared / "data/formats/multi-channel-z-series.ome.tif"
    with pytest.raises(InvalidArgument, match="3 channels") as refused:
        open_source(path)
    assert refused.value.reason == "CHANNEL_MISSING"
    with open_source(path, SourceOptions(channel=2)) as source:
        assert (source.dtype.name, tuple(source.shape)) == ("int8", (5, 167, 439))
        assert (source.read_slab(0, 5) == tifffile.imread(path)[2]).all()


def test_a_real_file_that_is_no_volume_is_refused_with_what_it_is(shared: Path) -> None:
    path = shared / "data/formats/single-channel.ome.tiff"
    with pytest.raises(InvalidArgument, match=path.name) as refused:
        open_source(path)
    assert refused.value.reason == "NOT_A_VOLUME"
