"""References between objects: no schema checks them, and one that leads nowhere breaks an installation."""

from __future__ import annotations

import re
from typing import Any

from tests.deploy.manifest import Manifest, Pod, named, of_kind, pods, title

_SERVICES = ("datastore", "sampler", "trainer", "gateway")
PROVIDED: dict[tuple[str, str], set[str]] = {
    ("Secret", "biosegment-signing-keys"): {f"{service}.key" for service in _SERVICES},
    ("ConfigMap", "biosegment-public-keys"): {f"{service}.pub" for service in _SERVICES},
    ("Secret", "biosegment-databases"): set(_SERVICES),
    ("Secret", "object-store"): {"access-key-id", "secret-access-key"},
    ("Secret", "object-store-reader"): {"access-key-id", "secret-access-key"},
    ("Secret", "ray-auth-token"): {"auth_token"},
    ("Secret", "minio-root"): {"user", "password"},
    ("Secret", "postgres-passwords"): {"postgres", *_SERVICES},
}
"""Objects and their keys that the person who installs makes, as README.md says."""


def problems(manifests: list[Manifest]) -> list[str]:
    found = []
    for pod in pods(manifests):
        found += [f"{pod.owner}: {text}" for text in _pod_problems(manifests, pod)]
    for manifest in manifests:
        found += [f"{title(manifest)}: {text}" for text in _object_problems(manifests, manifest)]
    return found


def _pod_problems(manifests: list[Manifest], pod: Pod) -> list[str]:
    found = []
    account = pod.spec.get("serviceAccountName")
    if not _exists(manifests, "ServiceAccount", account):
        found.append(f"there is no ServiceAccount {account}")
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for volume in volumes.values():
        found += _volume_problems(manifests, volume)
    for container in pod.containers:
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        found += [f"no volume {name}" for name in sorted(mounts - set(volumes) - set(pod.claims))]
        found += _probe_problems(container)
        for source in container.get("envFrom", []):
            found += _keys_problems(manifests, "ConfigMap", source["configMapRef"]["name"], set())
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                found += _keys_problems(manifests, "Secret", reference["name"], {reference["key"]})
            found += _address_problems(manifests, variable.get("value", ""))
    return found


def _volume_problems(manifests: list[Manifest], volume: dict[str, Any]) -> list[str]:
    for field, kind, key in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
        if field in volume:
            keys = {item["key"] for item in volume[field].get("items", [])}
            return _keys_problems(manifests, kind, volume[field][key], keys)
    claim = volume.get("persistentVolumeClaim", {}).get("claimName")
    if claim and not _exists(manifests, "PersistentVolumeClaim", claim):
        return [f"there is no PersistentVolumeClaim {claim}"]
    return []


def _keys_problems(manifests: list[Manifest], kind: str, name: str, keys: set[str]) -> list[str]:
    if _exists(manifests, kind, name):
        present = set(named(manifests, kind, name).get("data", {}))
    elif (kind, name) in PROVIDED:
        present = PROVIDED[kind, name]
    else:
        return [f"there is no {kind} {name}, and README.md does not say how to make one"]
    return [f"{kind} {name} has no key {key}" for key in sorted(keys - present)]


def _probe_problems(container: dict[str, Any]) -> list[str]:
    ports = container.get("ports", [])
    known = {port["containerPort"] for port in ports} | {port["name"] for port in ports}
    used = []
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for action in ("grpc", "httpGet", "tcpSocket"):
            if action in container.get(probe, {}):
                used.append(container[probe][action]["port"])
    return [
        f"a probe asks port {port}, which {container['name']} does not name"
        for port in used
        if port not in known
    ]


def _address_problems(manifests: list[Manifest], value: str) -> list[str]:
    """Addresses of our own services lead to a port that the Service has."""
    address = re.fullmatch(r"(?:dns:///|ray://|http://)([a-z0-9-]+):(\d+)", value)
    if address is None:
        return []
    host, port = address[1], int(address[2])
    for cluster in of_kind(manifests, "RayCluster"):
        if host == f"{cluster['metadata']['name']}-head-svc":  # made by KubeRay from the head's ports
            head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
            if port in {item["containerPort"] for item in head["ports"]}:
                return []
    for service in of_kind(manifests, "Service"):
        if service["metadata"]["name"] == host and port in {
            item["port"] for item in service["spec"]["ports"]
        }:
            return []
    return [f"{value} leads nowhere"]


def _object_problems(manifests: list[Manifest], manifest: Manifest) -> list[str]:
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Service":
            return _service_problems(manifests, spec)
        case "PodDisruptionBudget" | "NetworkPolicy":
            selector = spec["selector" if manifest["kind"] == "PodDisruptionBudget" else "podSelector"]
            wanted = selector.get("matchLabels", {})
            return [] if _selected(manifests, wanted) else [f"selects no pod: {wanted}"]
        case "Deployment" | "StatefulSet":
            found = []
            if not spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items():
                found.append("does not select its own pods")
            if "serviceName" in spec and not _exists(manifests, "Service", spec["serviceName"]):
                found.append(f"there is no Service {spec['serviceName']}")
            return found
        case "RayCluster":
            name = spec["authOptions"]["secretName"]
            return _keys_problems(manifests, "Secret", name, {"auth_token"})
        case "ConfigMap":
            return [
                text for value in manifest["data"].values() for text in _address_problems(manifests, value)
            ]
    return []


def _service_problems(manifests: list[Manifest], spec: dict[str, Any]) -> list[str]:
    selected = _selected(manifests, spec["selector"])
    if len({pod.component for pod in selected}) != 1:
        return [f"selects pods of {len(selected)} components: {spec['selector']}"]
    found = []
    for port in spec["ports"]:
        for pod in selected:
            names = {item["name"] for container in pod.containers for item in container.get("ports", [])}
            if port["targetPort"] not in names:
                found.append(f"port {port['targetPort']} is none of {pod.owner}")
    return found


def _selected(manifests: list[Manifest], labels: dict[str, str]) -> list[Pod]:
    return [pod for pod in pods(manifests) if labels.items() <= pod.labels.items()]


def _exists(manifests: list[Manifest], kind: str, name: str | None) -> bool:
    return any(one["metadata"]["name"] == name for one in of_kind(manifests, kind))
