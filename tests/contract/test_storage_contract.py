"""What every object store must do: a folder, the S3 emulator, and (marker `system`) a real S3 server."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biosegment.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from biosegment.storage.arrays import DTYPES, Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.objects import open_blocking_objects, open_objects
from biosegment.volume import Index, Region

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def objects(store_settings):
    store = open_blocking_objects(store_settings)
    yield store
    store.close()


@pytest.fixture
def arrays(store_settings, objects):
    return Arrays(store_settings)


# Objects


@pytest.mark.parametrize("size", [0, 1, 70_000, 7_000_000])
def test_what_is_put_is_read_back(objects, size):
    data = np.random.default_rng(size).bytes(size)
    objects.put("a/b.bin", data)
    assert objects.get("a/b.bin") == data
    assert objects.size("a/b.bin") == size
    assert objects.exists("a/b.bin")


def test_any_buffer_can_be_put_and_a_later_put_replaces_it(objects):
    objects.put("k", memoryview(b"12345"))
    objects.put("k", bytearray(b"678"))
    assert objects.get("k") == b"678"


def test_put_if_absent_writes_once(objects):
    assert objects.put_if_absent("once", b"first") is True
    assert objects.put_if_absent("once", b"second") is False
    assert objects.get("once") == b"first"


def test_of_racing_writers_exactly_one_puts_if_absent(objects):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: objects.put_if_absent("race", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert objects.get("race") == b"%d" % won.index(True)


def test_ranges_are_half_open_and_end_with_the_object(objects):
    objects.put("digits", b"0123456789")
    assert objects.get_range("digits", 2, 5) == b"234"
    assert objects.get_range("digits", 0, 1) == b"0"
    assert objects.get_range("digits", 7, 99) == b"789"
    for start, stop in ((10, 12), (5, 5), (6, 2), (-1, 3)):
        with pytest.raises(InvalidArgument) as error:
            objects.get_range("digits", start, stop)
        assert error.value.reason == "BAD_BYTE_RANGE"


def test_a_copy_is_an_object_of_its_own(objects):
    objects.put("old/shard", b"first")
    objects.copy("old/shard", "new/place/shard")
    objects.copy("old/shard", "new/place/shard")
    assert objects.get("new/place/shard") == b"first"
    objects.put("old/shard", b"second")
    assert objects.get("new/place/shard") == b"first"
    objects.copy("old/shard", "new/place/shard")
    objects.delete_prefix("old/")
    assert objects.get("new/place/shard") == b"second"
    assert objects.list("") == ["new/place/shard"]
    for gone in ("old/shard", "new/place"):
        with pytest.raises(NotFound):
            objects.copy(gone, "elsewhere")


def test_a_copied_shard_stays_when_its_source_is_written_again(arrays, objects):
    layout, region = ArrayLayout((4, 8, 8), (4, 8, 8)), Region.of_shape((4, 8, 8))
    first = arrays.create("a/1", (4, 8, 8), "uint8", layout=layout)
    first.write(region, np.full((4, 8, 8), 5, np.uint8))
    second = arrays.create("a/2", (4, 8, 8), "uint8", layout=layout)
    objects.copy("a/1/c/0/0/0", "a/2/c/0/0/0")
    first.write(region, np.full((4, 8, 8), 6, np.uint8))
    assert (second.read(region) == 5).all()


def test_a_missing_object_is_not_found(objects):
    objects.put("folder/there", b"x")
    for key in ("missing", "folder/missing", "folder"):
        assert not objects.exists(key)
        for call in (objects.get, objects.size, lambda k: objects.get_range(k, 0, 1)):
            with pytest.raises(NotFound) as error:
                call(key)
            assert error.value.reason == "OBJECT_NOT_FOUND"
            assert key in error.value.message


def test_listing_names_all_keys_below_a_prefix_and_no_others(objects):
    keys = ["a/1", "a/2/3", "a/2/4", "ab/1", "b"]
    for key in reversed(keys):
        objects.put(key, b"x")
    assert objects.list("") == keys
    assert objects.list("a/") == ["a/1", "a/2/3", "a/2/4"]
    assert objects.list("a/2/") == ["a/2/3", "a/2/4"]
    assert objects.list("none/") == []


def test_a_listing_goes_beyond_one_page_of_the_server(objects):
    keys = [f"many/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: objects.put(key, b"x"), keys))
    assert objects.list("many/") == keys
    objects.delete_prefix("many/")
    assert objects.list("") == []


def test_many_writers_may_begin_a_new_folder_at_the_same_moment(objects):
    with ThreadPoolExecutor(16) as pool:
        for attempt in range(20):
            list(pool.map(lambda n, a=attempt: objects.put(f"new/{a}/deep/{n}", b"x"), range(16)))
    assert len(objects.list("new/")) == 320


def test_deleting_removes_one_object_and_is_no_error_twice(objects):
    objects.put("a/1", b"x")
    objects.put("a/2", b"x")
    objects.delete("a/1")
    objects.delete("a/1")
    assert objects.list("") == ["a/2"]


def test_deleting_a_prefix_removes_what_is_below_it_and_nothing_else(objects):
    for key in ("a/1", "a/2/3", "ab/1"):
        objects.put(key, b"x")
    objects.delete_prefix("a/")
    objects.delete_prefix("a/")
    assert objects.list("") == ["ab/1"]
    objects.put("a/1", b"again")
    assert objects.get("a/1") == b"again"
    with pytest.raises(InvalidArgument, match="whole store"):
        objects.delete_prefix("")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", ".hidden", "a\\b", "a\0b", "a\nb", "x" * 1000]
)
def test_keys_that_could_leave_the_store_are_refused(objects, key):
    for call in (objects.get, objects.size, objects.exists, objects.delete, lambda k: objects.put(k, b"x")):
        with pytest.raises(InvalidArgument) as error:
            call(key)
        assert error.value.reason == "BAD_OBJECT_KEY"


def test_readers_see_the_old_or_the_new_bytes_and_never_a_mixture(objects):
    versions = [bytes([n]) * 300_000 for n in range(12)]
    objects.put("k", versions[0])
    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(lambda: [objects.put("k", data) for data in versions])
        seen: list[bytes] = []
        while not writing.done():
            seen += pool.map(objects.get, ["k"] * 3)
    assert all(data in versions for data in seen)
    assert objects.get("k") == versions[-1]


def test_a_store_that_is_there_is_healthy(objects):
    objects.check()
    assert objects.list("") == []


def test_two_clients_of_one_store_see_the_same_objects(store_settings, objects):
    other = open_blocking_objects(store_settings)
    objects.put("k", b"v")
    assert other.get("k") == b"v"
    other.close()


async def test_the_async_face_does_the_same_and_overlaps_calls(store_settings):
    store = open_objects(store_settings)
    await asyncio.gather(*(store.put(f"k/{n}", b"%d" % n) for n in range(20)))
    assert await asyncio.gather(*(store.get(f"k/{n}") for n in range(20))) == [b"%d" % n for n in range(20)]
    assert await store.get_range("k/12", 1, 2) == b"2"
    assert await store.size("k/12") == 2
    assert await store.exists("k/12")
    assert not await store.put_if_absent("k/12", b"")
    await store.delete("k/12")
    assert len(await store.list("k/")) == 19
    await store.delete_prefix("k/")
    await store.check()
    with pytest.raises(NotFound):
        await store.get("k/1")
    await store.close()


# Arrays


@pytest.mark.parametrize("dtype", DTYPES)
def test_voxels_of_every_dtype_are_read_back(arrays, dtype):
    data = (np.random.default_rng(0).random((5, 40, 30)) * 100).astype(dtype)
    array = arrays.create("image/0", data.shape, dtype)
    array.write(Region.of_shape(data.shape), data)
    again = arrays.open("image/0")
    assert again.dtype == data.dtype
    assert again.shape == data.shape
    assert np.array_equal(again.read(Region.of_shape(data.shape)), data)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_region_reads_what_a_numpy_array_would_hold(arrays, data):
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 70)))
    layout = ArrayLayout((32, 32, 32), (16, 8, 16))
    key = f"hypothesis/{np.random.default_rng().bytes(8).hex()}"
    array, model = arrays.create(key, shape, "uint8", layout=layout), np.zeros(shape, np.uint8)
    for value in (1, 2, 3):
        start = Index(*(data.draw(st.integers(0, size - 1)) for size in shape))
        stop = Index(*(data.draw(st.integers(low + 1, size)) for low, size in zip(start, shape, strict=True)))
        region = Region(start, stop)
        model[region.slices] = value
        array.write(region, np.full(region.shape, value, np.uint8))
        assert np.array_equal(array.read(region), model[region.slices])
    assert np.array_equal(arrays.open(key).read(Region.of_shape(shape)), model)


def test_the_layout_is_sharded_and_small_arrays_are_not_padded(arrays, objects):
    big = arrays.create("big", (300, 300, 300), "uint8")
    assert big.layout == ArrayLayout((256, 256, 256), (16, 128, 128))
    small = arrays.create("small", (20, 100, 130), "uint8")
    assert small.layout == ArrayLayout((32, 100, 256), (16, 100, 128))
    one = Region.of_shape((1, 1, 1), start=(299, 299, 299))
    big.write(one, np.ones((1, 1, 1), np.uint8))
    assert objects.list("big/") == ["big/c/1/1/1", "big/zarr.json"]
    assert arrays.open("big").layout == big.layout


def test_what_was_never_written_reads_as_the_fill_value_and_takes_no_space(arrays, objects):
    array = arrays.create("scores", (4, 8, 8), "float16", fill=0.5)
    assert (array.read(Region.of_shape((4, 8, 8))) == np.float16(0.5)).all()
    assert objects.list("scores/") == ["scores/zarr.json"]


def test_zarr_python_reads_what_is_stored(arrays, objects, store_settings, tmp_path):
    data = np.random.default_rng(1).integers(0, 255, (40, 200, 90), np.uint8)
    arrays.create("image/0", data.shape, "uint8").write(Region.of_shape(data.shape), data)
    for key in objects.list("image/"):
        path = tmp_path / "copy" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(objects.get(key))
    array = zarr.open_array(tmp_path / "copy" / "image" / "0", mode="r")
    assert array.metadata.dimension_names == ("z", "y", "x")
    assert np.array_equal(array[...], data)


def test_no_secret_is_in_what_is_stored_or_shown(arrays, objects, store_settings):
    arrays.create("a", (2, 2, 2), "uint8")
    secret = store_settings.s3_secret_access_key.get_secret_value() or "no-secret"
    shown = objects.get("a/zarr.json").decode() + json.dumps(arrays.kvstore("a"))
    assert secret not in shown
    assert "test-key" not in shown


def test_an_array_that_is_not_there_or_already_there_is_an_error(arrays):
    with pytest.raises(NotFound) as missing:
        arrays.open("nothing")
    assert missing.value.reason == "ARRAY_NOT_FOUND"
    arrays.create("a", (2, 2, 2), "uint8")
    with pytest.raises(AlreadyExists) as taken:
        arrays.create("a", (2, 2, 2), "uint8")
    assert taken.value.reason == "ARRAY_EXISTS"


def test_wrong_regions_data_and_arrays_are_refused(arrays):
    array = arrays.create("a", (4, 5, 6), "uint8")
    for region in (Region.of_shape((5, 5, 6)), (slice(0, 4), slice(0, 9), slice(0, 6))):
        with pytest.raises(InvalidArgument) as outside:
            array.read(region)
        assert outside.value.reason == "REGION_OUT_OF_BOUNDS"
    for data in (np.zeros((4, 5, 5), np.uint8), np.zeros((4, 5, 6), np.uint16)):
        with pytest.raises(InvalidArgument) as wrong:
            array.write(Region.of_shape((4, 5, 6)), data)
        assert wrong.value.reason == "BAD_ARRAY_DATA"
    for shape, dtype in (((0, 2, 2), "uint8"), ((2, 2, 2), "complex64")):
        with pytest.raises(InvalidArgument) as bad:
            arrays.create("b", shape, dtype)
        assert bad.value.reason == "BAD_ARRAY"


async def test_arrays_can_be_used_without_blocking_the_loop(arrays):
    array = arrays.create("a", (4, 64, 64), "uint16")
    data = np.arange(4 * 64 * 64, dtype=np.uint16).reshape(4, 64, 64)
    await array.write_async(Region.of_shape((2, 64, 64)), data[:2])
    await array.start_write(Region.of_shape((2, 64, 64), start=(2, 0, 0)), data[2:])
    parts = await asyncio.gather(
        *(array.read_async(Region.of_shape((1, 64, 64), start=(z, 0, 0))) for z in range(4))
    )
    assert np.array_equal(np.concatenate(parts), data)


def test_another_process_sees_new_voxels_through_its_cache(store_settings, arrays):
    region = Region.of_shape((4, 8, 8))
    arrays.create("a", (4, 8, 8), "uint8")
    reader = Arrays(store_settings, cache_bytes=10_000_000).open("a")
    for value in (1, 2):
        arrays.open("a").write(region, np.full(region.shape, value, np.uint8))
        assert (reader.read(region) == value).all()


# Failures that need their own store


def test_a_store_that_is_down_is_unavailable_within_seconds_and_keeps_its_secrets(moto):
    good = moto.settings("bucket-down")
    down = good.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    for act in (lambda: open_blocking_objects(down), lambda: Arrays(down).open("a")):
        with pytest.raises(Unavailable) as error:
            act()
        assert error.value.reason == "OBJECT_STORE_UNAVAILABLE"
        assert "test-secret" not in error.value.message + repr(error.value)
        assert "test-key" not in error.value.message


@pytest.mark.system
def test_wrong_credentials_are_unavailable_and_not_shown(radosgw):
    from pydantic import SecretStr

    wrong = radosgw.settings("bucket").model_copy(update={"s3_secret_access_key": SecretStr("wrong-secret")})
    with pytest.raises(Unavailable) as error:
        open_blocking_objects(wrong)
    assert "wrong-secret" not in error.value.message
    assert "test-key" not in error.value.message
    with pytest.raises(Unavailable):
        Arrays(wrong).open("a")


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(small_disk):
    from biosegment.settings import ObjectStoreSettings

    place = ObjectStoreSettings(object_store_url=f"file://{small_disk}/store")
    objects, arrays = open_blocking_objects(place), Arrays(place)
    objects.put("small", b"x" * 1000)
    array = arrays.create("a", (64, 256, 256), "uint8")
    noise = np.random.default_rng(0).integers(0, 255, (64, 256, 256), np.uint8)
    for act in (
        lambda: objects.put("small", noise.tobytes()),
        lambda: objects.put_if_absent("big", noise.tobytes()),
        lambda: array.write(Region.of_shape(noise.shape), noise),
    ):
        with pytest.raises(ResourceExhausted) as error:
            act()
        assert error.value.reason == "DISK_FULL"
    assert objects.get("small") == b"x" * 1000
    assert objects.list("") == ["a/zarr.json", "small"]
    assert list((small_disk / "store" / ".incoming").iterdir()) == []
    objects.put("other", b"there is room again")
