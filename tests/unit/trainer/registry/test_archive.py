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
@pytest.mark.parametrize(
    "mark", ["configs/metadata.json", "configs/metadata.yaml", "configs/metadata.yml", "rdf.yaml"]
)
def test_a_bundle_is_found_wherever_it_lies_in_the_archive(tmp_path, root, mark):
    unpack(
        zipped(tmp_path / "z", {f"{root}{mark}": b"{}", f"{root}models/model.pt": b"x"}),
        tmp_path / "out",
        100,
    )
    assert (tmp_path / "out" / mark).read_bytes() == b"{}"
    assert (tmp_path / "out/models/model.pt").read_bytes() == b"x"


@pytest.mark.parametrize(
    "name",
    [
        "../owned",
        "/tmp/owned",
        "models/../../owned",
        "models\\..\\owned",
        "a/configs/../../../owned",
        "C:/owned",
        "C:\\owned",
        "C:owned",
        "__MACOSX/../../owned",
        ".git/../../owned",
    ],
)
@pytest.mark.parametrize("root", ["", "b/"])
def test_paths_that_lead_out_are_refused(tmp_path, name, root):
    archive = zipped(tmp_path / "z", {f"{root}configs/metadata.json": b"{}", name: b"x"})
    with pytest.raises(InvalidArgument):
        unpack(archive, tmp_path / "in/out", 100)
    assert not list(tmp_path.rglob("*owned"))


def unpacked(folder, files, max_bytes=1000):
    """Paths of the files that come out of a zip file."""
    unpack(zipped(folder / "z", files), folder / "out", max_bytes)
    return sorted(
        path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*") if path.is_file()
    )


BUNDLE = {"b/configs/metadata.json": b"{}", "b/models/model.pt": b"x"}


@pytest.mark.parametrize(
    "added",
    [
        {"__MACOSX/b/._models": b"m", "__MACOSX/._b": b"m", "b/.DS_Store": b"m"},
        {".DS_Store": b"m"},
        {f"b/.git/objects/{i}": bytes(100) for i in range(250)},
        {"README.md": b"m", "data/labels.tif": bytes(5000)},
        {f"data/{i}.tif": b"" for i in range(250)},
        {"__MACOSX/b/configs/metadata.json": b"m"},
        {".cache/configs/metadata.json": b"m"},
        {"b/extra/configs/metadata.json": b"m"},
    ],
    ids=["Finder", "beside", "git", "repository", "many beside", "resource fork", "cache", "within"],
)
def test_what_lies_around_a_bundle_is_left_behind(tmp_path, added):
    wanted = ["configs/metadata.json", "models/model.pt"]
    if "b/extra/configs/metadata.json" in added:
        wanted.insert(1, "extra/configs/metadata.json")
    for number, files in enumerate((added | BUNDLE, BUNDLE | added)):
        (tmp_path / str(number)).mkdir()
        assert unpacked(tmp_path / str(number), files) == wanted


def test_of_several_bundles_none_is_chosen(tmp_path):
    with pytest.raises(InvalidArgument, match="'a', 'c/d'"):
        unpacked(tmp_path, {"a/configs/metadata.json": b"{}", "c/d/rdf.yaml": b"{}", "README": b"x"})
    with pytest.raises(InvalidArgument, match="several bundles"):
        unpacked(tmp_path, {f"{i}/rdf.yaml": b"{}" for i in range(5000)})


def test_names_with_backslashes_are_refused_with_the_reason(tmp_path):
    with pytest.raises(InvalidArgument, match=r"backslashes.*zip the folder again"):
        unpacked(tmp_path, {"b\\configs\\metadata.json": b"{}", "b\\models\\model.pt": b"x"})


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("models/model.pt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("configs/metadata.json", b"{}")
        archive.writestr(link, b"/etc/passwd")
    with pytest.raises(InvalidArgument, match="link"):
        unpack(tmp_path / "z", tmp_path / "out", 100)
    assert not list(tmp_path.glob("out/models/*"))


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
    with pytest.raises(InvalidArgument, match="none of"):
        unpack(
            zipped(tmp_path / "z", {"__MACOSX/rdf.yaml": b"x", ".a/rdf.yaml": b"x"}), tmp_path / "out", 100
        )
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
