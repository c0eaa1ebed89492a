"""IdentityService and PlatformService."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import biosegment
from biosegment.api.identity.v1alpha1 import identity_pb2 as pb
from biosegment.api.identity.v1alpha1 import identity_pb2_grpc
from biosegment.api.platform.v1alpha1 import platform_pb2, platform_pb2_grpc
from biosegment.rpc import current_principal
from biosegment_gateway import convert
from biosegment_gateway.accounts.identity import IdentityService
from biosegment_gateway.audit import Audit
from biosegment_gateway.peer import Proxies, host_of
from biosegment_gateway.upstream import Health, Upstream

IDENTITY: Final = "biosegment.api.identity.v1alpha1.IdentityService"
PLATFORM: Final = "biosegment.api.platform.v1alpha1.PlatformService"


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    """Users, tokens and the audit log."""

    def __init__(self, service: IdentityService, audit: Audit, proxies: Proxies) -> None:
        self._service = service
        self._audit = audit
        self._proxies = proxies

    async def GetSelf(self, request: pb.GetSelfRequest, context: Any) -> pb.GetSelfResponse:
        principal = current_principal()
        user = await self._service.get_self(principal)
        return pb.GetSelfResponse(user=convert.user_to_proto(user), scopes=map(str, principal.limits))

    async def CreateUser(self, request: pb.CreateUserRequest, context: Any) -> pb.CreateUserResponse:
        async with self._recording("CreateUser", f"users/{request.user_id}", context):
            user = await self._service.create_user(
                current_principal(), request.user_id, request.user.display_name, request.user.is_admin
            )
        return pb.CreateUserResponse(user=convert.user_to_proto(user))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        users, token = await self._service.list_users(
            current_principal(), request.page_size, request.page_token
        )
        return pb.ListUsersResponse(users=map(convert.user_to_proto, users), next_page_token=token)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Any) -> pb.UpdateUserResponse:
        async with self._recording("UpdateUser", request.user.name, context):
            wanted, fields = convert.user_change_of(request)
            user = await self._service.update_user(current_principal(), wanted.user_id, wanted, fields)
        return pb.UpdateUserResponse(user=convert.user_to_proto(user))

    async def SetPassword(self, request: pb.SetPasswordRequest, context: Any) -> pb.SetPasswordResponse:
        principal = current_principal()
        name = request.name or f"users/{principal.user}"
        async with self._recording("SetPassword", name, context):
            await self._service.set_password(
                principal,
                convert.user_id_of(name),
                request.old_password,
                request.new_password,
                host_of(self._proxies.grpc_peer(context)),
            )
        return pb.SetPasswordResponse()

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Any) -> pb.CreateTokenResponse:
        async with self._recording("CreateToken", request.parent, context):
            token, secret = await self._service.create_token(
                current_principal(),
                convert.user_id_of(request.parent),
                request.token.display_name,
                convert.expire_time_of(request.token),
                tuple(request.token.scopes),
            )
        return pb.CreateTokenResponse(token=convert.token_to_proto(token), secret=secret)

    async def ListTokens(self, request: pb.ListTokensRequest, context: Any) -> pb.ListTokensResponse:
        tokens = await self._service.list_tokens(current_principal(), convert.user_id_of(request.parent))
        return pb.ListTokensResponse(tokens=map(convert.token_to_proto, tokens))

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Any) -> pb.RevokeTokenResponse:
        async with self._recording("RevokeToken", request.name, context):
            await self._service.revoke_token(current_principal(), *convert.token_ids_of(request.name))
        return pb.RevokeTokenResponse()

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: Any
    ) -> pb.ListAuditEventsResponse:
        events = await self._service.list_audit_events(current_principal(), convert.audit_query_of(request))
        return pb.ListAuditEventsResponse(events=map(convert.event_to_proto, events))

    def _recording(self, method: str, resource: str, context: Any) -> Any:
        peer = self._proxies.grpc_peer(context)
        return self._audit.recording(f"{IDENTITY}/{method}", current_principal(), peer, resource)


class PlatformServicer(platform_pb2_grpc.PlatformServiceServicer):
    """Health and version of every service."""

    def __init__(self, upstreams: Sequence[Upstream], own_address: str) -> None:
        self._upstreams = upstreams
        self.own_address = own_address

    async def GetStatus(
        self, request: platform_pb2.GetStatusRequest, context: Any
    ) -> platform_pb2.GetStatusResponse:
        # All at the same time, a second at most.
        healths = await asyncio.gather(*(upstream.health() for upstream in self._upstreams))
        own = _status("gateway", self.own_address, Health(True, biosegment.__version__))
        others = [
            _status(upstream.name, upstream.address, health)
            for upstream, health in zip(self._upstreams, healths, strict=True)
        ]
        return platform_pb2.GetStatusResponse(services=[own, *others])


def _status(service: str, address: str, health: Health) -> platform_pb2.ServiceStatus:
    kinds = platform_pb2.ServiceStatus
    state = {True: kinds.HEALTH_SERVING, False: kinds.HEALTH_NOT_SERVING, None: kinds.HEALTH_UNREACHABLE}
    return platform_pb2.ServiceStatus(
        service=service, health=state[health.serving], version=health.version, address=address
    )
