"""Every name in the manifests leads to something."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.manifest import SERVICES, Manifest, named, pod_of, pods
from tests.deploy.reference import PROVIDED, problems

Mutation = Callable[[list[Manifest]], None]


def test_every_reference_leads_somewhere(manifests: list[Manifest]) -> None:
    assert problems(manifests) == []


def _wrong_secret_key(manifests: list[Manifest]) -> None:
    for variable in pod_of(manifests, "sampler").containers[0]["env"]:
        if variable["name"] == "BIOSEGMENT_SAMPLER__DATABASE_URL":
            variable["valueFrom"]["secretKeyRef"]["key"] = "sampler-url"


def _lost_claim(manifests: list[Manifest]) -> None:
    manifests.remove(named(manifests, "PersistentVolumeClaim", "imports"))


def _lost_account(manifests: list[Manifest]) -> None:
    manifests.remove(named(manifests, "ServiceAccount", "ray-worker"))


def _wrong_selector(manifests: list[Manifest]) -> None:
    named(manifests, "Service", "trainer")["spec"]["selector"] = {"app.kubernetes.io/component": "teacher"}


def _wrong_port_name(manifests: list[Manifest]) -> None:
    named(manifests, "Service", "gateway")["spec"]["ports"][1]["targetPort"] = "web"


def _wrong_address(manifests: list[Manifest]) -> None:
    pod_of(manifests, "gateway").containers[0]["env"].append({"name": "X", "value": "dns:///trainer:50052"})


def _wrong_ray_address(manifests: list[Manifest]) -> None:
    pod_of(manifests, "trainer").containers[0]["env"].append(
        {"name": "X", "value": "ray://ray-head-svc:10001"}
    )


def _budget_for_nothing(manifests: list[Manifest]) -> None:
    selector = named(manifests, "PodDisruptionBudget", "sampler")["spec"]["selector"]
    selector["matchLabels"] = {"app.kubernetes.io/component": "samplers"}


def _stale_config_name(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        if pod.component == "ray-worker":
            pod.containers[0]["envFrom"][0]["configMapRef"]["name"] = "biosegment-config"


def _probe_of_another_port(manifests: list[Manifest]) -> None:
    pod_of(manifests, "datastore").containers[0]["readinessProbe"]["grpc"]["port"] = 50052


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (_wrong_secret_key, "Secret biosegment-databases has no key sampler-url"),
        (_lost_claim, "there is no PersistentVolumeClaim imports"),
        (_lost_account, "there is no ServiceAccount ray-worker"),
        (_wrong_selector, "selects pods of 0 components"),
        (_wrong_port_name, "port web is none of Deployment/gateway"),
        (_wrong_address, "dns:///trainer:50052 leads nowhere"),
        (_wrong_ray_address, "ray://ray-head-svc:10001 leads nowhere"),
        (_budget_for_nothing, "selects no pod"),
        (_stale_config_name, "there is no ConfigMap biosegment-config"),
        (_probe_of_another_port, "a probe asks port 50052"),
    ],
)
def test_a_broken_reference_would_be_found(
    single_node: list[Manifest], mutate: Mutation, expected: str
) -> None:
    mutate(single_node)
    assert any(expected in problem for problem in problems(single_node))


def test_the_readme_says_how_to_make_each_object_and_key_that_is_not_in_the_manifests(root: Path) -> None:
    readme = (root / "deploy/k8s/README.md").read_text().replace("\\\n", " ")
    for (kind, name), keys in PROVIDED.items():
        verb = "secret generic" if kind == "Secret" else "configmap"
        (command,) = re.findall(rf"create {verb} {name} (.*)", readme)
        for key in keys:
            assert re.search(rf"[=/]{key}(?![\w-])", command), f"{name}: {key}"


def test_the_commands_of_the_readme_are_well_formed(root: Path) -> None:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (root / "deploy/k8s/README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) > 5
    for block in blocks:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), block
    for folder in re.findall(r"kubectl \w+ -k (\S+)", "".join(blocks)):
        assert (root / folder / "kustomization.yaml").is_file()


def test_a_pod_gets_its_own_signing_key_and_database_and_no_other(manifests: list[Manifest]) -> None:
    for service in SERVICES:
        pod = pod_of(manifests, service)
        (keys,) = [volume["secret"] for volume in pod.spec["volumes"] if "secret" in volume]
        assert keys["items"] == [{"key": f"{service}.key", "path": "service.key"}]
        urls = [
            variable["valueFrom"]["secretKeyRef"]["key"]
            for variable in pod.containers[0]["env"]
            if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "biosegment-databases"
        ]
        assert urls == [service]


def test_whoever_only_reads_object_storage_has_credentials_for_reading(
    overlay: str, manifests: list[Manifest]
) -> None:
    users: dict[str, set[str]] = {"object-store": set(), "object-store-reader": set()}
    for pod in pods(manifests):
        for variable in pod.containers[0].get("env", []):
            secret = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name")
            if secret in users:
                users[secret].add(pod.component)
    assert users == {
        "object-store": {"datastore", "trainer", "ray-worker"},
        "object-store-reader": {"gateway", "sampler", *(["backup"] if overlay == "lab" else [])},
    }
