"""Who calls, and what they may do.

The gateway authenticates people and programs; between services travels a principal: a JSON web token (EdDSA) that lives
for minutes, is signed by the service that sends it and names the service that it is for. Each service holds its own
signing key and everybody's public keys, so that one that is broken into cannot speak as another: only the gateway may
vouch for a user, and only the trainer for one of its jobs.

Permissions are checked next to the data by `Authorizer.authorize`, first thing in every use case.
"""

from __future__ import annotations

import enum
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from biosegment.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from biosegment.permission import ROLE_PERMISSIONS, SERVICE_PERMISSIONS, Limit, Permission, Role, Scope

__all__ = [
    "PRINCIPAL_LIFETIME_S",
    "ROLE_PERMISSIONS",
    "SERVICES",
    "SERVICE_PERMISSIONS",
    "Authorizer",
    "Kind",
    "Limit",
    "Memberships",
    "Permission",
    "Principal",
    "PrincipalSigner",
    "PrincipalVerifier",
    "Role",
    "Scope",
    "generate_key",
    "require_admin",
    "require_scope",
    "require_whole",
]

SERVICES: Final = ("datastore", "sampler", "trainer", "gateway")
PRINCIPAL_LIFETIME_S: Final = 300.0
_ALGORITHM: Final = "EdDSA"
_REMEMBERED_TOKENS: Final = 1024


class Kind(enum.StrEnum):
    USER = "user"
    SERVICE = "service"
    JOB = "job"
    """A worker of one job, with nothing but that job's rights."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one RPC.

    Attributes:
        kind: A user, a service, or the worker of a job.
        subject: User id, service name or job id.
        is_admin: Platform administrator; only ever true for users.
        on_behalf_of: The user for whom a service acts, for records and audit; '' when it acts by itself.
        display_name: Of a user, for people; '' when it is not known. Says nothing about who it is.
        limits: What a user's token may be used for, any of them; everything when empty.
    """

    kind: Kind
    subject: str
    is_admin: bool = False
    on_behalf_of: str = ""
    display_name: str = field(default="", compare=False)
    limits: tuple[Limit, ...] = ()

    @property
    def user(self) -> str:
        """The user behind this call, or '' when there is none."""
        return self.subject if self.kind is Kind.USER else self.on_behalf_of

    @property
    def is_whole(self) -> bool:
        """Whether nothing that the user may do is out of this token's reach."""
        return not self.limits or Limit(Scope.ADMIN) in self.limits

    @property
    def projects(self) -> frozenset[str] | None:
        """Ids of the projects that the token is limited to; None for no such limit."""
        if any(not limit.project_id for limit in self.limits) or not self.limits:
            return None
        return frozenset(limit.project_id for limit in self.limits)

    def __str__(self) -> str:
        return f"{self.kind}:{self.subject}"


def generate_key(service: str, folder: Path) -> None:
    """Write `{service}.key` (readable by its owner only) and `{service}.pub` (PEM, Ed25519); keep existing ones."""
    secret_path, public_path = folder / f"{service}.key", folder / f"{service}.pub"
    if secret_path.exists() and public_path.exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret_path.unlink(missing_ok=True)
    with os.fdopen(os.open(secret_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public_path.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


class PrincipalSigner:
    """Signs principals in the name of one service."""

    def __init__(self, issuer: str, key_file: Path) -> None:
        """Read the private key.

        Raises:
            FailedPrecondition: NO_SIGNING_KEY when the file is missing or holds no Ed25519 key.
        """
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise FailedPrecondition(
                "NO_SIGNING_KEY", f"cannot read the signing key of {issuer} at {key_file}: {error}"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise FailedPrecondition("NO_SIGNING_KEY", f"{key_file} holds no Ed25519 key")
        self._key = key
        self.issuer = issuer

    @property
    def principal(self) -> Principal:
        """The service itself."""
        return Principal(Kind.SERVICE, self.issuer)

    def sign(self, principal: Principal, audience: str, lifetime_s: float = PRINCIPAL_LIFETIME_S) -> str:
        """Return a token that vouches for `principal` towards the service `audience` for `lifetime_s` seconds."""
        now = int(time.time())
        return self.sign_claims(
            {
                "sub": principal.subject,
                "kind": principal.kind.value,
                "adm": principal.is_admin,
                "act": principal.on_behalf_of,
                "nam": principal.display_name,
                "scp": [str(limit) for limit in principal.limits],
                "iat": now,
                "exp": now + max(1, int(lifetime_s)),
            },
            audience,
        )

    def sign_claims(self, claims: dict[str, object], audience: str) -> str:
        """Sign any claims in this service's name, for `audience`: a principal, or the sampler's lease."""
        return jwt.encode({**claims, "iss": self.issuer, "aud": audience}, self._key, algorithm=_ALGORITHM)


class PrincipalVerifier:
    """Checks tokens that are meant for one service."""

    def __init__(self, audience: str, public_keys: dict[str, Ed25519PublicKey]) -> None:
        self._audience = audience
        self._keys = public_keys
        # Checking a signature costs more than most calls do otherwise, and callers send a token many times.
        self._verified: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    @classmethod
    def from_folder(cls, audience: str, folder: Path) -> PrincipalVerifier:
        """Read `{service}.pub` of every service.

        Raises:
            FailedPrecondition: NO_PUBLIC_KEY when one is missing.
        """
        keys: dict[str, Ed25519PublicKey] = {}
        for service in SERVICES:
            path = folder / f"{service}.pub"
            try:
                key = serialization.load_pem_public_key(path.read_bytes())
            except (OSError, ValueError) as error:
                raise FailedPrecondition(
                    "NO_PUBLIC_KEY", f"cannot read the public key of {service} at {path}: {error}"
                ) from error
            if isinstance(key, Ed25519PublicKey):
                keys[service] = key
        return cls(audience, keys)

    def verify(self, token: str) -> Principal:
        """Return the principal that a token vouches for.

        Raises:
            Unauthenticated: BAD_PRINCIPAL when it is expired, forged, for another service, or vouches for somebody that
                its issuer may not vouch for.
        """
        known = self._verified.get(token)
        if known is not None and time.time() < known[1]:
            return known[0]
        issuer = self._issuer(token)
        claims = self.verify_claims(token, issuer)
        principal = self._principal(claims, issuer)
        self._verified[token] = principal, float(str(claims["exp"]))
        if len(self._verified) > _REMEMBERED_TOKENS:
            self._verified.popitem(last=False)
        return principal

    @staticmethod
    def _principal(claims: dict[str, object], issuer: str) -> Principal:
        try:
            principal = Principal(
                Kind(str(claims["kind"])),
                str(claims["sub"]),
                claims.get("adm") is True,
                str(claims.get("act", "")),
                str(claims.get("nam", "")),
                _limits(claims.get("scp", [])),
            )
        except (KeyError, ValueError, InvalidArgument) as error:
            raise Unauthenticated("BAD_PRINCIPAL", f"the principal lacks a valid claim: {error}") from error
        allowed = {
            Kind.USER: issuer == "gateway",
            Kind.JOB: issuer == "trainer",
            Kind.SERVICE: principal.subject == issuer,
        }[principal.kind]
        if not allowed or (principal.is_admin and principal.kind is not Kind.USER):
            raise Unauthenticated("BAD_PRINCIPAL", f"{issuer} may not vouch for {principal}")
        return principal

    def verify_claims(self, token: str, issuer: str) -> dict[str, object]:
        """Return the claims of a token that `issuer` signed for this service; Unauthenticated otherwise."""
        if issuer not in self._keys:
            raise Unauthenticated("BAD_PRINCIPAL", f"no key is known for issuer {issuer!r}")
        try:
            claims: dict[str, object] = jwt.decode(
                token,
                self._keys[issuer],
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=issuer,
                options={"require": ["exp", "iss", "aud", "sub"]},
                leeway=5,
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("BAD_PRINCIPAL", f"the principal does not verify: {error}") from error
        return claims

    @staticmethod
    def _issuer(token: str) -> str:
        try:
            return str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("BAD_PRINCIPAL", f"the principal is not a token: {error}") from error


def _limits(claim: object) -> tuple[Limit, ...]:
    if not isinstance(claim, list):
        raise ValueError("scp")
    return tuple(Limit.parse(str(text)) for text in claim)


class Memberships(Protocol):
    """Where roles come from: the datastore's tables, or, for the other services, the datastore."""

    async def role(self, user: str, project_id: str) -> Role | None:
        """The role of a user in a project, None when they are no member; NotFound when there is no such project."""
        ...


class Authorizer:
    """Decides whether a principal may do something in a project."""

    def __init__(self, memberships: Memberships) -> None:
        self._memberships = memberships

    async def authorize(self, principal: Principal, permission: Permission, project_id: str) -> None:
        """Return when allowed.

        Raises:
            PermissionDenied: NOT_ALLOWED when the role does not carry the permission, OUT_OF_SCOPE when the
                token does not.
            NotFound: PROJECT_NOT_FOUND for projects that do not exist, and equally for those that the user is no member
                of, so that names cannot be guessed.
        """
        if principal.kind is Kind.SERVICE:
            granted = SERVICE_PERMISSIONS.get(principal.subject, frozenset())
        elif principal.kind is Kind.JOB:
            granted = frozenset()
        else:
            require_scope(principal, permission, project_id)
            if principal.is_admin:
                return
            role = await self._memberships.role(principal.subject, project_id)
            if role is None:
                raise NotFound(
                    "PROJECT_NOT_FOUND", f"there is no project {project_id!r}, or you are not a member of it"
                )
            granted = ROLE_PERMISSIONS[role]
        if permission not in granted:
            raise PermissionDenied(
                "NOT_ALLOWED",
                f"{principal} may not {permission.value} in project {project_id!r}; ask one of its managers",
                permission=permission.value,
            )


def require_scope(principal: Principal, permission: Permission, project_id: str = "") -> None:
    """Refuse what the caller's token is not meant for, whatever its user may do.

    Args:
        principal: The caller.
        permission: What is asked for.
        project_id: Where; '' for what is in no project.

    Raises:
        PermissionDenied: OUT_OF_SCOPE.
    """
    if principal.limits and not any(limit.covers(permission, project_id) for limit in principal.limits):
        where = f"in project {project_id!r}" if project_id else "outside of projects"
        raise PermissionDenied(
            "OUT_OF_SCOPE",
            f"this token is for {', '.join(map(str, principal.limits))}, which does not cover {permission.value} "
            f"{where}; use a token with a wider scope",
            permission=permission.value,
        )


def require_admin(principal: Principal) -> None:
    """Raise PermissionDenied unless the caller is a platform administrator, with a token for that."""
    if not principal.is_admin:
        raise PermissionDenied("ADMIN_ONLY", f"{principal} is not a platform administrator")
    require_whole(principal)


def require_whole(principal: Principal) -> None:
    """Raise PermissionDenied OUT_OF_SCOPE for tokens with less than all of their user's rights.

    Users, tokens and passwords are handled with whole ones alone: a limited token must not make itself another one.
    """
    if not principal.is_whole:
        raise PermissionDenied(
            "OUT_OF_SCOPE",
            f"this token is for {', '.join(map(str, principal.limits))} alone; use one without scopes, or with admin",
        )
