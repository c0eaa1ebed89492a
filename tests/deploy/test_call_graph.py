"""NetworkPolicies allow the calls that the architecture knows, and nothing more, on both ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.manifest import Manifest, named
from tests.deploy.policy import OUTSIDE, Edge, Edges, allowed

GRPC, HTTP = 50051, 8080
CALLS = {
    ("gateway", "datastore"): [GRPC],
    ("gateway", "sampler"): [GRPC],
    ("gateway", "trainer"): [GRPC],
    ("sampler", "datastore"): [GRPC],
    ("sampler", "trainer"): [GRPC],
    ("trainer", "datastore"): [GRPC],
    ("trainer", "ray-head"): [6379, 8265, 10001],
    ("ray-worker", "trainer"): [GRPC],
}
RAY = ("ray-head", "ray-worker")
DATABASE_USERS = ("datastore", "sampler", "trainer", "gateway")
STORE_USERS = ("datastore", "sampler", "trainer", "gateway", "ray-worker")
DNS = "kube-system/kube-dns"
LAB_STORE, LAB_DATABASE, LAB_API_SERVER = "192.0.2.10/32", "192.0.2.20/32", "192.0.2.30/32"


def declared(overlay: str, tried: set[int]) -> Edges:
    """The declared graph; `tried` are the ports that the Ray nodes' range is sampled at."""
    within = {Edge(*pair, "TCP", port) for pair, ports in CALLS.items() for port in ports}
    within |= {Edge(a, b, "TCP", port) for a in RAY for b in RAY for port in tried if port >= 1024}
    components = {*DATABASE_USERS, *RAY}
    egress, ingress = set(within), set(within)
    if overlay == "single-node":
        stores = {Edge(user, "postgres", "TCP", 5432) for user in DATABASE_USERS}
        stores |= {Edge(user, "minio", "TCP", 9000) for user in STORE_USERS}
        egress, ingress = egress | stores, ingress | stores
        components |= {"postgres", "minio"}
    else:
        # The nightly backup reads both, and nobody talks to it.
        egress |= {Edge(user, LAB_DATABASE, "TCP", 5432) for user in (*DATABASE_USERS, "backup")}
        egress |= {Edge(user, LAB_STORE, "TCP", 443) for user in (*STORE_USERS, "backup")}
        components |= {"backup"}
        egress |= {Edge("ray-head", LAB_API_SERVER, "TCP", port) for port in (443, 6443)}
    egress |= {Edge(component, DNS, protocol, 53) for component in components for protocol in ("TCP", "UDP")}
    ingress |= {Edge(OUTSIDE, "gateway", "TCP", port) for port in (GRPC, HTTP)}
    return Edges(egress, ingress)


def _difference(overlay: str, manifests: list[Manifest]) -> set[str]:
    actual = allowed(manifests)
    expected = declared(overlay, {edge.port for edge in actual.ingress | actual.egress if edge.source in RAY})
    return {
        f"{sign} {side} {edge}"
        for side, have, want in zip(Edges._fields, actual, expected, strict=True)
        for sign, edges in (("extra", have - want), ("missing", want - have))
        for edge in edges
    }


def test_the_policies_allow_the_declared_calls_and_nothing_more(
    overlay: str, manifests: list[Manifest]
) -> None:
    assert _difference(overlay, manifests) == set()


def test_the_ray_nodes_are_tried_over_their_whole_range(single_node: list[Manifest]) -> None:
    ports = {edge.port for edge in allowed(single_node).egress if edge[:2] == ("ray-worker", "ray-head")}
    assert {1024, 6379, 23000, 65535} <= ports


def _spec(manifests: list[Manifest], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = named(manifests, "NetworkPolicy", name)["spec"]
    return spec


def _anyone_may_ask_the_sampler(manifests: list[Manifest]) -> None:
    del _spec(manifests, "sampler")["ingress"][0]["from"]


def _gateway_may_reach_ray(manifests: list[Manifest]) -> None:
    peer = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "ray-head"}}}
    _spec(manifests, "gateway")["egress"].append({"to": [peer], "ports": [{"port": 8265}]})


def _datastore_may_leave(manifests: list[Manifest]) -> None:
    _spec(manifests, "datastore")["egress"] = [{}]


def _no_default(manifests: list[Manifest]) -> None:
    manifests.remove(named(manifests, "NetworkPolicy", "default-deny"))
    manifests.remove(named(manifests, "NetworkPolicy", "datastore"))


def _sampler_is_cut_off(manifests: list[Manifest]) -> None:
    _spec(manifests, "datastore")["ingress"][0]["from"] = _spec(manifests, "datastore")["ingress"][0]["from"][
        :1
    ]


def _wider_port(manifests: list[Manifest]) -> None:
    _spec(manifests, "trainer")["ingress"][0]["ports"][0]["endPort"] = 65535


def _no_dns(manifests: list[Manifest]) -> None:
    manifests.remove(named(manifests, "NetworkPolicy", "dns"))


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (_anyone_may_ask_the_sampler, f"extra ingress {Edge(OUTSIDE, 'sampler', 'TCP', GRPC)}"),
        (_gateway_may_reach_ray, f"extra egress {Edge('gateway', 'ray-head', 'TCP', 8265)}"),
        (_datastore_may_leave, f"extra egress {Edge('datastore', OUTSIDE, 'TCP', 443)}"),
        (_no_default, f"extra ingress {Edge(OUTSIDE, 'datastore', 'TCP', 22)}"),
        (_sampler_is_cut_off, f"missing ingress {Edge('sampler', 'datastore', 'TCP', GRPC)}"),
        (_wider_port, f"extra ingress {Edge('gateway', 'trainer', 'TCP', 65535)}"),
        (_no_dns, f"missing egress {Edge('gateway', DNS, 'UDP', 53)}"),
    ],
)
def test_a_policy_that_differs_from_the_graph_would_be_found(
    single_node: list[Manifest], mutate: Callable[[list[Manifest]], None], expected: str
) -> None:
    mutate(single_node)
    assert expected in _difference("single-node", single_node)
