"""Manifests against the schemas that an API server would hold them to, unknown fields included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.deploy.manifest import Manifest, title


def builtin_problems(manifests: list[Manifest], version: str) -> list[str]:
    """What Kubernetes `version` would refuse with `--validate=strict`; custom resources are passed over."""
    problems = []
    for manifest in manifests:
        if manifest["apiVersion"].startswith("ray.io/"):
            continue
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            problems.append(f"{title(manifest)}: {error.message}")
    return problems


def custom_problems(manifests: list[Manifest], definition: Path) -> list[str]:
    """What the custom resource definition in a file refuses."""
    schemas = _schemas(
        yaml.load(definition.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    )
    problems, checked = [], 0
    for manifest in manifests:
        schema = schemas.get((manifest["apiVersion"], manifest["kind"]))
        if schema is None:
            continue
        checked += 1
        errors = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
        problems += [f"{title(manifest)} {error.json_path}: {error.message[:200]}" for error in errors]
    return problems if checked else [f"{definition.name} defines none of the objects"]


def _schemas(definition: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    spec = definition["spec"]
    schemas = {}
    for version in spec["versions"]:
        schema = _closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def _closed(node: Any) -> Any:
    """Refuse unknown fields, as a live server does under strict validation."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _closed(value) for key, value in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
    is_open = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not is_open:
        node["additionalProperties"] = False
    return node
