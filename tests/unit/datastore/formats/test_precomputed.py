from __future__ import annotations

import json

import numpy as np
import pytest
import tensorstore as ts
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize

SHAPE = (9, 40, 70)


def noise(dtype="uint8", channels=1):
    return np.random.default_rng(0).integers(0, 120, (channels, *SHAPE)).astype(dtype)


def write(folder, data, resolution=(4, 5, 50), key="4_5_50", **scale):
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "multiscale_metadata": {
            "data_type": data.dtype.name,
            "num_channels": len(data),
            "type": "segmentation" if data.dtype.itemsize > 2 else "image",
        },
        "scale_metadata": {
            "key": key,
            "size": SHAPE[::-1],
            "resolution": resolution,
            "chunk_size": [32, 16, 4],
            "encoding": "raw",
            **scale,
        },
    }
    array = ts.open(spec, create=True, open=True).result()
    array[ts.d[:].translate_to[0]].write(data.transpose(3, 2, 1, 0)).result()
    return folder


def refused(folder, **options):
    with pytest.raises(InvalidArgument) as error, open_source(folder, SourceOptions(**options)) as source:
        source.read_slab(0, source.shape.z)
    return error.value.reason


SHARDS = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 1,
    "shard_bits": 1,
    "hash": "identity",
    "data_encoding": "gzip",
}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("scale", [{}, {"sharding": SHARDS}, {"voxel_offset": [100, 20, 3]}], ids=str)
def test_the_finest_scale_is_read_with_its_axes_turned(tmp_path, dtype, scale):
    data = noise(dtype)
    with open_source(write(tmp_path / "a", data, **scale)) as source:
        assert source.format == "precomputed"
        assert source.shape == SHAPE
        assert source.dtype == dtype
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 9), data[0])
        assert np.array_equal(source.read_slab(3, 6), data[0, 3:6])


def test_compressed_segmentations_are_read(tmp_path):
    data = noise("uint64")
    encoding = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
    folder = write(tmp_path / "a", data, **encoding)
    with open_source(folder, SourceOptions(accepted=ACCEPTED_LABELS)) as source:
        assert np.array_equal(source.read_slab(0, 9), data[0])
    assert refused(folder) == "BAD_DTYPE"


def test_channels_are_chosen_and_scales_by_key(tmp_path):
    folder = write(tmp_path / "a", noise(channels=2))
    write(folder, noise(channels=2) + 1, (8, 10, 50), "coarse")
    assert refused(folder) == "CHANNEL_MISSING"
    with open_source(folder, SourceOptions(channel=1)) as source:
        assert np.array_equal(source.read_slab(0, 9), noise(channels=2)[1])
    with open_source(folder, SourceOptions(channel=0, dataset="coarse")) as source:
        assert source.voxel_size == VoxelSize(50, 10, 8)
        assert np.array_equal(source.read_slab(0, 9), noise(channels=2)[0] + 1)
    assert refused(folder, channel=0, dataset="none") == "NO_DATASET"


def test_what_would_read_as_zeros_or_leads_out_is_refused(tmp_path):
    folder = write(tmp_path / "packed", noise())
    chunk = next((folder / "4_5_50").iterdir())
    chunk.rename(chunk.with_name(chunk.name + ".gz"))
    assert refused(folder) == "UNREADABLE_FILE"
    write(tmp_path / "secret", noise())
    for key in ("../secret/4_5_50", str(tmp_path / "secret" / "4_5_50"), "gs://bucket/4_5_50"):
        folder = write(tmp_path / f"a{len(key)}", noise())
        info = json.loads((folder / "info").read_text())
        info["scales"][0]["key"] = key
        (folder / "info").write_text(json.dumps(info))
        assert refused(folder) == "UNREADABLE_FILE"
    folder = write(tmp_path / "b", noise())
    (folder / "info").write_text('{"scales": [{}]}')
    assert refused(folder) == "UNREADABLE_FILE"
