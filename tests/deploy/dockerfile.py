"""A Dockerfile as stages of instructions, and the rules that it keeps; no engine is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FOREIGN_TAG = re.compile(r"[\w./-]+:(?!latest\b)[\w.-]+(@sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    parent: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        return [value for name, value in self.instructions if name == keyword]


def parse(text: str) -> dict[str, Stage]:
    """Stages by name, in order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword.upper() == "FROM":
            parent, _, name = value.partition(" AS ")
            current = stages[name or parent] = Stage(name or parent, parent)
        elif current is not None:
            current.instructions.append((keyword.upper(), " ".join(value.split())))
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage, its parent, and so on down to the foreign image."""
    chain = [stages[name]]
    while chain[-1].parent in stages:
        chain.append(stages[chain[-1].parent])
    return chain


def problems(text: str, roles: tuple[str, ...]) -> list[str]:
    """Everything that breaks our rules."""
    stages = parse(text)
    found = [f"there is no target {role}" for role in roles if role not in stages]
    for stage in stages.values():
        if stage.parent not in stages and not _FOREIGN_TAG.fullmatch(stage.parent):
            found.append(f"{stage.name}: {stage.parent} is not pinned")
        if stage.of("ADD"):
            found.append(f"{stage.name}: ADD fetches and unpacks; use COPY")
        for command in stage.of("RUN"):
            if re.search(r"\bpip install\b", command) and "--constraint constraints.txt" not in command:
                found.append(f"{stage.name}: installs without constraints.txt")
            if re.search(r"\b(curl|wget)\b.*https?://", command):
                found.append(f"{stage.name}: fetches a file")
        for copy in stage.of("COPY"):
            source = re.match(r"--from=(\S+)", copy)
            if source and source[1] not in stages:
                found.append(f"{stage.name}: copies from {source[1]}, which is no stage")
    for role in roles:
        if role in stages:
            found += _role_problems(stages, role)
    return found


def _role_problems(stages: dict[str, Stage], role: str) -> list[str]:
    chain = lineage(stages, role)
    users = [value for stage in chain for value in reversed(stage.of("USER"))]
    found = []
    if not users or users[0] != "10001:10001":
        found.append(f"{role}: runs as {users[0] if users else 'root'}")
    if stages[role].of("CMD") != [f'["python", "-m", "biosegment_{role}"]']:
        found.append(f"{role}: starts {stages[role].of('CMD')}")
    if any(stage.of("ENTRYPOINT") for stage in chain):
        found.append(f"{role}: has an ENTRYPOINT")
    secrets = [value for stage in chain for value in stage.of("ENV") + stage.of("ARG")]
    if any(re.search(r"(?i)(password|secret|token|key)\w*=", value) for value in secrets):
        found.append(f"{role}: bakes in a secret")
    return found
