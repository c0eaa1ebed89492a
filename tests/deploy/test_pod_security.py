"""An API server that enforces Pod Security `restricted` admits every pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.manifest import Manifest, named, pod_of
from tests.deploy.pod_security import problems


def test_every_pod_keeps_the_restricted_standard(manifests: list[Manifest]) -> None:
    assert problems(manifests) == []


def test_only_the_autoscaler_s_pod_holds_a_token_of_the_kubernetes_api(
    rendered: dict[str, list[Manifest]],
) -> None:
    mounted = {
        overlay: pod_of(objects, "ray-head").spec["automountServiceAccountToken"]
        for overlay, objects in rendered.items()
    }
    assert mounted == {"single-node": False, "lab": True}


@pytest.mark.parametrize("component", ["datastore", "ray-worker", "postgres"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "may run as root"),
        (lambda spec: spec["securityContext"].update(runAsUser=0), "may run as root"),
        (lambda spec: spec["securityContext"].pop("seccompProfile"), "has no seccomp profile"),
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork is set"),
        (
            lambda spec: spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
            "volume x is a hostPath",
        ),
        (lambda spec: spec["containers"][0].pop("securityContext"), "keeps capabilities"),
        (lambda spec: spec["containers"][0]["securityContext"].update(privileged=True), "is privileged"),
        (
            lambda spec: spec["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
            "adds capabilities",
        ),
        (lambda spec: spec.update(initContainers=[{"name": "x"}]), "container x may escalate privileges"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "holds a token of the Kubernetes API"),
    ],
)
def test_a_pod_that_would_be_refused_is_found(
    single_node: list[Manifest], component: str, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    change(pod_of(single_node, component).spec)
    assert any(expected in problem for problem in problems(single_node))


def test_an_autoscaler_that_would_be_refused_is_found(rendered: dict[str, list[Manifest]]) -> None:
    cluster = named(rendered["lab"], "RayCluster", "biosegment-ray")
    without = {
        key: value for key, value in cluster["spec"]["autoscalerOptions"].items() if key != "securityContext"
    }
    changed = {**cluster, "spec": {**cluster["spec"], "autoscalerOptions": without}}
    assert any("autoscaler keeps capabilities" in problem for problem in problems([changed]))
