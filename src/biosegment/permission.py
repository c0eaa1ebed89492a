"""Permissions, and what grants or bounds them: roles in a project, services, scopes of API tokens."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name


class Role(enum.StrEnum):
    """Membership of a project."""

    OWNER = "owner"
    MANAGER = "manager"
    ANNOTATOR = "annotator"
    REVIEWER = "reviewer"
    VIEWER = "viewer"


class Permission(enum.StrEnum):
    PROJECT_READ = "project.read"
    PROJECT_UPDATE = "project.update"
    """Change settings, take over leases."""
    PROJECT_DELETE = "project.delete"
    MEMBERS_UPDATE = "members.update"
    VOLUME_WRITE = "volume.write"
    """Import, change and delete volumes."""
    LAYER_WRITE = "layer.write"
    ANNOTATE = "annotate"
    """Claim samples, commit annotations, edit objects, revert one's own."""
    REVIEW = "review"
    """Review annotations, correct and revert anybody's annotations and edits."""
    MODEL_WRITE = "model.write"
    """Train, import and delete models; run predictions."""
    EXPORT = "export"


_P = Permission
ROLE_PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.OWNER: frozenset(_P),
    Role.MANAGER: frozenset(_P) - {_P.PROJECT_DELETE},
    Role.REVIEWER: frozenset({_P.PROJECT_READ, _P.ANNOTATE, _P.REVIEW, _P.EXPORT}),
    Role.ANNOTATOR: frozenset({_P.PROJECT_READ, _P.ANNOTATE}),
    Role.VIEWER: frozenset({_P.PROJECT_READ}),
}

SERVICE_PERMISSIONS: Final[dict[str, frozenset[Permission]]] = {
    "gateway": frozenset({_P.PROJECT_READ}),
    "sampler": frozenset({_P.PROJECT_READ, _P.MODEL_WRITE}),
    "trainer": frozenset({_P.PROJECT_READ, _P.LAYER_WRITE}),
    "datastore": frozenset({_P.PROJECT_READ}),
}
"""What a service may do of its own accord, in every project."""


class Scope(enum.StrEnum):
    """What an API token may be used for at most; its user's own rights are the other bound."""

    READ = "read"
    """Look at everything, export."""
    ANNOTATE = "annotate"
    """Besides: claim samples, annotate, edit objects, review."""
    MANAGE = "manage"
    """Besides: everything else in projects: volumes, models, settings, members."""
    ADMIN = "admin"
    """Besides: users, tokens, and what only platform administrators do."""


SCOPE_PERMISSIONS: Final[dict[Scope, frozenset[Permission]]] = {
    Scope.READ: frozenset({_P.PROJECT_READ, _P.EXPORT}),
    Scope.ANNOTATE: frozenset({_P.PROJECT_READ, _P.EXPORT, _P.ANNOTATE, _P.REVIEW}),
    Scope.MANAGE: frozenset(_P),
    Scope.ADMIN: frozenset(_P),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One thing that a limited token may be used for: a scope, in one project or, when that is '', everywhere."""

    scope: Scope
    project_id: str = ""

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `read` or `annotate:projects/kidney`.

        Raises:
            InvalidArgument: BAD_SCOPE.
        """
        name, bound, project = text.partition(":")
        try:
            scope = Scope(name)
            project_id = parse_name(project, "projects/*")[0] if bound else ""
        except (ValueError, InvalidArgument) as error:
            raise InvalidArgument(
                "BAD_SCOPE",
                f"scope {text[:100]!r} is none: use {', '.join(Scope)}, or in one project alone "
                "annotate:projects/PROJECT",
            ) from error
        if project_id and scope is Scope.ADMIN:
            raise InvalidArgument("BAD_SCOPE", "admin is of the whole platform; use manage in a project")
        return cls(scope, project_id)

    def covers(self, permission: Permission, project_id: str) -> bool:
        """Whether it allows `permission` in a project; '' for what is in none."""
        return self.project_id in ("", project_id) and permission in SCOPE_PERMISSIONS[self.scope]

    def __str__(self) -> str:
        return f"{self.scope}:projects/{self.project_id}" if self.project_id else self.scope.value
