from __future__ import annotations

import numpy as np
import pytest
from biosegment_datastore.imports.label_value import ClassValues, InstanceIds, UnknownValues

from biosegment.errors import InvalidArgument

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("other", [None, 4])
def test_values_of_every_type_mean_what_was_said(dtype, other):
    top = np.iinfo(dtype).max
    values = {1: 2, 7: 1, 100: 0, 3_000_000_000: 5, 101: 3}
    if other is not None:
        del values[101]
    stored = np.array([[0, 1, 7], [100, 101, min(top, 3_000_000_000)]], dtype)
    last = values.get(int(stored[1, 2]), other)
    if last is None:  # the largest value of a small type: say what it means
        values[int(stored[1, 2])] = last = 6
    labels, unknown = ClassValues(values, 1, other).translated(stored)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 2, 1], [0, 3 if other is None else 4, last]]
    assert unknown == []


@pytest.mark.parametrize("dtype", INTEGERS)
def test_values_that_nothing_is_said_about_are_told(dtype):
    stored = np.array([[0, 5, 9, 5, 100, np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
    _, unknown = ClassValues({9: 2}, 0).translated(stored)
    expected = {5, 100, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)} - {0}
    assert unknown == sorted(expected)


def test_one_bit_labels_mean_what_was_said():
    labels, unknown = ClassValues({1: 3}, 0).translated(np.array([[True, False]]))
    assert (labels.tolist(), unknown) == ([[3, 0]], [])


@pytest.mark.parametrize(
    ("dtype", "made"), [("bool", "uint32"), ("uint16", "uint32"), ("int32", "uint32"), ("uint64", "uint64")]
)
def test_ids_are_kept(dtype, made):
    stored = np.array([0, 1, 1 if dtype == "bool" else 40_000 if dtype != "uint64" else 1 << 60], dtype)
    ids, unknown = InstanceIds().translated(stored)
    assert (ids.dtype.name, ids.tolist(), unknown) == (made, stored.astype(object).astype(int).tolist(), [])


def test_negative_ids_are_told():
    _, unknown = InstanceIds().translated(np.array([4, -3, -1], np.int32))
    assert unknown == [-3, -1]


def test_the_message_lists_twenty_values_and_says_that_there_are_more():
    unknown = UnknownValues(set(range(10, 35)))
    with pytest.raises(InvalidArgument) as caught:
        unknown.require_none("labels.tif", ClassValues({}, 0))
    assert caught.value.reason == "UNMAPPED_VALUES"
    assert ", ".join(map(str, range(10, 30))) + " and more" in caught.value.message
    with pytest.raises(InvalidArgument, match="holds the values 3, 9, and") as few:
        UnknownValues({9, 3}).require_none("labels.tif", ClassValues({}, 0))
    assert "more" not in few.value.message
