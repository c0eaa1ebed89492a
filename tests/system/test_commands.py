"""The commands for files, labels, drafts, history and garbage, as somebody types them."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import typer
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions
from scipy import ndimage

from biosegment import cli
from biosegment.cli.argument import _SUFFIXES
from biosegment.client.transfer_jobs import EXPORT_FORMATS
from biosegment.synthetic import generate
from tests.system.platform import running

pytestmark = pytest.mark.timeout(280)

SHAPE = (8, 70, 90)
SIZE = "50,4,4"


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed, and its exit status."""

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


Command = Callable[..., Done]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An import root with files in it; the platform beside it has the project `em` with the volume `cell`."""
    place = tmp_path_factory.mktemp("commands")
    root = place / "in"
    root.mkdir()
    raw, mask = generate(SHAPE, 3)
    tifffile.imwrite(root / "raw.tif", raw, photometric="minisblack")
    tifffile.imwrite(root / "mask.tif", mask * np.uint8(255), photometric="minisblack")
    with h5py.File(root / "channels.h5", "w") as file:
        file["lab/images"] = np.stack([raw, 255 - raw])
        file["lab/other"] = raw
    with running(place, import_root=root):
        yield root


@pytest.fixture
def biosegment(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command; in this process, because the tests run many."""
    for name in ("BIOSEGMENT_ADDRESS", "BIOSEGMENT_TOKEN", "BIOSEGMENT_HTTP_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BIOSEGMENT_DATA", str(folder.parent / "data"))
    monkeypatch.setenv("BIOSEGMENT_PROJECT", "em")

    def run(*arguments: str | Path) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["biosegment", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def cell(folder: Path, biosegment: Command) -> str:
    """The volume that most commands are about."""
    if "projects/em" not in biosegment("project", "list").output:
        made = biosegment("project", "create", "em", "--class", "mitochondria", "--class", "membrane")
        assert made.status == 0, made.errors
        done = biosegment("volume", "import", folder / "raw.tif", "--id", "cell", "--voxel-size", SIZE)
        assert done.lines == ["projects/em/volumes/cell"]
    return "projects/em/volumes/cell"


def ok(done: Done) -> Done:
    assert done.status == 0, done.errors
    return done


def result(done: Done) -> Any:
    return json.loads(ok(done).output)


def refused(done: Done, *words: str) -> None:
    """One line, with what was wrong and what to do, and no traceback."""
    assert done.status == 1
    (line,) = (line for line in done.errors.splitlines() if line.startswith("error: "))
    assert "Traceback" not in done.errors
    for word in words:
        assert word in line


def test_a_file_without_voxel_size_is_refused_with_the_option(
    biosegment: Command, folder: Path, cell: str
) -> None:
    refused(biosegment("volume", "import", folder / "raw.tif", "--id", "unsaid"), "raw.tif", "voxel_size")
    assert "unsaid" not in ok(biosegment("volume", "list")).output


def test_data_set_axes_and_channel_of_a_file_are_chosen(
    biosegment: Command, folder: Path, cell: str, tmp_path: Path
) -> None:
    path = folder / "channels.h5"
    given = ("--id", "second", "--voxel-size", SIZE)
    refused(biosegment("volume", "import", path, *given), "lab/images", "dataset")
    chosen = ("--dataset", "lab/images", "--axes", "czyx", "--channel", "1")
    assert ok(biosegment("volume", "import", path, *given, *chosen)).lines == ["projects/em/volumes/second"]
    ok(biosegment("volume", "read", "second", tmp_path / "second.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "second.npy"), 255 - tifffile.imread(folder / "raw.tif"))
    shown = result(biosegment("volume", "show", "second", "--json"))
    assert shown["voxel_size"] == {"z_nm": 50, "y_nm": 4, "x_nm": 4}
    low, high = shown["display_window"]
    assert 0 <= low < high <= 255


def test_a_file_of_this_machine_alone_is_uploaded(
    biosegment: Command, folder: Path, cell: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.tif").write_bytes((folder / "raw.tif").read_bytes())
    done = ok(biosegment("volume", "import", tmp_path / "mine.tif", "--id", "sent", "--voxel-size", SIZE))
    assert (done.lines, "uploading" in done.errors) == (["projects/em/volumes/sent"], True)
    refused(biosegment("volume", "import", tmp_path, "--voxel-size", SIZE), "zip", "--import-root")


def test_labels_are_imported_as_a_layer_with_classes_by_name(
    biosegment: Command, folder: Path, cell: str, tmp_path: Path
) -> None:
    labels = ("volume", "import-labels", "cell", folder / "mask.tif", "--id", "old")
    refused(biosegment(*labels), "--zero not-annotated", "--zero background")
    refused(biosegment(*labels, "--zero", "nothing"), "--zero", "not-annotated")
    refused(biosegment(*labels, "--zero", "background"), "--value", "--other")
    refused(
        biosegment(*labels, "--zero", "background", "--value", "255=nuclei"),
        "nuclei",
        "mitochondria, membrane",
    )
    refused(biosegment(*labels, "--zero", "background", "--value", "1=mitochondria"), "255")
    done = ok(biosegment(*labels, "--zero", "background", "--value", "255=mitochondria"))
    assert done.lines == [f"{cell}/layers/old"]
    ok(biosegment("volume", "read", f"{cell}/layers/old", tmp_path / "old.npy"))
    mask = tifffile.imread(folder / "mask.tif") == 255
    np.testing.assert_array_equal(np.load(tmp_path / "old.npy"), np.where(mask, 2, 1))


def test_labels_become_annotations_whose_history_is_told(
    biosegment: Command, folder: Path, cell: str, tmp_path: Path
) -> None:
    labels = ("volume", "import-labels", "cell", folder / "mask.tif", "--as-annotations")
    meaning = ("--zero", "background", "--value", "255=membrane", "--extent", "2:5,0:70,0:90")
    (name,) = ok(biosegment(*labels, *meaning)).lines
    history = ok(biosegment("annotation", "history", "cell", "--region", "2:3,0:9,0:9")).output
    assert name.rpartition("/")[2] in history
    assert "mask.tif" in history
    elsewhere = biosegment("annotation", "history", "cell", "--region", "6:7,0:9,0:9")
    assert name.rpartition("/")[2] not in ok(elsewhere).output
    ok(biosegment("annotation", "review", name, "--reject", "--comment", "not membrane"))
    ok(biosegment("annotation", "revert", name))
    records = result(biosegment("annotation", "history", "cell", "--json"))
    told = [(each["action"], each["comment"]) for each in records if each["annotation"] == name]
    assert told == [("committed", "mask.tif"), ("rejected", "not membrane"), ("reverted", "")]
    ok(biosegment("annotation", "rebuild", "cell"))


def test_a_draft_is_saved_found_and_finished(biosegment: Command, cell: str, tmp_path: Path) -> None:
    labels = np.zeros((1, 20, 30), np.uint8)
    labels[0, :7] = 2
    np.save(tmp_path / "labels.npy", labels)
    where = ("--volume", "cell", "--region", "7:8,0:20,30:60")
    ok(biosegment("draft", "save", tmp_path / "labels.npy", "--id", "monday", *where, "--comment", "half"))
    (listed,) = result(biosegment("draft", "list", "--json"))
    assert (listed["name"], listed["comment"]) == (f"{cell}/drafts/monday", "half")
    ok(biosegment("draft", "read", listed["name"], tmp_path / "read.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "read.npy"), labels)
    labels[labels == 0] = 1
    np.save(tmp_path / "labels.npy", labels)
    commit = ("annotation", "commit", tmp_path / "labels.npy", *where)
    made = result(biosegment(*commit, "--draft", listed["name"], "--json"))
    assert result(biosegment("draft", "list", "--json")) == []
    refused(biosegment(*commit, "--base", str(made["sequence"] - 1)), made["name"])
    assert result(biosegment(*commit, "--base", str(made["sequence"]), "--json"))["name"] != made["name"]


def test_a_draft_is_thrown_away(biosegment: Command, cell: str, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.ones((1, 5, 6), np.uint8))
    ok(
        biosegment(
            "draft",
            "save",
            tmp_path / "labels.npy",
            "--id",
            "bad",
            "--volume",
            cell,
            "--region",
            "0:1,0:5,0:6",
        )
    )
    ok(biosegment("draft", "delete", f"{cell}/drafts/bad"))
    assert "no drafts" in ok(biosegment("draft", "list", "--volume", "cell")).errors


SUFFIXES = {found: suffix for suffix, found in reversed(_SUFFIXES.items())}


@pytest.fixture
def layer(biosegment: Command, folder: Path, cell: str) -> str:
    """2 where the file of labels has 255, else 1."""
    name = f"{cell}/layers/exported"
    if name not in ok(biosegment("volume", "layers", "cell")).output:
        labels = ("volume", "import-labels", "cell", folder / "mask.tif", "--id", "exported")
        ok(biosegment(*labels, "--zero", "background", "--value", "255=mitochondria"))
    return name


@pytest.mark.parametrize("file_format", EXPORT_FORMATS)
def test_an_export_has_the_format_that_its_name_says(
    biosegment: Command, folder: Path, layer: str, tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / f"labels{SUFFIXES[file_format]}"
    done = ok(biosegment("export", layer, path, "--region", "1:6,3:68,0:80"))
    assert done.lines == [f"{path}: {path.stat().st_size} bytes"]
    mask = tifffile.imread(folder / "mask.tif") == 255
    with open_source(path, SourceOptions(accepted=ACCEPTED_LABELS)) as source:
        np.testing.assert_array_equal(source.read_slab(0, 5), np.where(mask, 2, 1)[1:6, 3:68, :80])


def test_an_export_into_a_folder_gets_a_name_of_its_own(
    biosegment: Command, layer: str, tmp_path: Path
) -> None:
    ok(biosegment("export", layer, tmp_path, "--format", "mib-model"))
    assert [path.suffix for path in tmp_path.iterdir()] == [".model"]


def test_an_export_that_cannot_be_is_refused_with_what_can(
    biosegment: Command, cell: str, tmp_path: Path
) -> None:
    refused(biosegment("export", "cell", tmp_path / "cell.xyz", "--raw"), "cell.xyz", "--format")
    refused(biosegment("export", "cell", tmp_path / "cell.model", "--raw"), "grey values", "ome_tiff")
    refused(
        biosegment("export", "cell", tmp_path / "cell.tif", "--as-of", "noon"), "noon", "2026-05-04T17:30"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
def test_objects_are_found_and_measured_into_a_table_and_meshes(
    biosegment: Command, folder: Path, cell: str, layer: str, tmp_path: Path
) -> None:
    ids = np.zeros(SHAPE, np.uint32)
    ids[2:6, 10:30, 10:40], ids[2:6, 40:60, 20:50] = 7, 300
    tifffile.imwrite(folder / "objects.tif", ids, photometric="minisblack")
    given = ("volume", "import-labels", "cell", folder / "objects.tif", "--instances", "--id", "objects")
    assert ok(biosegment(*given)).lines == [f"{cell}/layers/objects"]
    table, meshes = tmp_path / "found.csv", tmp_path / "meshes"
    done = ok(
        biosegment(
            "objects",
            "cell/objects",
            "-o",
            table,
            "--meshes",
            meshes,
            "--mesh-format",
            "ply",
            "--mesh-format",
            "precomputed",
        )
    )
    assert done.lines == [str(table), str(meshes)]
    rows = [*csv.DictReader(table.read_text().splitlines())]
    assert [(row["id"], row["voxels"]) for row in rows] == [("7", "2400"), ("300", "2400")]
    assert {path.relative_to(meshes).as_posix() for path in meshes.rglob("*") if path.is_file()} == {
        "manifest.json", "ply/7.ply", "ply/300.ply", "precomputed/info",
        "precomputed/7:0", "precomputed/7:0:mesh", "precomputed/300:0", "precomputed/300:0:mesh",
    }  # fmt: skip
    archive = tmp_path / "meshes.zip"
    ok(biosegment("objects", f"{cell}/layers/objects", "-o", tmp_path / "found.parquet", "--meshes", archive))
    assert (tmp_path / "found.parquet").read_bytes().startswith(b"PAR1")
    assert set(zipfile.ZipFile(archive).namelist()) == {"manifest.json", "stl/7.stl", "stl/300.stl"}
    refused(biosegment("objects", "cell/nothing"), "nothing")
    (found,) = ok(biosegment("instances", layer, "--class", "mitochondria", "--min-size", "10")).lines
    counted = ok(biosegment("objects", found, "-o", tmp_path / "counted.csv"))
    assert counted.lines == [str(tmp_path / "counted.csv")]
    voxels = [
        int(row["voxels"]) for row in csv.DictReader((tmp_path / "counted.csv").read_text().splitlines())
    ]
    pieces, _ = ndimage.label(tifffile.imread(folder / "mask.tif") == 255, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    assert sorted(voxels) == sorted(sizes[sizes >= 10].tolist())
    refused(biosegment("instances", layer, "--class", "nuclei"), "nuclei", "mitochondria")


def test_objects_are_corrected_and_what_happened_to_them_is_told(
    biosegment: Command, folder: Path, cell: str, tmp_path: Path
) -> None:
    ids = np.zeros(SHAPE, np.uint32)
    ids[:, 5:15, 5:45], ids[:, 30:40, 5:45] = 1, 2
    tifffile.imwrite(folder / "ids.tif", ids, photometric="minisblack")
    ok(biosegment("volume", "import-labels", "cell", folder / "ids.tif", "--instances", "--id", "proofread"))
    layer = "cell/proofread"
    split = result(
        biosegment("instance", "split", layer, "1", "--part", "0,6,6", "--part", "0,6,44 7,14,44", "--json")
    )
    assert split["new_instances"] == [3]
    np.save(tmp_path / "mask.npy", np.ones((1, 2, 2), np.uint8))
    place = ("--mask", tmp_path / "mask.npy", "--region", "0:1,60:62,60:62")
    assert result(biosegment("instance", "reassign", layer, *place, "--to", "2", "--json"))["into"] == 2
    merged = result(biosegment("instance", "merge", layer, "2", "3", "--comment", "one", "--json"))
    ok(biosegment("instance", "delete", layer, "1"))
    edits = result(biosegment("instance", "edits", layer, "--json"))
    assert [each["kind"] for each in edits] == ["split", "reassign", "merge", "delete"]
    history = result(biosegment("instance", "edits", layer, "--instance", "3", "--json"))
    assert [each["kind"] for each in history] == ["split", "merge"]
    assert result(biosegment("instance", "at", layer, "7,14,44", "--json"))["instance"] == 2
    for position, fields in (("0,6,6", ["0", "1", "4"]), ("7,60,60", ["0", "0", "4"])):
        lines = ok(biosegment("instance", "at", layer, position)).lines
        assert [line.split()[-1] for line in lines] == fields
    name = f"{cell}/layers/proofread"
    ok(biosegment("volume", "read", name, tmp_path / "now.npy", "--with-edits"))
    now = np.load(tmp_path / "now.npy")
    assert set(np.unique(now).tolist()) == {0, 2}
    assert (now[0, 60:62, 60:62] == 2).all()
    ok(biosegment("export", layer, tmp_path / "now.tif"))
    assert (tifffile.imread(tmp_path / "now.tif") == now).all()
    ok(biosegment("export", name, tmp_path / "computed.tif", "--without-edits"))
    assert (tifffile.imread(tmp_path / "computed.tif") == ids).all()
    assert result(biosegment("instance", "revert", merged["name"], "--json"))["reverted"] is True
    record = ok(biosegment("instance", "edits", layer, "--after", "4")).output
    assert record.count(merged["name"].rpartition("/")[2]) == 1
    refused(biosegment("instance", "delete", layer, "1"), "object 1", "take that back first")
    refused(biosegment("instance", "merge", layer, "2", "3", "--base", "1"), "saw last", "edit again")
    refused(biosegment("instance", "reassign", layer, "2", "--class", "3"), "which class")
    refused(biosegment("instance", "reassign", layer), "--class", "--mask")
    refused(biosegment("instance", "split", layer, "2"), "seeds")


def test_an_ome_zarr_becomes_a_volume_where_it_is(
    biosegment: Command, folder: Path, cell: str, tmp_path: Path
) -> None:
    ok(biosegment("export", "cell", tmp_path / "cell.ozx", "--raw"))
    with zipfile.ZipFile(tmp_path / "cell.ozx") as archive:
        archive.extractall(folder / "there.ome.zarr")
    done = biosegment("volume", "import", folder / "there.ome.zarr", "--reference", "--id", "there")
    assert ok(done).lines == ["projects/em/volumes/there"]
    shown = result(biosegment("volume", "show", "there", "--json"))
    assert (shown["reference"], "there.ome.zarr" in shown["uri"]) == (True, True)
    ok(biosegment("volume", "read", "there", tmp_path / "there.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "there.npy"), tifffile.imread(folder / "raw.tif"))
    refused(
        biosegment("volume", "import", folder / "raw.tif", "--reference", "--voxel-size", SIZE),
        "raw.tif",
        "copy",
    )


def test_garbage_is_told_first_and_then_removed(biosegment: Command, folder: Path, cell: str) -> None:
    """A folder that an accident left, as after the loss of a database."""
    orphan = (
        folder.parent / "data" / "objects" / "volumes" / "01aaaaaaaaaaaaaaaaaaaaaaaa-1.ome.zarr" / "zarr.json"
    )
    orphan.parent.mkdir()
    orphan.write_text("{}")
    told = ok(biosegment("gc", "--dry-run")).output
    assert (orphan.parent.name in told, "would be removed" in told, orphan.exists()) == (True, True, True)
    removed = result(biosegment("gc", "--json"))["prefixes"]
    assert [orphan.parent.name in prefix for prefix in removed].count(True) == 1
    assert not orphan.exists()
    assert "0 objects" in ok(biosegment("gc", "--dry-run")).output
    assert ok(biosegment("volume", "read", "cell", folder.parent / "still.npy")).status == 0


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_and_every_option_is_explained() -> None:
    found = list(commands(typer.main.get_command(cli.app)))
    assert len(found) > 40
    for path, command in found:
        assert re.search(r"[.]$", (command.help or "").strip()), path
        for parameter in command.params:
            assert parameter.help, (*path, parameter.name)


def test_the_command_line_needs_nothing_that_is_not_declared() -> None:
    """Typer brings its own Click: whoever imports another one fails where that is absent."""
    code = "import sys; sys.modules['click'] = None; import biosegment.cli; biosegment.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
