"""The manifests render, and every schema that can be had without a cluster accepts them."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import OVERLAYS
from tests.deploy.manifest import SERVICES, Manifest, named, of_kind, pods, title
from tests.deploy.schema import builtin_problems, custom_problems

VERSIONS = ("1.30.0", "1.34.0", kubernetes_validate.latest_version())


def unpinned_images(manifests: list[Manifest]) -> list[str]:
    problems = []
    for pod in pods(manifests):
        for container in pod.containers:
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if "@sha256:" not in container["image"] and (not name or not tag or tag == "latest"):
                problems.append(f"{pod.owner}: {container['image']!r}")
            if "/" not in container["image"]:
                problems.append(f"{pod.owner}: no kustomization says where {container['image']!r} comes from")
    return problems


def test_each_image_has_a_tag_and_a_place_to_come_from(manifests: list[Manifest]) -> None:
    assert unpinned_images(manifests) == []


@pytest.mark.parametrize(
    "image", ["localhost/biosegment/x:latest", "localhost:5000/x", "biosegment-datastore:1"]
)
def test_an_image_without_a_pin_would_be_found(single_node: list[Manifest], image: str) -> None:
    named(single_node, "Deployment", "datastore")["spec"]["template"]["spec"]["containers"][0]["image"] = (
        image
    )
    assert len(unpinned_images(single_node)) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_field(manifests: list[Manifest], version: str) -> None:
    assert builtin_problems(manifests, version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_field_would_be_found(single_node: list[Manifest], version: str) -> None:
    named(single_node, "Deployment", "datastore")["spec"]["template"]["spec"]["restartPolcy"] = "Always"
    assert ["Deployment/datastore" in problem for problem in builtin_problems(single_node, version)] == [True]


def test_a_wrong_type_would_be_found(single_node: list[Manifest]) -> None:
    named(single_node, "PodDisruptionBudget", "gateway")["spec"]["maxUnavailable"] = [1]
    assert [
        "PodDisruptionBudget/gateway" in problem for problem in builtin_problems(single_node, VERSIONS[-1])
    ]


def test_kuberay_accepts_the_ray_cluster(manifests: list[Manifest], rayclusters_crd: Path) -> None:
    assert custom_problems(manifests, rayclusters_crd) == []


def test_a_misspelt_field_of_the_ray_cluster_would_be_found(
    single_node: list[Manifest], rayclusters_crd: Path
) -> None:
    group = named(single_node, "RayCluster", "biosegment-ray")["spec"]["workerGroupSpecs"][0]
    group["maxReplica"] = group.pop("maxReplicas")
    group["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    problems = custom_problems(single_node, rayclusters_crd)
    assert any("maxReplica" in problem for problem in problems)
    assert any("imagePolicy" in problem for problem in problems)


def test_everything_lives_in_the_restricted_namespace(manifests: list[Manifest]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [manifest for manifest in manifests if manifest is not namespace]
    assert [
        title(one) for one in others if one["metadata"].get("namespace") != namespace["metadata"]["name"]
    ] == []


def test_no_secret_is_part_of_the_manifests(manifests: list[Manifest]) -> None:
    assert of_kind(manifests, "Secret") == []


def test_replicas_follow_from_what_a_service_can_share(rendered: dict[str, list[Manifest]]) -> None:
    expected = {
        "single-node": {"datastore": 1, "sampler": 1, "trainer": 1, "gateway": 1},
        "lab": {"datastore": 2, "sampler": 1, "trainer": 1, "gateway": 2},
    }
    for overlay, replicas in expected.items():
        for service in SERVICES:
            spec = named(rendered[overlay], "Deployment", service)["spec"]
            assert spec["replicas"] == replicas[service]
            lone = service in ("sampler", "trainer")
            assert (spec["strategy"].get("type") == "Recreate") is lone, f"{overlay}: strategy of {service}"


def test_a_single_node_needs_no_gpu_and_a_lab_may_have_some(rendered: dict[str, list[Manifest]]) -> None:
    groups = {
        overlay: [
            group["groupName"]
            for group in named(objects, "RayCluster", "biosegment-ray")["spec"]["workerGroupSpecs"]
        ]
        for overlay, objects in rendered.items()
    }
    assert groups == {"single-node": ["cpu"], "lab": ["cpu", "gpu"]}
    assert "nvidia.com/gpu" not in yaml.safe_dump(rendered["single-node"])


def test_ray_asks_for_a_token_and_is_the_version_of_the_image(manifests: list[Manifest], root: Path) -> None:
    spec = named(manifests, "RayCluster", "biosegment-ray")["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-auth-token"}
    pins = [
        line.partition("==")[2]
        for line in (root / "constraints.txt").read_text().splitlines()
        if line.partition("==")[0].strip() == "ray"
    ]
    assert pins == [spec["rayVersion"]]


def test_each_component_is_part_of_an_overlay(root: Path) -> None:
    used = {
        Path(component).name
        for overlay in OVERLAYS
        for component in yaml.safe_load(
            (root / f"deploy/k8s/overlays/{overlay}/kustomization.yaml").read_text()
        )["components"]
    }
    assert {folder.name for folder in (root / "deploy/k8s/components").iterdir()} == used
