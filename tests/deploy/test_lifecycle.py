"""Pods start, answer and stop as the services expect."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from biosegment.rpc.server import LIVENESS
from tests.deploy.manifest import SERVICES, Manifest, environment, named, of_kind, pod_of


@pytest.fixture(scope="module")
def services_of_the_api(root: Path) -> set[str]:
    """Full names of the gRPC services in the generated API."""
    names: set[str] = set()
    for path in sorted((root / "src/biosegment/api").rglob("*_pb2.py")):
        module = importlib.import_module(".".join(path.relative_to(root / "src").with_suffix("").parts))
        names |= {service.full_name for service in module.DESCRIPTOR.services_by_name.values()}
    return names


def unknown_probe_names(manifests: list[Manifest], known: set[str]) -> list[str]:
    found = []
    for service in SERVICES:
        container = pod_of(manifests, service).containers[0]
        for probe, names in (
            ("readinessProbe", known),
            ("livenessProbe", {LIVENESS}),
            ("startupProbe", {LIVENESS}),
        ):
            if container[probe]["grpc"]["service"] not in names:
                found.append(f"{service}: {probe} asks for {container[probe]['grpc']['service']}")
    return found


def short_graces(manifests: list[Manifest]) -> list[str]:
    found = []
    for service in SERVICES:
        pod = pod_of(manifests, service)
        pause = pod.containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = pause + float(environment(manifests, pod.containers[0])["BIOSEGMENT_SHUTDOWN_GRACE_S"])
        if pod.spec["terminationGracePeriodSeconds"] <= needed:
            found.append(
                f"{service}: killed after {pod.spec['terminationGracePeriodSeconds']} s, needs {needed} s"
            )
    return found


def test_probes_ask_for_services_that_the_api_has(
    manifests: list[Manifest], services_of_the_api: set[str]
) -> None:
    assert unknown_probe_names(manifests, services_of_the_api) == []


def test_a_wrong_probe_name_would_be_found(
    single_node: list[Manifest], services_of_the_api: set[str]
) -> None:
    containers = [pod_of(single_node, service).containers[0] for service in ("datastore", "trainer")]
    containers[0]["readinessProbe"]["grpc"]["service"] = "biosegment.api.datastore.v1.DatastoreService"
    containers[1]["livenessProbe"]["grpc"]["service"] = "alive"
    found = unknown_probe_names(single_node, services_of_the_api)
    assert [text.partition(":")[0] for text in found] == ["datastore", "trainer"]


def test_a_pod_is_killed_only_after_its_service_could_finish(manifests: list[Manifest]) -> None:
    assert short_graces(manifests) == []


def test_a_grace_that_is_too_short_would_be_found(single_node: list[Manifest]) -> None:
    pod_of(single_node, "sampler").spec["terminationGracePeriodSeconds"] = 35
    assert short_graces(single_node) == ["sampler: killed after 35 s, needs 35.0 s"]


def test_each_service_has_a_disruption_budget_that_lets_nodes_be_drained(manifests: list[Manifest]) -> None:
    for service in SERVICES:
        budget = named(manifests, "PodDisruptionBudget", service)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"] == {"app.kubernetes.io/component": service}


def test_services_are_headless_so_that_clients_see_every_pod(manifests: list[Manifest]) -> None:
    assert {
        one["metadata"]["name"]: one["spec"]["clusterIP"] for one in of_kind(manifests, "Service")
    }.items() >= {(service, "None") for service in SERVICES}


def test_an_update_of_what_may_run_once_ends_the_old_one_first(manifests: list[Manifest]) -> None:
    for service in ("sampler", "trainer"):
        spec = named(manifests, "Deployment", service)["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_changed_setting_rolls_out_by_itself(manifests: list[Manifest]) -> None:
    (config,) = [one for one in of_kind(manifests, "ConfigMap") if "BIOSEGMENT_LOG_LEVEL" in one["data"]]
    assert config["metadata"]["name"].startswith("biosegment-config-")
    for service in SERVICES:
        sources = pod_of(manifests, service).containers[0]["envFrom"]
        assert [source["configMapRef"]["name"] for source in sources] == [config["metadata"]["name"]]
