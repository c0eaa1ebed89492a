from __future__ import annotations

import errno
import os
import subprocess
import zlib
from contextlib import ExitStack
from io import BytesIO

import pytest
from biosegment_datastore.formats.compressed import spool, unpack
from hypothesis import given
from hypothesis import strategies as st

from biosegment.errors import BiosegmentError
from tests.unit.datastore.formats.reading import open_files, opened_since

DISK_BYTES = 4 << 20


@given(st.binary(max_size=2000), st.integers(-3, 3), st.integers(0, 20))
def test_exactly_what_is_promised_comes_out_of_a_stream(tmp_path_factory, data, wrong, cut):
    folder, packed = tmp_path_factory.mktemp("unpack"), zlib.compress(data)
    packed = packed[: len(packed) - cut]
    with ExitStack() as resources:
        file, size = BytesIO(b"head" + packed), max(0, len(data) + wrong)
        file.seek(4)
        try:
            scratch = unpack("a", file, "zlib", size, folder, resources)
            scratch.seek(0)
            assert (scratch.read(), size) == (data, len(data))
        except BiosegmentError as error:
            reason = error.reason if cut or size != len(data) else "refused without reason"
        else:
            reason = ""
        assert reason in ("", "TRUNCATED_FILE", "UNREADABLE_FILE")
        assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_disk_that_fills_up_while_unpacking_is_told_as_such_and_left_clean(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)], check=True)
    try:
        before = open_files()

        def pieces():
            yield bytes(1 << 20)
            (tmp_path / "others").write_bytes(bytes(2 << 20))
            yield from (bytes(1 << 20) for _ in range(2))

        with pytest.raises(OSError, match="No space left") as error, ExitStack() as resources:
            spool("a", pieces(), 3 << 20, tmp_path, resources)
        assert error.value.errno == errno.ENOSPC
        assert [path.name for path in tmp_path.iterdir()] == ["others"]
        assert opened_since(before) == []
        with pytest.raises(BiosegmentError) as refused, ExitStack() as resources:
            spool("a", iter([]), DISK_BYTES, tmp_path, resources)
        assert refused.value.reason == "DISK_FULL"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
