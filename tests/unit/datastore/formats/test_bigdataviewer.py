from __future__ import annotations

import h5py
import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize

SHAPE = (9, 21, 14)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 2**16, SHAPE).astype(np.uint16)


def write(path, times=1, setups=(0,)):
    """As BigDataViewer does: levels of every setup and time point, unsigned voxels kept as signed ones."""
    with h5py.File(path, "w") as file:
        for setup in setups:
            file[f"s{setup:02}/resolutions"] = [[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]]
            file[f"s{setup:02}/subdivisions"] = [[8, 8, 4], [8, 8, 4]]
            for time in range(times):
                data = noise(100 * time + setup).view(np.int16)
                for level, part in enumerate((data, data[:, ::2, ::2])):
                    place = f"t{time:05}/s{setup:02}/{level}/cells"
                    file.create_dataset(place, data=part, chunks=(4, 7, 7), compression="gzip")
    views = "".join(
        f"<ViewSetup><id>{setup}</id><size>14 21 9</size><voxelSize><unit>um</unit>"
        f"<size>0.00{4 + setup} 0.005 0.05</size></voxelSize></ViewSetup>"
        for setup in setups
    )
    sequence = f"<SequenceDescription><ViewSetups>{views}</ViewSetups></SequenceDescription>"
    path.with_suffix(".xml").write_text(f'<SpimData version="0.2">{sequence}</SpimData>')
    return path


def test_the_finest_level_is_read_as_unsigned_with_the_voxel_size_of_the_xml_beside_it(tmp_path):
    with open_source(write(tmp_path / "a.h5")) as source:
        assert source.format == "BigDataViewer HDF5"
        assert source.shape == SHAPE
        assert source.dtype == np.uint16
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 9), noise(0))
        assert np.array_equal(source.read_slab(3, 7), noise(0)[3:7])


def test_view_setup_and_time_point_are_chosen(tmp_path):
    path = write(tmp_path / "a.h5", times=2, setups=(0, 3))
    with open_source(path, SourceOptions(channel=1, time_point=1)) as source:
        assert source.voxel_size == VoxelSize(50, 5, 7)
        assert np.array_equal(source.read_slab(0, 9), noise(103))
    with pytest.raises(InvalidArgument) as error:
        open_source(path, SourceOptions(time_point=1))
    assert error.value.reason == "CHANNEL_MISSING"


def test_another_level_is_a_data_set_as_in_any_file(tmp_path):
    path = write(tmp_path / "a.h5")
    with open_source(path, SourceOptions(dataset="t00000/s00/1/cells")) as source:
        assert source.shape == (9, 11, 7)


@pytest.mark.parametrize(
    "xml", [None, "<SpimData", "<!DOCTYPE a [<!ENTITY b 'c'>]><SpimData/>", "<SpimData/>"]
)
def test_without_a_sound_xml_the_voxel_size_is_unknown(tmp_path, xml):
    path = write(tmp_path / "a.h5")
    path.with_suffix(".xml").unlink()
    if xml is not None:
        path.with_suffix(".xml").write_text(xml)
    with open_source(path) as source:
        assert source.voxel_size is None
