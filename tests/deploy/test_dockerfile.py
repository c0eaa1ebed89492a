"""The Dockerfile: one target per role, pinned, without root, from our constraints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from biosegment import supervisor
from tests.deploy.dockerfile import lineage, parse, problems
from tests.deploy.manifest import SERVICES, Manifest, named, pods

BASE = "python:3.11.13-slim-bookworm AS base"


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "deploy/docker/Dockerfile").read_text()


def test_the_dockerfile_keeps_the_rules(text: str) -> None:
    assert problems(text, SERVICES) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (BASE, "python AS base", "base: python is not pinned"),
        (BASE, "python:latest AS base", "base: python:latest is not pinned"),
        ("USER 10001:10001\nEXPOSE 50051 8080", "USER root\nEXPOSE 50051 8080", "gateway: runs as root"),
        ("COPY src src", "ADD https://example.org/src.tar src", "wheel: ADD fetches and unpacks; use COPY"),
        ("AS sampler\n", "AS sampling\n", "there is no target sampler"),
        (
            "install --constraint constraints.txt ${",
            "install ${",
            "build-torch: installs without constraints.txt",
        ),
        ("--from=build-gateway", "--from=build-gate", "gateway: copies from build-gate, which is no stage"),
        (
            "biosegment_trainer",
            "biosegment_other",
            'trainer: starts [\'["python", "-m", "biosegment_other"]\']',
        ),
        ("HOME=/tmp", "HOME=/tmp API_TOKEN=x", "datastore: bakes in a secret"),
        ("WORKDIR /tmp", 'ENTRYPOINT ["python"]', "trainer: has an ENTRYPOINT"),
    ],
)
def test_a_broken_rule_would_be_found(text: str, old: str, new: str, expected: str) -> None:
    assert old in text
    assert expected in problems(text.replace(old, new), SERVICES)


def test_each_role_installs_its_own_extra(text: str, root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    stages = parse(text)
    for role in SERVICES:
        (source,) = re.findall(r"--from=(\S+)", " ".join(stages[role].of("COPY")))
        (install,) = [run for run in stages[source].of("RUN") if "biosegment[" in run]
        assert re.findall(r"biosegment\[(\w+)]", install) == [role]
        assert role in extras


def test_memory_is_managed_as_on_the_embedded_platform(text: str) -> None:
    settings = dict(pair.split("=", 1) for value in parse(text)["base"].of("ENV") for pair in value.split())
    assert {
        name: value for name, value in settings.items() if name.startswith("MALLOC_")
    } == supervisor.MALLOC


def test_torch_comes_first_and_only_where_it_is_used(text: str) -> None:
    stages = parse(text)
    with_torch = {
        role for role in SERVICES if "build-torch" in {one.name for one in lineage(stages, f"build-{role}")}
    }
    assert with_torch == {"trainer"}
    names = list(stages)
    assert names.index("build-torch") < names.index("wheel")
    assert any(run.endswith("torch") for run in stages["build-torch"].of("RUN"))


def test_what_is_copied_exists_and_is_let_through_to_the_build(text: str, root: Path) -> None:
    ignored = (root / "deploy/docker/Dockerfile.dockerignore").read_text().splitlines()
    sources = [
        source
        for stage in parse(text).values()
        for copy in stage.of("COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    ]
    assert sorted(sources) == ["README.md", "bundles", "constraints.txt", "pyproject.toml", "services", "src"]
    assert [source for source in sources if not (root / source).exists()] == []
    assert [source for source in sources if f"!{source}" not in ignored] == []
    assert "*" in ignored


def test_images_of_the_manifests_are_targets(manifests: list[Manifest], text: str) -> None:
    ours = {
        container["image"].rpartition("/")[2].partition(":")[0]
        for pod in pods(manifests)
        for container in pod.containers
        if "/biosegment/" in container["image"]
    }
    assert ours == set(SERVICES)
    assert ours <= set(parse(text))


def test_the_tag_in_the_manifests_is_the_version_of_the_package(
    manifests: list[Manifest], root: Path
) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    for service in SERVICES:
        image = named(manifests, "Deployment", service)["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image.endswith(f":{version}")
