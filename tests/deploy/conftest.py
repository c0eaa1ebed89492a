from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest

from tests.deploy.manifest import Manifest, render

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("single-node", "lab")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def kubectl() -> str:
    path = shutil.which("kubectl")
    if path is None:
        message = "kubectl is not installed, and nothing else renders the manifests"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def rendered(kubectl: str) -> dict[str, list[Manifest]]:
    return {overlay: render(kubectl, ROOT / "deploy/k8s/overlays" / overlay) for overlay in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manifests(rendered: dict[str, list[Manifest]], overlay: str) -> list[Manifest]:
    """The objects of one overlay; a test may change them."""
    return copy.deepcopy(rendered[overlay])


@pytest.fixture
def single_node(rendered: dict[str, list[Manifest]]) -> list[Manifest]:
    """The objects of the overlay `single-node`; a test may change them."""
    return copy.deepcopy(rendered["single-node"])


@pytest.fixture(scope="session")
def rayclusters_crd(shared: Path) -> Path:
    """KubeRay's definition of a RayCluster, which is too large and too foreign to be kept here."""
    return shared / "data/crds/ray.io_rayclusters.yaml"
