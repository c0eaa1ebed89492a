from __future__ import annotations

import contextlib
import stat
import zipfile

import pytest
from biosegment_trainer.registry.archive import unpack

from biosegment.errors import InvalidArgument, ResourceExhausted


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("root", ["", "bundle/", "a/b/"])
@pytest.mark.parametrize("mark", ["configs/metadata.json", "rdf.yaml"])
def test_a_bundle_is_found_wherever_it_lies_in_the_archive(tmp_path, root, mark):
    unpack(
        zipped(tmp_path / "z", {f"{root}{mark}": b"{}", f"{root}models/model.pt": b"x"}),
        tmp_path / "out",
        100,
    )
    assert (tmp_path / "out" / mark).read_bytes() == b"{}"
    assert (tmp_path / "out/models/model.pt").read_bytes() == b"x"


@pytest.mark.parametrize(
    "name", ["../owned", "/tmp/owned", "models/../../owned", "models\\..\\owned", "a/configs/../../../owned"]
)
def test_paths_that_lead_out_are_refused(tmp_path, name):
    archive = zipped(tmp_path / "z", {"configs/metadata.json": b"{}", name: b"x"})
    with pytest.raises(InvalidArgument):
        unpack(archive, tmp_path / "in/out", 100)
    assert not list(tmp_path.rglob("owned"))


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("models/model.pt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("configs/metadata.json", b"{}")
        archive.writestr(link, b"/etc/passwd")
    with pytest.raises(InvalidArgument, match="link"):
        unpack(tmp_path / "z", tmp_path / "out", 100)


def test_more_than_allowed_or_too_many_files_are_refused(tmp_path):
    bomb = zipped(tmp_path / "z", {"configs/metadata.json": b"{}", "models/model.pt": bytes(10_000_000)})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(ResourceExhausted):
        unpack(bomb, tmp_path / "out", 1_000_000)
    many = {"configs/metadata.json": b"{}"} | {f"f{i}": b"" for i in range(300)}
    with pytest.raises(InvalidArgument, match="files"):
        unpack(zipped(tmp_path / "y", many), tmp_path / "out", 1_000_000)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="none of"):
        unpack(zipped(tmp_path / "z", {"readme.txt": b"x"}), tmp_path / "out", 100)
    with pytest.raises(InvalidArgument, match="outside"):
        unpack(zipped(tmp_path / "z", {"a/rdf.yaml": b"x", "b": b"x"}), tmp_path / "out", 100)
    (tmp_path / "z").write_bytes(b"no zip")
    with pytest.raises(InvalidArgument, match="zip"):
        unpack(tmp_path / "z", tmp_path / "out", 100)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_output_has_no_limit_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "z", "w", method) as archive:
        archive.writestr("configs/metadata.json", bytes(1_000_000))
    with pytest.raises(InvalidArgument, match="deflate"):
        unpack(tmp_path / "z", tmp_path / "out", 10_000_000)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_directory_larger_than_bundles_need_is_not_read(tmp_path, monkeypatch):
    name = "n" * 60_000
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("configs/metadata.json", b"{}")
        for number in range(20):
            archive.writestr(f"{name}{number}", b"")
    made = []
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: made.append(1))
    with pytest.raises(InvalidArgument, match="directory"):
        unpack(tmp_path / "z", tmp_path / "out", 10_000_000)
    assert not made
    monkeypatch.undo()
    # One that only claims to have such a directory.
    data = bytearray(zipped(tmp_path / "y", {"configs/metadata.json": b"{}"}).read_bytes())
    data[-22 + 12 : -22 + 16] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "y").write_bytes(data)
    with pytest.raises(InvalidArgument, match="zip"):
        unpack(tmp_path / "y", tmp_path / "out", 10_000_000)


def test_damaged_members_are_refused(tmp_path):
    random = bytes(i * 7 % 251 for i in range(5000)) * 3
    whole = zipped(tmp_path / "z", {"configs/metadata.json": random, "b": b"x"}).read_bytes()
    for place in (*range(60, 300, 7), *range(len(whole) - 190, len(whole), 3)):
        data = bytearray(whole)
        data[place] ^= 0xFF
        (tmp_path / "y").write_bytes(data)
        with contextlib.suppress(InvalidArgument, ResourceExhausted):
            unpack(tmp_path / "y", tmp_path / "out", 1_000_000)
