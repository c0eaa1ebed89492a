from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from biosegment.auth import (
    SERVICES,
    Authorizer,
    Kind,
    Limit,
    Permission,
    Principal,
    PrincipalSigner,
    PrincipalVerifier,
    Role,
    Scope,
    generate_key,
    require_admin,
    require_scope,
    require_whole,
)
from biosegment.errors import InvalidArgument, PermissionDenied, Unauthenticated

P = Permission
READ = {P.PROJECT_READ, P.EXPORT}
COVERED: dict[str, set[Permission]] = {
    "read": READ,
    "annotate": READ | {P.ANNOTATE, P.REVIEW},
    "manage": set(P),
    "admin": set(P),
}


class Owners:
    """Everybody owns every project."""

    async def role(self, user: str, project_id: str) -> Role | None:
        return Role.OWNER


def limited(*scopes: str, is_admin: bool = False) -> Principal:
    return Principal(Kind.USER, "ann", is_admin=is_admin, limits=tuple(map(Limit.parse, scopes)))


async def allowed(principal: Principal, project_id: str) -> set[Permission]:
    refusals = {}
    for permission in P:
        try:
            await Authorizer(Owners()).authorize(principal, permission, project_id)
        except PermissionDenied as error:
            refusals[permission] = error.reason
    assert set(refusals.values()) <= {"OUT_OF_SCOPE"}
    return set(P) - set(refusals)


@pytest.mark.parametrize("is_admin", [False, True])
@pytest.mark.parametrize("scope", Scope)
async def test_a_scope_allows_what_it_covers_and_nothing_else(scope: Scope, is_admin: bool) -> None:
    assert await allowed(limited(scope, is_admin=is_admin), "p") == COVERED[scope]


async def test_a_scope_of_a_project_allows_nothing_in_others() -> None:
    principal = limited("annotate:projects/p", is_admin=True)
    assert await allowed(principal, "p") == COVERED["annotate"]
    assert await allowed(principal, "other") == set()


async def test_scopes_add_up() -> None:
    principal = limited("read", "manage:projects/p")
    assert await allowed(principal, "p") == set(P)
    assert await allowed(principal, "other") == READ


async def test_no_scopes_are_no_limit_and_a_scope_gives_no_role() -> None:
    class Viewers:
        async def role(self, user: str, project_id: str) -> Role | None:
            return Role.VIEWER

    assert await allowed(limited(), "p") == set(P)
    with pytest.raises(PermissionDenied) as caught:
        await Authorizer(Viewers()).authorize(limited("manage"), P.ANNOTATE, "p")
    assert caught.value.reason == "NOT_ALLOWED"


@pytest.mark.parametrize(
    ("scopes", "whole", "projects"),
    [
        ((), True, None),
        (("admin",), True, None),
        (("manage",), False, None),
        (("read", "manage:projects/p"), False, None),
        (("read:projects/p", "manage:projects/q"), False, {"p", "q"}),
    ],
)
def test_only_an_unlimited_token_or_one_for_administration_handles_users(
    scopes: tuple[str, ...], whole: bool, projects: set[str] | None
) -> None:
    principal = limited(*scopes, is_admin=True)
    assert (principal.is_whole, principal.projects) == (whole, projects)
    for require in (require_whole, require_admin):
        if whole:
            require(principal)
        else:
            with pytest.raises(PermissionDenied, match="token"):
                require(principal)


def test_what_is_in_no_project_needs_a_scope_without_one() -> None:
    require_scope(limited("manage"), P.PROJECT_UPDATE)
    for scopes in (("manage:projects/p",), ("read",)):
        with pytest.raises(PermissionDenied, match="outside of projects"):
            require_scope(limited(*scopes), P.PROJECT_UPDATE)


@pytest.mark.parametrize(
    "text",
    ["", "write", "READ", "read:", "read:p", "read:projects/", "read:projects/P", "read:projects/p/volumes/v",
     "admin:projects/p", "read annotate", "read:projects/p:q", "*"],
)  # fmt: skip
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Limit.parse(text)
    assert caught.value.reason == "BAD_SCOPE"


@pytest.mark.parametrize("text", ["read", "annotate:projects/kidney-2"])
def test_a_scope_is_written_as_it_is_read(text: str) -> None:
    assert str(Limit.parse(text)) == text


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for service in SERVICES:
        generate_key(service, folder)
    return folder


def test_limits_travel_between_services(keys: Path) -> None:
    signer = PrincipalSigner("gateway", keys / "gateway.key")
    verifier = PrincipalVerifier.from_folder("datastore", keys)
    principal = limited("read", "annotate:projects/p")
    assert verifier.verify(signer.sign(principal, "datastore")) == principal
    assert verifier.verify(signer.sign(limited(), "datastore")) == limited()


@pytest.mark.parametrize("claim", [["write"], "read", None, [1]])
def test_limits_that_nobody_understands_let_nobody_in(keys: Path, claim: object) -> None:
    signer = PrincipalSigner("gateway", keys / "gateway.key")
    claims = jwt.decode(signer.sign(limited("read"), "datastore"), options={"verify_signature": False})
    forged = signer.sign_claims({**claims, "scp": claim}, "datastore")
    with pytest.raises(Unauthenticated) as caught:
        PrincipalVerifier.from_folder("datastore", keys).verify(forged)
    assert caught.value.reason == "BAD_PRINCIPAL"
