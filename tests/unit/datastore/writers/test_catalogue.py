from __future__ import annotations

import pytest
from biosegment_datastore.formats.writers.catalogue import BY_KEY, FORMATS

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.client.transfer_jobs import EXPORT_FORMATS
from biosegment.errors import InvalidArgument


def test_every_format_of_the_contract_has_a_writer():
    names = [
        name.removeprefix("FORMAT_").lower() for name, number in job_pb2.ExportSpec.Format.items() if number
    ]
    assert [each.key for each in FORMATS] == names
    assert list(EXPORT_FORMATS) == names
    for each in FORMATS:
        assert callable(each.writer())


@pytest.mark.parametrize(
    ("key", "dtype", "is_labels", "what", "better", "worse"),
    [
        ("mrc", "uint32", True, "MRC cannot hold uint32 voxels", "nifti", "amiramesh"),
        ("amiramesh", "int8", False, "AmiraMesh cannot hold int8 voxels", "mrc", "ims"),
        ("ims", "int16", False, "Imaris cannot hold int16 voxels", "amiramesh", "mib_model"),
        ("mib_model", "uint8", False, "MIB model cannot hold grey values", "tiff", "mib_model"),
        ("ome_tiff", "uint64", True, "OME-TIFF cannot hold uint64 voxels", "ome_zarr", "ims"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_those_that_can(key, dtype, is_labels, what, better, worse):
    with pytest.raises(InvalidArgument) as raised:
        BY_KEY[key].require(dtype, is_labels)
    assert raised.value.reason == "FORMAT_CANNOT_HOLD"
    said, _, others = raised.value.message.partition("; these formats can: ")
    assert said == what
    assert better in others.split(", ")
    assert worse not in others.split(", ")


def test_a_labels_layer_fits_into_every_format():
    assert all(each.holds("uint8", True) for each in FORMATS)
