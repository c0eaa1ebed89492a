"""The Pod Security standard `restricted`, and a little more that we ask of ourselves."""

from __future__ import annotations

from typing import Any

from tests.deploy.manifest import Manifest, Pod, of_kind, pods

_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = {"RuntimeDefault", "Localhost"}


def problems(manifests: list[Manifest]) -> list[str]:
    found = []
    for pod in pods(manifests):
        found += [f"{pod.owner}: {text}" for text in _pod_problems(pod)]
    for cluster in of_kind(manifests, "RayCluster"):
        if cluster["spec"].get("enableInTreeAutoscaling"):  # a container that KubeRay adds to the head
            options = {"name": "autoscaler", **cluster["spec"].get("autoscalerOptions", {})}
            pod_context = cluster["spec"]["headGroupSpec"]["template"]["spec"].get("securityContext", {})
            found += [f"RayCluster autoscaler: {text}" for text in _container_problems(options, pod_context)]
    return found


def _pod_problems(pod: Pod) -> list[str]:
    spec, context = pod.spec, pod.spec.get("securityContext", {})
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    for volume in spec.get("volumes", []):
        found += [f"volume {volume['name']} is a {kind}" for kind in set(volume) - {"name"} - _VOLUMES]
    found += [f"sets sysctl {item['name']}" for item in context.get("sysctls", [])]
    for container in pod.containers:
        found += _container_problems(container, context)
    # Beyond the standard.
    if spec.get("serviceAccountName", "default") == "default":
        found.append("runs as the default service account")
    if spec.get("automountServiceAccountToken") is not False and pod.component != "ray-head":
        found.append("holds a token of the Kubernetes API")
    if spec.get("enableServiceLinks") is not False:
        found.append("gets variables from every Service's name")
    return found


def _container_problems(container: dict[str, Any], pod_context: dict[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    context = {**pod_context, **own}
    capabilities = own.get("capabilities", {})
    rules = {
        "is privileged": own.get("privileged", False),
        "may escalate privileges": own.get("allowPrivilegeEscalation") is not False,
        "keeps capabilities": "ALL" not in capabilities.get("drop", []),
        "adds capabilities": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "may run as root": context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0,
        "has no seccomp profile": context.get("seccompProfile", {}).get("type") not in _SECCOMP,
        "unmasks /proc": own.get("procMount", "Default") != "Default",
        "uses a host port": any(port.get("hostPort") for port in container.get("ports", [])),
        "may write its root file system": own.get("readOnlyRootFilesystem") is not True,
        "has no memory limit": "memory" not in container.get("resources", {}).get("limits", {}),
        "requests no CPU": "cpu" not in container.get("resources", {}).get("requests", {}),
    }
    return [f"container {container['name']} {text}" for text, broken in rules.items() if broken]
