"""Import speed and memory against ngff-zarr and ome-zarr, on the same file, each run in a process of its own.

usage: python -m benchmarks.import_volume [path/to/raw.tif] [--compressed path/to/zlib.tif] [--repeats 3]

All write OME-Zarr 0.5. ngff-zarr and ome-zarr are told to make as many levels and the same shards, chunks and codec as
we do, halving by means, and run once more with their own defaults; ome-zarr is left out where it is not installed (its
dependencies conflict with ours: install it elsewhere, without them, and set PYTHONPATH). With `--compressed` an import
is compared with decoding the same file and throwing the voxels away. Times are those of the conversion alone, without
the start of the interpreter and the imports; memory is the peak of the whole process. Ours ends when everything is on
the disk (fsync), the others' when it is handed to the operating system.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.synthetic import generate

_METADATA = {
    "axes": "ZYX",
    **{f"PhysicalSize{axis}": 5 for axis in "XYZ"},
    **{f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"},
}
RIVALS = {
    "ngff-zarr-mean": "ngff-zarr halving by means as we do",
    "ngff-zarr-gauss": "ngff-zarr with its default filter (Gaussian)",
    "ngff-zarr-default": "ngff-zarr with all of its defaults",
    "ome-zarr": "ome-zarr at the same levels, chunks and codec",
    "ome-zarr-default": "ome-zarr with its defaults",
}
SIDES = ("biosegment", "decode", *RIVALS)


def run_biosegment(source_path: Path, output: Path) -> float:
    """Import with our pipeline; seconds."""
    from biosegment_datastore.formats.detection import open_source
    from biosegment_datastore.imports.importing import import_volume
    from biosegment_datastore.imports.target import ImportTarget

    from biosegment.settings import ObjectStoreSettings
    from biosegment.storage.arrays import Arrays
    from biosegment.storage.objects import open_blocking_objects

    settings = ObjectStoreSettings(object_store_url=f"file://{output}")
    began = time.perf_counter()
    with open_source(source_path) as source:
        arrays, objects = Arrays(settings, sync=False), open_blocking_objects(settings)
        import_volume(source, None, ImportTarget(arrays, objects, "image.ome.zarr"))
    return time.perf_counter() - began


def run_decode(source_path: Path, output: Path) -> float:
    """Read every voxel with our reader and drop it; seconds."""
    from biosegment_datastore.formats.detection import open_source

    began = time.perf_counter()
    with open_source(source_path) as source:
        for start in range(0, source.shape.z, source.slab_planes):
            source.read_slab(start, min(start + source.slab_planes, source.shape.z))
    return time.perf_counter() - began


def run_ngff_zarr(source_path: Path, output: Path, side: str) -> float:
    """Convert with ngff-zarr and its TIFF reader; seconds."""
    import ngff_zarr
    import zarr.codecs

    layout, factors = layout_of(source_path)
    began = time.perf_counter()
    image = ngff_zarr.cli_input_to_ngff_image(ngff_zarr.ConversionBackend.TIFFFILE, [str(source_path)])
    place = output / "image.ome.zarr"
    if side == "ngff-zarr-default":
        ngff_zarr.to_ngff_zarr(place, ngff_zarr.to_multiscales(image), version="0.5")
        return time.perf_counter() - began
    multiscales = ngff_zarr.to_multiscales(
        image,
        scale_factors=factors,
        method=ngff_zarr.Methods.ITKWASM_BIN_SHRINK if side == "ngff-zarr-mean" else None,
        chunks=dict(zip("zyx", layout.chunk, strict=True)),
    )
    per_shard = {axis: s // c for axis, s, c in zip("zyx", layout.shard, layout.chunk, strict=True)}
    codec = [zarr.codecs.ZstdCodec(level=1)]
    ngff_zarr.to_ngff_zarr(place, multiscales, version="0.5", chunks_per_shard=per_shard, compressors=codec)
    return time.perf_counter() - began


def run_ome_zarr(source_path: Path, output: Path, side: str) -> float:
    """Convert with tifffile and ome-zarr; seconds."""
    import ome_zarr.scale
    import ome_zarr.writer
    import zarr.codecs

    layout, factors = layout_of(source_path)
    options: dict[str, Any] = {}
    if side == "ome-zarr":
        storage = {
            "chunks": layout.chunk,
            "shards": layout.shard,
            "compressors": [zarr.codecs.ZstdCodec(level=1)],
        }
        method = ome_zarr.scale.Methods.LOCAL_MEAN
        options = {"scale_factors": factors, "storage_options": storage, "method": method}
    began = time.perf_counter()
    voxels = tifffile.imread(source_path)
    group = zarr.open_group(output / "image.ome.zarr", mode="w")
    ome_zarr.writer.write_image(voxels, group, axes="zyx", **options)
    return time.perf_counter() - began


def layout_of(source_path: Path) -> tuple[Any, list[dict[str, int]]]:
    """Our layout and cumulative factors for a file, for the other side to use."""
    from biosegment_datastore.formats.detection import open_source
    from biosegment_datastore.imports.layout import import_layout
    from biosegment_datastore.pyramid import plan_levels

    with open_source(source_path) as source:
        assert source.voxel_size is not None
        levels = plan_levels(source.shape, source.voxel_size)
        factors = [dict(zip("zyx", level.downsampling, strict=True)) for level in levels[1:]]
        return import_layout(source.shape, source.dtype.itemsize), factors


def measure(side: str, source_path: Path) -> dict[str, Any]:
    """One run in a new process: seconds, peak MB and what was written."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{side}-"))
    try:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.import_volume",
            str(source_path),
            "--side",
            side,
            "--output",
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
        levels = described(folder / "image.ome.zarr") if side != "decode" else []
        return {**json.loads(done.stdout.splitlines()[-1]), "levels": levels}
    finally:
        shutil.rmtree(folder)


def described(image: Path) -> list[str]:
    """Shape, shard, chunk and codecs of every level as they lie on the disk."""
    import zarr

    group = zarr.open_group(image, mode="r")
    lines = []
    for dataset in dict(group.attrs)["ome"]["multiscales"][0]["datasets"]:
        array: Any = group[dataset["path"]]
        size = sum(path.stat().st_size for path in (image / dataset["path"]).rglob("*") if path.is_file())
        codecs = ", ".join(repr(codec) for codec in array.compressors)
        lines.append(
            f"{array.shape} {array.dtype} shard {array.shards} chunk {array.chunks} {codecs} {size / 1e6:.1f} MB"
        )
    return lines


def compare(source_path: Path, repeats: int) -> list[Target]:
    """Run all that convert in turn and print what they reached."""
    here = {
        side: what for side, what in RIVALS.items() if find_spec(side.split("-")[0] + "_zarr") is not None
    }
    for side in RIVALS.keys() - here.keys():
        print(f"{side} is not installed: left out")
    sides = ("biosegment", *here)
    seconds, samples = sample(sides, source_path, repeats)
    for side, runs in samples.items():
        print(f"{side}: peak {max(one['peak_mb'] for one in runs)} MB, wrote")
        print("\n".join(f"    {line}" for line in runs[0]["levels"]))
    ours = seconds["biosegment"]
    peak = max(one["peak_mb"] for one in samples["biosegment"])
    targets = [
        Target(f"import, times as fast as {what}", seconds[side] / ours, "times", 15, False)
        for side, what in here.items()
    ]
    return [*targets, Target("peak memory of the import", peak, "MB", 1000)]


def compare_decoding(source_path: Path, repeats: int) -> list[Target]:
    """Run the import of a compressed file and its mere decoding in turn."""
    seconds, _ = sample(("decode", "biosegment"), source_path, repeats)
    ratio = seconds["biosegment"] / seconds["decode"]
    return [Target(f"import of {source_path.name}, against decoding alone", ratio, "times", 1.6)]


def sample(
    sides: Sequence[str], source_path: Path, repeats: int
) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]]]:
    """Median seconds and all samples by side; in turn, so that other load on the machine meets all alike."""
    samples: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            samples[side].append(measure(side, source_path))
    medians = {}
    for side, runs in samples.items():
        medians[side] = print_samples(side, [one["seconds"] for one in runs], "s")
        print_samples(f"{side}, processor", [one["cpu_s"] for one in runs], "s")
    return medians, samples


def run(side: str, source_path: Path, output: Path) -> dict[str, Any]:
    """One conversion in this process."""
    before = time.process_time()
    if side == "biosegment":
        seconds = run_biosegment(source_path, output)
    elif side == "decode":
        seconds = run_decode(source_path, output)
    else:
        seconds = (run_ngff_zarr if side.startswith("ngff") else run_ome_zarr)(source_path, output, side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu_s = time.process_time() - before
    return {"seconds": round(seconds, 3), "cpu_s": round(cpu_s, 2), "peak_mb": round(peak)}


def main() -> int:
    """Measure the given file, or a synthetic one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, nargs="?", help="TIFF stack; a synthetic one by default")
    parser.add_argument("--compressed", type=Path, help="zlib TIFF, 1 GB or more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run(options.side, options.source, options.output)))
        return 0
    print_header("import_volume")
    with tempfile.TemporaryDirectory() as folder:
        source = options.source
        if source is None:
            source = Path(folder) / "synthetic.tif"
            image, _ = generate(shape=(32, 512, 512))
            # Copies side by side: 268 MB in a reasonable time.
            tifffile.imwrite(source, np.tile(image, (8, 2, 2)), metadata=_METADATA, ome=True)
        targets = compare(source, options.repeats)
    if options.compressed is not None:
        targets += compare_decoding(options.compressed, options.repeats)
    return finish(targets)


if __name__ == "__main__":
    sys.exit(main())
