"""Import speed and memory against ngff-zarr, on the same file, each run in a process of its own.

usage: python -m benchmarks.import_volume [path/to/raw.tif] [--repeats 3]

All write OME-Zarr 0.5 with as many levels and the same shards, chunks and codec; ngff-zarr halves once by its default,
a Gaussian filter, and once by means of 2 x 2 x 2, as we do. Times are those of the
conversion alone, without the start of the interpreter and the imports; memory is the peak of the whole process.
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
from pathlib import Path
from typing import Any

import tifffile

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.synthetic import generate

SIDES = ("biosegment", "ngff-zarr-mean", "ngff-zarr-default")


def run_biosegment(source_path: Path, output: Path) -> float:
    """Import with our pipeline; seconds."""
    from biosegment_datastore.formats.detection import open_source
    from biosegment_datastore.importing import import_volume

    from biosegment.settings import ObjectStoreSettings
    from biosegment.storage.arrays import Arrays
    from biosegment.storage.objects import open_blocking_objects

    settings = ObjectStoreSettings(object_store_url=f"file://{output}")
    began = time.perf_counter()
    with open_source(source_path) as source:
        arrays, objects = Arrays(settings), open_blocking_objects(settings)
        import_volume(source, None, arrays, objects, "image.ome.zarr")
    return time.perf_counter() - began


def run_ngff_zarr(source_path: Path, output: Path, average: bool) -> float:
    """Convert with ngff-zarr and its TIFF reader, halving by averages or by its default; seconds."""
    import ngff_zarr
    import zarr.codecs

    layout, factors = layout_of(source_path)
    began = time.perf_counter()
    image = ngff_zarr.cli_input_to_ngff_image(ngff_zarr.ConversionBackend.TIFFFILE, [str(source_path)])
    multiscales = ngff_zarr.to_multiscales(
        image,
        scale_factors=factors,
        method=ngff_zarr.Methods.ITKWASM_BIN_SHRINK if average else None,
        chunks=dict(zip("zyx", layout.chunk, strict=True)),
    )
    per_shard = {axis: s // c for axis, s, c in zip("zyx", layout.shard, layout.chunk, strict=True)}
    ngff_zarr.to_ngff_zarr(
        output / "image.ome.zarr",
        multiscales,
        version="0.5",
        chunks_per_shard=per_shard,
        compressors=[zarr.codecs.ZstdCodec(level=1)],
    )
    return time.perf_counter() - began


def layout_of(source_path: Path) -> tuple[Any, list[dict[str, int]]]:
    """Our layout and cumulative factors for a file, for the other side to use."""
    from biosegment_datastore.formats.detection import open_source
    from biosegment_datastore.importing import import_layout
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
        return {**json.loads(done.stdout.splitlines()[-1]), "levels": described(folder / "image.ome.zarr")}
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


def compare(source_path: Path, repeats: int) -> int:
    """Run all sides in turn and print what they reached; the exit status."""
    print_header("import_volume")
    samples: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:  # in turn, so that other load on the machine meets all alike
            samples[side].append(measure(side, source_path))
    medians = {
        side: print_samples(side, [one["seconds"] for one in runs], "s") for side, runs in samples.items()
    }
    for side, runs in samples.items():
        print(f"{side}: peak {max(one['peak_mb'] for one in runs)} MB, wrote")
        print("\n".join(f"    {line}" for line in runs[0]["levels"]))
    ours, average, default = (medians[side] for side in SIDES)
    peak = max(one["peak_mb"] for one in samples[SIDES[0]])
    return finish(
        [
            Target(
                "import, times as fast as ngff-zarr with its default filter (Gaussian)",
                default / ours,
                "times",
                8,
                False,
            ),
            Target(
                "import, times as fast as ngff-zarr halving by means as we do",
                average / ours,
                "times",
                8,
                False,
            ),
            Target("peak memory of the import", peak, "MB", 1000),
        ]
    )


def main() -> int:
    """Measure the given file, or a synthetic one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, nargs="?", help="TIFF stack; a synthetic one by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if options.side == "biosegment":
            seconds = run_biosegment(options.source, options.output)
        else:
            seconds = run_ngff_zarr(options.source, options.output, average=options.side == "ngff-zarr-mean")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": round(seconds, 3), "peak_mb": round(peak)}))
        return 0
    if options.source is not None:
        return compare(options.source, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.tif"
        image, _ = generate(shape=(128, 768, 1024))
        tifffile.imwrite(path, image, compression="zlib", metadata={"axes": "ZYX"}, ome=True)
        return compare(path, options.repeats)


if __name__ == "__main__":
    sys.exit(main())
