from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import zarr
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize

SHAPE = (9, 20, 33)  # of the bounding box, zyx
START = (2, 3, 5)


def noise(dtype="uint8", channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 120, (channels, *SHAPE)).astype(dtype)


def layer(folder, name, data, zarr_format=2, path=None, **changes):
    """Arrays are cxyz, and larger than the bounding box that counts."""
    place = folder / name / "1"
    array = zarr.create_array(
        place, shape=(len(data), 40, 32, 16), chunks=(1, 8, 8, 8), dtype=data.dtype, zarr_format=zarr_format
    )
    z, y, x = (slice(low, low + size) for low, size in zip(START, SHAPE, strict=True))
    array[:, x, y, z] = data.transpose(0, 3, 2, 1)
    return {
        "name": name,
        "category": "color",
        "boundingBox": {"topLeft": list(START[::-1]), "width": 33, "height": 20, "depth": 9},
        "elementClass": data.dtype.name,
        "dataFormat": "zarr" if zarr_format == 2 else "zarr3",
        "mags": [
            {"mag": [2, 2, 1], "path": f"{name}/2-2-1"},
            {"mag": [1, 1, 1], "path": path or f"./{name}/1", "axisOrder": {"c": 0, "x": 1, "y": 2, "z": 3}},
        ],
        **changes,
    }


def write(folder, *layers, scale=None):
    properties = {
        "id": {"name": "a", "team": ""},
        "dataLayers": layers,
        "scale": scale or {"factor": [4, 5, 50], "unit": "nanometer"},
    }
    (folder / "datasource-properties.json").write_text(json.dumps(properties))
    return folder


def refused(folder, **options):
    with pytest.raises(InvalidArgument) as error, open_source(folder, SourceOptions(**options)) as source:
        source.read_slab(0, source.shape.z)
    return error.value.reason


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_finest_magnification_is_read_inside_of_its_bounding_box(tmp_path, zarr_format, dtype):
    data = noise(dtype)
    with open_source(write(tmp_path, layer(tmp_path, "color", data, zarr_format))) as source:
        assert source.format == "WEBKNOSSOS"
        assert source.shape == SHAPE
        assert source.dtype == dtype
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 9), data[0])
        assert np.array_equal(source.read_slab(3, 7), data[0, 3:7])


def test_an_older_scale_is_in_nanometres_and_others_have_units(tmp_path):
    color = layer(tmp_path, "color", noise())
    for scale in ([4, 5, 50], {"factor": [0.004, 0.005, 0.05], "unit": "micrometer"}):
        with open_source(write(tmp_path, color, scale=scale)) as source:
            assert source.voxel_size == VoxelSize(50, 5, 4)


def test_the_image_is_taken_and_labels_by_name(tmp_path):
    labels = noise("uint32", seed=1)
    folder = write(tmp_path, layer(tmp_path, "color", noise()), layer(tmp_path, "segmentation", labels))
    with open_source(folder) as source:
        assert np.array_equal(source.read_slab(0, 9), noise()[0])
    with open_source(folder, SourceOptions(dataset="segmentation", accepted=ACCEPTED_LABELS)) as source:
        assert np.array_equal(source.read_slab(0, 9), labels[0])
    assert refused(folder, accepted=ACCEPTED_LABELS) == "DATASET_MISSING"
    assert refused(folder, dataset="none") == "NO_DATASET"


def test_a_channel_is_chosen(tmp_path):
    folder = write(tmp_path, layer(tmp_path, "color", noise(channels=3)))
    with open_source(folder, SourceOptions(channel=2)) as source:
        assert np.array_equal(source.read_slab(0, 9), noise(channels=3)[2])
    assert refused(folder) == "CHANNEL_MISSING"


def test_what_is_elsewhere_or_of_another_kind_is_refused(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "a").mkdir()
    layer(tmp_path / "secret", "color", noise())
    for path in ("../secret/color/1", str(tmp_path / "secret/color/1"), "https://host/color/1"):
        color = layer(tmp_path / "a", f"color{len(path)}", noise(), path=path)
        assert refused(write(tmp_path / "a", color)) == "UNREADABLE_FILE"
    wrong: tuple[dict[str, Any], ...] = (
        {"dataFormat": "wkw"},
        {"boundingBox": {"topLeft": [0, 0, 0], "width": 41, "height": 20, "depth": 9}},
        {"boundingBox": {"topLeft": [-1, 0, 0], "width": 20, "height": 20, "depth": 9}},
        {"boundingBox": {}},
        {"mags": []},
    )
    for changes in wrong:
        color = layer(tmp_path / "a", f"color{len(str(changes))}", noise(), **changes)
        assert refused(write(tmp_path / "a", color)) == "UNREADABLE_FILE"
    (tmp_path / "a" / "datasource-properties.json").write_text("[]")
    assert refused(tmp_path / "a") == "UNREADABLE_FILE"
