"""Other formats of a model, made in a process of its own: `python -m biosegment_trainer.registry.conversion`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from biosegment.errors import BiosegmentError, FailedPrecondition
from biosegment_trainer.registry.child import answer, run_child

_MODULE: Final = "biosegment_trainer.registry.conversion"
ONNX: Final = "onnx"
BIOIMAGE_IO: Final = "bioimageio"


async def convert_bundle(folder: Path, target: Path, file_format: str) -> None:
    """Write the model of the bundle in `folder` as one file.

    Raises:
        FailedPrecondition: EXTRA_MISSING when this installation lacks what the format needs; CANNOT_EXPORT.
    """
    await run_child(_MODULE, {"folder": str(folder), "target": str(target), "format": file_format})


def _convert(task: dict[str, Any]) -> dict[str, Any]:
    from biosegment_trainer.learning.bundle import read_bundle
    from biosegment_trainer.learning.onnx import export_onnx
    from biosegment_trainer.registry.bioimage import write_package

    bundle = read_bundle(Path(task["folder"]))
    write = export_onnx if task["format"] == ONNX else write_package
    try:
        write(bundle, Path(task["target"]))
    except BiosegmentError:
        raise
    # Exporters know more operations every month, and fail on the others in their own words.
    except Exception as error:
        raise FailedPrecondition(
            "CANNOT_EXPORT", f"the model cannot be written as {task['format']}: {str(error)[:300]}"
        ) from error
    return {}


if __name__ == "__main__":
    answer(_convert)
