"""A tiny network that nobody trained, and a volume of several blocks: what tests of the way to the voxels need."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from tests.rpc.datastore_server import RunningDatastore
from tests.rpc.trainer.conftest import Stubs

SHAPE = (2, 2048, 3000)
BLOCKS = 6


async def import_tiny_model(
    ada: Stubs,
    folder: Path,
    seed: int = 0,
    *,
    resolution_nm: float = 10.0,
    spatial_dims: int = 2,
    **arguments: Any,
) -> str:
    """Register it in the project; returns its name."""
    import torch
    from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
    from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel

    config = NetworkConfig.unet(channels=(4, 8), strides=(2,), num_res_units=0, **arguments)
    config = replace(config, spatial_dims=spatial_dims)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = {name: tensor.detach().clone() for name, tensor in config.build(1).state_dict().items()}
    model = NetworkModel(config, (LabelClass(2, "mitochondria"),), weights)
    place = folder / f"tiny-{seed}"
    write_bundle(ModelBundle(f"tiny {seed}", "1.0.0", model, resolution_nm), place)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(place.rglob("*")):
            archive.write(path, path.relative_to(place))

    async def pieces() -> Any:
        yield trainer_pb2.ImportModelRequest(project=ada.project, data=buffer.getvalue())

    return str((await ada.models.ImportModel(pieces())).model.name)


async def import_wide_volume(datastore: RunningDatastore) -> Any:
    """Volume `wide` of project `em`, which is made: 10 nm pixels, noise that is brighter in some places."""
    ada = datastore.as_user("ada")
    project = await ada.create_project("em")
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    waves = 90 + 60 * np.sin(y / 70) * np.sin(x / 90)
    noise = np.random.default_rng(3).normal(0, 20, SHAPE)
    path = datastore.write_tiff("wide.tif", (waves + noise).clip(0, 255).astype(np.uint8))
    size = geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10)
    return await ada.import_volume(project.name, path, "wide", voxel_size=size)
