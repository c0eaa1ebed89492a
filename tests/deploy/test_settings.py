"""Every BIOSEGMENT_ variable of the manifests is a field of its service's settings, and none is missing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from biosegment.backup.place import Installation
from biosegment.errors import InvalidArgument
from biosegment.settings import ObjectStoreSettings, ServiceSettings
from tests.deploy.manifest import SERVICES, Manifest, environment, named, pod_of, pods


def settings_class(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"biosegment_{service}.settings")
    found: type[ServiceSettings] = getattr(module, f"{service.capitalize()}Settings")
    assert issubclass(found, ServiceSettings)
    return found


def load(manifests: list[Manifest], service: str) -> ServiceSettings:
    """The settings that a service would start with."""
    return settings_class(service).load(
        service, environment(manifests, pod_of(manifests, service).containers[0])
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_with_the_variables_of_its_pod(manifests: list[Manifest], service: str) -> None:
    settings = load(manifests, service)
    container = pod_of(manifests, service).containers[0]
    assert settings.listen == "0.0.0.0:50051"
    assert settings.allow_insecure_listen
    assert {port["name"]: port["containerPort"] for port in container["ports"]}["grpc"] == 50051
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    assert settings.signing_key_file.parent in mounts
    assert settings.public_keys_dir in mounts
    assert settings.signing_key_file.name == "service.key"


@pytest.mark.parametrize("service", SERVICES)
def test_no_variable_belongs_to_nobody(manifests: list[Manifest], service: str) -> None:
    shared = {f"BIOSEGMENT_{name.upper()}" for name in ServiceSettings.model_fields}
    own = {f"BIOSEGMENT_{service.upper()}__{name.upper()}" for name in settings_class(service).model_fields}
    variables = environment(manifests, pod_of(manifests, service).containers[0])
    assert {name for name in variables if name.startswith("BIOSEGMENT_")} <= shared | own


@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_variable_would_be_found(single_node: list[Manifest], service: str) -> None:
    variable = f"BIOSEGMENT_{service.upper()}__NO_SUCH_FIELD"
    pod_of(single_node, service).containers[0]["env"].append({"name": variable, "value": "1"})
    with pytest.raises(InvalidArgument, match=variable):
        load(single_node, service)


@pytest.mark.parametrize("service", SERVICES)
def test_a_missing_variable_would_be_found(single_node: list[Manifest], service: str) -> None:
    container = pod_of(single_node, service).containers[0]
    variable = f"BIOSEGMENT_{service.upper()}__DATABASE_URL"
    container["env"] = [item for item in container["env"] if item["name"] != variable]
    with pytest.raises(InvalidArgument, match=variable):
        load(single_node, service)


def test_services_find_each_other_at_their_service_names(manifests: list[Manifest]) -> None:
    addresses = {
        (service, field): getattr(load(manifests, service), f"{field}_address")
        for service, field in [
            ("sampler", "datastore"),
            ("sampler", "trainer"),
            ("trainer", "datastore"),
            ("gateway", "datastore"),
            ("gateway", "sampler"),
            ("gateway", "trainer"),
        ]
    }
    assert addresses == {key: f"dns:///{key[1]}:50051" for key in addresses}


def test_files_may_be_imported_from_the_mounted_folder_only(manifests: list[Manifest]) -> None:
    container = pod_of(manifests, "datastore").containers[0]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "imports"]
    assert mount["readOnly"]
    assert environment(manifests, container)["BIOSEGMENT_DATASTORE__IMPORT_ROOTS"] == mount["mountPath"]


def test_the_readme_names_settings_that_exist(root: Path) -> None:
    text = (root / "deploy/k8s/README.md").read_text()
    named_there = set(re.findall(r"BIOSEGMENT_([A-Z]+)__([A-Z_]+)", text))
    assert ("GATEWAY", "ADMIN_TOKEN_FILE") in named_there
    for service, name in named_there:
        assert name.lower() in settings_class(service.lower()).model_fields


def test_ray_workers_know_where_object_storage_is(manifests: list[Manifest]) -> None:
    workers = [pod for pod in pods(manifests) if pod.component == "ray-worker"]
    assert workers
    for worker in workers:
        variables = environment(manifests, worker.containers[0])
        for name in ObjectStoreSettings.model_fields:
            assert f"BIOSEGMENT_{name.upper()}" in variables


def test_the_trainer_reaches_ray_with_the_token_that_ray_asks_for(manifests: list[Manifest]) -> None:
    token = named(manifests, "RayCluster", "biosegment-ray")["spec"]["authOptions"]["secretName"]
    variables = {item["name"]: item for item in pod_of(manifests, "trainer").containers[0]["env"]}
    secret = variables["BIOSEGMENT_TRAINER__RAY_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": token, "key": "auth_token"}
    assert variables["BIOSEGMENT_TRAINER__RAY_ADDRESS"]["value"] == "ray://biosegment-ray-head-svc:10001"


def test_a_cluster_that_grows_on_demand_says_how_large_its_nodes_become(manifests: list[Manifest]) -> None:
    ray = named(manifests, "RayCluster", "biosegment-ray")["spec"]
    settings = load(manifests, "trainer")
    if not ray["enableInTreeAutoscaling"]:
        assert settings.ray_node_cpus == 0  # type: ignore[attr-defined]
        return
    groups = ray["workerGroupSpecs"]
    limits = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups]
    largest = max(limits, key=lambda limit: int(limit["cpu"]))
    assert settings.ray_node_cpus == int(largest["cpu"])  # type: ignore[attr-defined]
    assert settings.ray_node_gpus == int(largest["nvidia.com/gpu"])  # type: ignore[attr-defined]
    gibibytes = int(largest["memory"].removesuffix("Gi"))
    assert settings.ray_node_memory_bytes == gibibytes << 30  # type: ignore[attr-defined]
    gpus = sum(
        group["maxReplicas"] for group, limit in zip(groups, limits, strict=True) if "nvidia.com/gpu" in limit
    )
    assert settings.concurrent_trainings == gpus  # type: ignore[attr-defined]


def test_the_nightly_backup_finds_every_store_of_the_platform(rendered: dict[str, list[Manifest]]) -> None:
    manifests = rendered["lab"]
    pod = pod_of(manifests, "backup")
    (container,) = pod.containers
    installation = Installation.from_settings(environment(manifests, container))
    assert set(installation.databases) == set(SERVICES)
    for service in SERVICES:
        settings = load(manifests, service)
        assert installation.databases[service] == settings.database_url
        assert installation.store.object_store_url == settings.object_store_url
        assert installation.store.s3_endpoint_url == settings.s3_endpoint_url
    assert [*container["command"], *container["args"]][:3] == ["biosegment", "backup", "/backups"]
    assert "/backups" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert container["image"] == pod_of(manifests, "datastore").containers[0]["image"]
