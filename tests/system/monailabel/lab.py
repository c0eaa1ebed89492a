"""A project with small models and volumes for MONAI Label clients, on a real platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from biosegment.client.connection import connection_file
from biosegment.volume import VoxelSize
from tests.rpc.trainer.tiny_clicks import write_click_bundle
from tests.system.platform import Platform, running
from tests.system.tissue import Tissue, write_tissue

SHAPE = (64, 128, 128)
PART = "32,64,64"
ORIGIN = "http://localhost:3000"
VOXEL_SIZE = VoxelSize(12.0, 8.0, 8.0)


@dataclass(frozen=True, slots=True)
class Lab:
    """A running platform with project `em`, whose volume `tissue` is offered in eight parts.

    Attributes:
        platform: The platform.
        tissue: What was imported.
        http: Address of the gateway's HTTP server.
        token: Of the administrator.
    """

    platform: Platform
    tissue: Tissue
    http: str
    token: str

    @property
    def url(self) -> str:
        """What a user enters as server in 3D Slicer."""
        return f"{self.http}/monailabel/em"


def write_bundles(folder: Path) -> None:
    """A model that takes clicks, and one that segments, neither of which anybody trained."""
    import torch
    from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
    from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel

    write_click_bundle(folder, resolution_nm=8.0)
    config = NetworkConfig.unet(channels=(4, 8), strides=(2,), num_res_units=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = {name: tensor.detach().clone() for name, tensor in config.build(1).state_dict().items()}
    model = NetworkModel(config, (LabelClass(2, "mitochondria"),), weights)
    write_bundle(ModelBundle("tiny", "1.0.0", model, 8.0), folder / "mitochondria_vem_general")


@contextmanager
def open_lab(folder: Path, **settings: str) -> Iterator[Lab]:
    """Start a platform and fill it; `settings` are those of the gateway."""
    write_bundles(folder / "bundles")
    tissue = write_tissue(folder / "files", SHAPE)
    gateway = {"MONAILABEL_PART": PART, "ALLOWED_ORIGINS": ORIGIN, **settings}
    environment = {f"BIOSEGMENT_GATEWAY__{name}": value for name, value in gateway.items()}
    environment["BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR"] = str(folder / "bundles")
    with running(folder, import_root=folder, environment=environment) as platform:
        connection = json.loads(connection_file(platform.data_dir).read_text())
        with platform.connect() as client:
            project = client.projects.create("em", classes=["mitochondria"], working_resolution_nm=8.0)
            job = client.jobs.import_volume(
                project.name, str(tissue.path), volume_id="tissue", voxel_size=VOXEL_SIZE
            )
            client.jobs.wait(job.name)
            # `random` wants no scores, so that the clients' own predictions need not wait for a scoring.
            client.samples.configure(
                project.name,
                strategies={"random": 1.0},
                sample_shape=(1, 32, 32),
                manual_training=True,
                seed=1,
            )
        token = Path(connection["token_file"]).read_text().strip()
        yield Lab(platform, tissue, connection["http"], token)
