"""What NetworkPolicies allow, as a set of edges.

Both ends have a say: a connection passes when the policies on the source allow it out and those on the target
allow it in. The two sides are worked out apart, so that a right that only one side grants is seen too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.deploy.manifest import Manifest, of_kind, pods

OUTSIDE = "outside"
"""Everything, in the cluster or not."""
_PROBED_PORTS = {22, 53, 80, 443, 1023, 1024, 2379, 6443, 8000, 10250, 23000, 44217, 52365, 65535}
"""Ports that no policy mentions are tried too, for rules that name ranges or no port at all."""


class Edge(NamedTuple):
    """A connection; pods are named by their component, everything else by what a policy calls it."""

    source: str
    target: str
    protocol: str
    port: int


class Edges(NamedTuple):
    egress: set[Edge]
    ingress: set[Edge]


def allowed(manifests: list[Manifest]) -> Edges:
    """All edges, over all components, the ports of all rules and some others."""
    components = {pod.component: pod.labels for pod in pods(manifests)}
    policies = of_kind(manifests, "NetworkPolicy")
    ports = sorted(_PROBED_PORTS | _mentioned(policies))
    edges = Edges(set(), set())
    for component, labels in components.items():
        for peer, protocol, port in _granted(policies, components, labels, "Egress", ports):
            edges.egress.add(Edge(component, peer, protocol, port))
        for peer, protocol, port in _granted(policies, components, labels, "Ingress", ports):
            edges.ingress.add(Edge(peer, component, protocol, port))
    return edges


def _granted(
    policies: list[Manifest],
    components: dict[str, Any],
    labels: dict[str, str],
    direction: str,
    ports: list[int],
) -> set[tuple[str, str, int]]:
    on_pod = [
        policy["spec"]
        for policy in policies
        if _matches(policy["spec"]["podSelector"], labels) and direction in policy["spec"]["policyTypes"]
    ]
    if not on_pod:  # not isolated: everything passes
        return {(OUTSIDE, "TCP", port) for port in ports}
    rules = [rule for spec in on_pod for rule in spec.get(direction.lower(), [])]
    peers_key = "to" if direction == "Egress" else "from"
    return {
        (peer, protocol, port)
        for rule in rules
        for peer in _peers(rule.get(peers_key), components)
        for protocol, port in _ports(rule.get("ports"), ports)
    }


def _peers(peers: list[dict[str, Any]] | None, components: dict[str, dict[str, str]]) -> set[str]:
    if not peers:
        return {OUTSIDE}
    found: set[str] = set()
    for peer in peers:
        if "ipBlock" in peer:
            found.add(peer["ipBlock"]["cidr"])
        elif "namespaceSelector" in peer:
            namespace = (
                peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name", "*")
            )
            application = peer.get("podSelector", {}).get("matchLabels", {}).get("k8s-app", "*")
            found.add(f"{namespace}/{application}")
        else:
            found |= {name for name, labels in components.items() if _matches(peer["podSelector"], labels)}
    return found


def _ports(rules: list[dict[str, Any]] | None, ports: list[int]) -> set[tuple[str, int]]:
    if not rules:
        return {(protocol, port) for protocol in ("TCP", "UDP") for port in ports}
    return {
        (rule.get("protocol", "TCP"), port)
        for rule in rules
        for port in ports
        if "port" not in rule or rule["port"] <= port <= rule.get("endPort", rule["port"])
    }


def _mentioned(policies: list[Manifest]) -> set[int]:
    rules = [
        rule
        for policy in policies
        for direction in ("ingress", "egress")
        for rule in policy["spec"].get(direction, [])
    ]
    return {port["port"] for rule in rules for port in rule.get("ports", []) if "port" in port}


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", []):
        value, values = labels.get(expression["key"]), expression.get("values", [])
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression["operator"]]
        if not holds:
            return False
    return True
