"""What the deploy tests see of rendered manifests: pods, wherever they hide, and their environment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
COMPONENT = "app.kubernetes.io/component"
SERVICES = ("datastore", "sampler", "trainer", "gateway")


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod template of a Deployment, a StatefulSet, a CronJob or a RayCluster."""

    owner: str
    labels: dict[str, str]
    spec: dict[str, Any]
    claims: tuple[str, ...] = ()
    """Names of volumes that a StatefulSet's claim templates bring."""

    @property
    def component(self) -> str:
        return self.labels[COMPONENT]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def render(kubectl: str, folder: Path) -> list[Manifest]:
    """Render a kustomization; the error output of kustomize is the failure's message."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl kustomize {folder}: {done.stderr}"
    return parse(done.stdout)


def parse(text: str) -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} objects are {kind}/{name}"
    return found[0]


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """Every pod template."""
    for manifest in of_kind(manifests, "Deployment", "StatefulSet"):
        spec = manifest["spec"]
        claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", []))
        yield Pod(title(manifest), spec["template"]["metadata"]["labels"], spec["template"]["spec"], claims)
    for manifest in of_kind(manifests, "CronJob"):
        template = manifest["spec"]["jobTemplate"]["spec"]["template"]
        yield Pod(title(manifest), template["metadata"]["labels"], template["spec"])
    for manifest in of_kind(manifests, "RayCluster"):
        groups = [("head", manifest["spec"]["headGroupSpec"])]
        groups += [(group["groupName"], group) for group in manifest["spec"]["workerGroupSpecs"]]
        for name, group in groups:
            template = group["template"]
            yield Pod(f"{title(manifest)} {name}", template["metadata"]["labels"], template["spec"])


def pod_of(manifests: list[Manifest], component: str) -> Pod:
    """The pod template of a component that has one only."""
    found = [pod for pod in pods(manifests) if pod.component == component]
    assert len(found) == 1, f"{len(found)} pod templates are of component {component}"
    return found[0]


def environment(manifests: list[Manifest], container: dict[str, Any]) -> dict[str, str]:
    """A container's environment; what comes from a Secret is replaced by a well-formed stand-in."""
    values: dict[str, str] = {}
    for source in container.get("envFrom", []):
        values |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef")
        if secret is None:
            values[variable["name"]] = variable["value"]
        else:
            is_url = secret["name"] == "biosegment-databases"
            values[variable["name"]] = "postgresql://user:word@host/name" if is_url else "secret"
    return values
