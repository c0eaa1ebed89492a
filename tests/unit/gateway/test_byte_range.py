from __future__ import annotations

import pytest
from biosegment_gateway.http.byte_range import UnsatisfiableRange, parse_range
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        # RFC 9110, 14.1.2, of an object of 10000 bytes
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 1000)),
        ("bytes=-500", (9500, 10000)),
        ("bytes=9500-", (9500, 10000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=-1", (9999, 10000)),
        ("bytes=9999-99999", (9999, 10000)),
        ("bytes=-99999", (0, 10000)),
        ("Bytes=1-2", (1, 3)),
        ("bytes = 1-2 ", (1, 3)),
        # malformed, of another unit, or several: the whole
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=a-b", None),
        ("bytes=1-2-3", None),
        ("bytes=--1", None),
        ("bytes=+1-2", None),
        ("bytes=0x1-2", None),
        ("bytes=١-٢", None),
        ("items=0-1", None),
        ("0-1", None),
        ("bytes=0-0,-1", None),
    ],
)
def test_ranges_are_read_as_the_rfc_says(header, wanted):
    assert parse_range(header, 10000) == wanted


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=99999-", "bytes=-0"])
def test_ranges_without_a_byte_of_the_object_are_unsatisfiable(header):
    with pytest.raises(UnsatisfiableRange):
        parse_range(header, 10000)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_an_empty_object_has_no_ranges(header):
    with pytest.raises(UnsatisfiableRange):
        parse_range(header, 0)


@given(st.text(max_size=30) | st.from_regex(r"bytes=\d*-\d*", fullmatch=True), st.integers(0, 2**40))
def test_whatever_comes_the_range_lies_within_the_object(header, size):
    try:
        wanted = parse_range(header, size)
    except UnsatisfiableRange:
        return
    assert wanted is None or 0 <= wanted[0] < wanted[1] <= size
