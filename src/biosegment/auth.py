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
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from biosegment.errors import FailedPrecondition, NotFound, PermissionDenied, Unauthenticated

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
    """

    kind: Kind
    subject: str
    is_admin: bool = False
    on_behalf_of: str = ""

    @property
    def user(self) -> str:
        """The user behind this call, or '' when there is none."""
        return self.subject if self.kind is Kind.USER else self.on_behalf_of

    def __str__(self) -> str:
        return f"{self.kind}:{self.subject}"


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
    PROJECT_DELETE = "project.delete"
    MEMBERS_UPDATE = "members.update"
    VOLUME_WRITE = "volume.write"
    """Import, change and delete volumes."""
    LAYER_WRITE = "layer.write"
    ANNOTATE = "annotate"
    """Claim samples, commit annotations, edit objects, revert one's own."""
    REVIEW = "review"
    """Review annotations, revert anybody's annotations and edits, take over leases."""
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
            )
        except (KeyError, ValueError) as error:
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
            PermissionDenied: NOT_ALLOWED when the role does not carry the permission.
            NotFound: PROJECT_NOT_FOUND for projects that do not exist, and equally for those that the user is no member
                of, so that names cannot be guessed.
        """
        if principal.kind is Kind.SERVICE:
            granted = SERVICE_PERMISSIONS.get(principal.subject, frozenset())
        elif principal.kind is Kind.JOB:
            granted = frozenset()
        elif principal.is_admin:
            return
        else:
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


def require_admin(principal: Principal) -> None:
    """Raise PermissionDenied unless the caller is a platform administrator."""
    if not principal.is_admin:
        raise PermissionDenied("ADMIN_ONLY", f"{principal} is not a platform administrator")
