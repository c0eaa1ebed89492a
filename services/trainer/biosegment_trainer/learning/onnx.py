"""A model as one ONNX file, with free sizes of batch and window."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Final

import torch

from biosegment.errors import FailedPrecondition
from biosegment_trainer.learning.bundle import ModelBundle

OPSET: Final = 18


def export_onnx(bundle: ModelBundle, path: Path) -> None:
    """Write the network: input `image`, output `logits`, both (batch, channel, [z,] y, x), float32.

    The file's metadata name the classes, the pixel size, the normalisation and the terms of the data. Edges of
    the window must be multiples of the network's stride. The number of windows that Swin attends to is written
    into the file: for that family the batch is 1 and the window that of the example.

    Raises:
        FailedPrecondition: EXTRA_MISSING without `biosegment[onnx]`.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise FailedPrecondition(
            "EXTRA_MISSING", "ONNX files need onnx and onnxscript; install biosegment[onnx]"
        ) from error
    network = bundle.model.network
    module = bundle.model.build()
    fixed = network.family == "SwinUNETR"
    strides = network.stride[-network.spatial_dims :]
    edges = [(3 if fixed and network.spatial_dims == 3 else 4) * stride for stride in strides]
    image = torch.zeros(1 if fixed else 2, network.input_slices, *edges)
    free = {axis: torch.export.Dim.DYNAMIC for axis in range(image.ndim) if axis != 1}
    if fixed:
        # It compares sizes in NumPy, which the exporter cannot follow; here they are known to fit.
        module._check_input_size = lambda _: None  # type: ignore[assignment]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (image,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=None if fixed else (free,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    facts = {
        "name": bundle.name,
        "classes": json.dumps(["background", *(c.name for c in bundle.model.classes)]),
        "working_resolution_nm": f"{bundle.working_resolution_nm:g}",
        "normalisation": "mean 0 and deviation 1 of the whole slice, cut at 5 deviations",
        "window_multiple": json.dumps(list(network.stride[-network.spatial_dims :])),
        "data_license": bundle.data_license or "not recorded",
    }
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"biosegment.{key}", value
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
