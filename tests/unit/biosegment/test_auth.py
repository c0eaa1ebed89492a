from __future__ import annotations

import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from biosegment.auth import (
    ROLE_PERMISSIONS,
    SERVICE_PERMISSIONS,
    SERVICES,
    Authorizer,
    Kind,
    Permission,
    Principal,
    PrincipalSigner,
    PrincipalVerifier,
    Role,
    generate_key,
    require_admin,
)
from biosegment.errors import FailedPrecondition, NotFound, PermissionDenied, Unauthenticated

P = Permission
ALLOWED: dict[Role, set[Permission]] = {
    Role.OWNER: set(P),
    Role.MANAGER: {
        P.PROJECT_READ, P.PROJECT_UPDATE, P.MEMBERS_UPDATE, P.VOLUME_WRITE, P.LAYER_WRITE, P.ANNOTATE, P.REVIEW,
        P.MODEL_WRITE, P.EXPORT,
    },
    Role.REVIEWER: {P.PROJECT_READ, P.ANNOTATE, P.REVIEW, P.EXPORT},
    Role.ANNOTATOR: {P.PROJECT_READ, P.ANNOTATE},
    Role.VIEWER: {P.PROJECT_READ},
}  # fmt: skip


class Members:
    """One project, `p`, with one member for each role, named like the role."""

    async def role(self, user: str, project_id: str) -> Role | None:
        if project_id != "p":
            raise NotFound("PROJECT_NOT_FOUND", f"there is no project {project_id!r}")
        return Role(user) if user in set(Role) else None


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for service in SERVICES:
        generate_key(service, folder)
    return folder


def _signer(keys: Path, service: str) -> PrincipalSigner:
    return PrincipalSigner(service, keys / f"{service}.key")


async def _is_allowed(principal: Principal, permission: Permission) -> bool:
    try:
        await Authorizer(Members()).authorize(principal, permission, "p")
    except PermissionDenied as error:
        return error.metadata != {"permission": permission.value}
    return True


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("role", Role)
async def test_a_role_carries_exactly_its_permissions(role: Role, permission: Permission) -> None:
    assert await _is_allowed(Principal(Kind.USER, role.value), permission) is (permission in ALLOWED[role])


def test_every_role_and_every_service_is_in_the_tables() -> None:
    assert set(ROLE_PERMISSIONS) == set(Role)
    assert set(SERVICE_PERMISSIONS) == set(SERVICES)


@pytest.mark.parametrize("permission", Permission)
async def test_an_administrator_may_do_everything_and_a_job_nothing(permission: Permission) -> None:
    assert await _is_allowed(Principal(Kind.USER, "root", is_admin=True), permission)
    assert not await _is_allowed(Principal(Kind.JOB, "trainer-1", on_behalf_of="owner"), permission)
    assert not await _is_allowed(Principal(Kind.SERVICE, "unknown"), permission)


@pytest.mark.parametrize("service", SERVICES)
async def test_acting_for_an_owner_gives_a_service_no_right_of_the_owner(service: str) -> None:
    principal = Principal(Kind.SERVICE, service, on_behalf_of="owner")
    assert principal.user == "owner"
    assert await _is_allowed(principal, P.PROJECT_READ)
    assert not await _is_allowed(principal, P.PROJECT_DELETE)
    assert not await _is_allowed(principal, P.MEMBERS_UPDATE)


async def test_a_stranger_cannot_tell_whether_a_project_exists() -> None:
    for project_id in ("p", "q"):
        with pytest.raises(NotFound) as caught:
            await Authorizer(Members()).authorize(
                Principal(Kind.USER, "stranger"), P.PROJECT_READ, project_id
            )
        assert caught.value.reason == "PROJECT_NOT_FOUND"


def test_only_administrators_pass_the_door_for_administrators() -> None:
    require_admin(Principal(Kind.USER, "root", is_admin=True))
    with pytest.raises(PermissionDenied, match="user:ann"):
        require_admin(Principal(Kind.USER, "ann"))


VOUCHED = {
    Principal(Kind.USER, "ann"): {"gateway"},
    Principal(Kind.USER, "root", is_admin=True): {"gateway"},
    Principal(Kind.JOB, "trainer-1", on_behalf_of="ann"): {"trainer"},
    **{Principal(Kind.SERVICE, service, on_behalf_of="ann"): {service} for service in SERVICES},
    Principal(Kind.SERVICE, "gateway", is_admin=True): set[str](),
    Principal(Kind.JOB, "trainer-1", is_admin=True): set[str](),
}


@pytest.mark.parametrize("issuer", SERVICES)
@pytest.mark.parametrize("principal", VOUCHED, ids=str)
def test_who_may_vouch_for_whom(keys: Path, principal: Principal, issuer: str) -> None:
    token = _signer(keys, issuer).sign(principal, "datastore")
    verifier = PrincipalVerifier.from_folder("datastore", keys)
    if issuer in VOUCHED[principal]:
        assert verifier.verify(token) == principal
    else:
        with pytest.raises(Unauthenticated, match="may not vouch"):
            verifier.verify(token)


def test_a_token_without_a_signature_or_signed_with_a_public_key_is_refused(keys: Path) -> None:
    verifier = PrincipalVerifier.from_folder("datastore", keys)
    token = _signer(keys, "gateway").sign(Principal(Kind.USER, "ann"), "datastore")
    claims = jwt.decode(token, options={"verify_signature": False})
    head, body, _ = token.split(".")
    for forged in (jwt.encode(claims, "", algorithm="none"), f"{head}.{body}.", f"{head}.{body}.AAAA"):
        with pytest.raises(Unauthenticated):
            verifier.verify(forged)


@pytest.mark.parametrize("missing", ["exp", "sub", "kind"])
def test_a_token_that_lacks_a_claim_is_refused(keys: Path, missing: str) -> None:
    signer = _signer(keys, "gateway")
    claims = jwt.decode(
        signer.sign(Principal(Kind.USER, "ann"), "datastore"), options={"verify_signature": False}
    )
    del claims[missing]
    with pytest.raises(Unauthenticated):
        PrincipalVerifier.from_folder("datastore", keys).verify(signer.sign_claims(claims, "datastore"))


def test_keys_are_kept_and_readable_by_their_owner_only(keys: Path) -> None:
    before = (keys / "datastore.key").read_bytes()
    generate_key("datastore", keys)
    assert (keys / "datastore.key").read_bytes() == before
    assert stat.S_IMODE((keys / "datastore.key").stat().st_mode) == 0o600


def test_missing_or_wrong_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"gateway\.key"):
        PrincipalSigner("gateway", tmp_path / "gateway.key")
    with pytest.raises(FailedPrecondition, match=r"datastore\.pub"):
        PrincipalVerifier.from_folder("datastore", tmp_path)
    (tmp_path / "gateway.key").write_text("not a key")
    with pytest.raises(FailedPrecondition, match=r"gateway\.key"):
        PrincipalSigner("gateway", tmp_path / "gateway.key")


def test_a_signature_is_checked_once_and_again_after_it_has_expired(keys: Path) -> None:
    signer = _signer(keys, "gateway")
    key = serialization.load_pem_public_key((keys / "gateway.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    public = {"gateway": key}
    verifier = PrincipalVerifier("datastore", public)
    claims = jwt.decode(
        signer.sign(Principal(Kind.USER, "ann"), "datastore"), options={"verify_signature": False}
    )
    end_s = int(time.time()) + 3
    token = signer.sign_claims({**claims, "exp": end_s}, "datastore")
    principal = verifier.verify(token)
    public.clear()
    assert verifier.verify(token) == principal
    time.sleep(end_s - time.time() + 0.01)
    with pytest.raises(Unauthenticated):
        verifier.verify(token)
