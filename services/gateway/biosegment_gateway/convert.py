"""Between the gateway's values and messages."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment_gateway.domain import ApiToken, AuditEvent, User


def user_to_proto(user: User) -> identity_pb2.User:
    return identity_pb2.User(
        name=f"users/{user.user_id}",
        display_name=user.display_name,
        is_admin=user.is_admin,
        create_time=_timestamp(user.create_time),
        disabled=user.disabled,
    )


def token_to_proto(token: ApiToken) -> identity_pb2.Token:
    message = identity_pb2.Token(
        name=f"users/{token.user_id}/tokens/{token.token_id}",
        display_name=token.display_name,
        create_time=_timestamp(token.create_time),
    )
    if token.expire_time is not None:
        message.expire_time.CopyFrom(_timestamp(token.expire_time))
    if token.last_use_time is not None:
        message.last_use_time.CopyFrom(_timestamp(token.last_use_time))
    return message


def event_to_proto(event: AuditEvent) -> identity_pb2.AuditEvent:
    return identity_pb2.AuditEvent(
        sequence=event.sequence,
        time=_timestamp(event.time),
        user=event.user_id,
        action=event.action,
        resource=event.resource,
        outcome=event.outcome,
        peer=event.peer,
    )


def user_id_of(parent: str) -> str:
    """Id in `users/{user}`; '' for ''."""
    return parse_name(parent, "users/*")[0] if parent else ""


def token_ids_of(name: str) -> tuple[str, str]:
    """Ids in `users/{user}/tokens/{token}`."""
    user_id, token_id = parse_name(name, "users/*/tokens/*")
    return user_id, token_id


def expire_time_of(token: identity_pb2.Token) -> datetime | None:
    """When a wanted token shall expire; None for never. InvalidArgument BAD_TIME for impossible times."""
    if not token.HasField("expire_time"):
        return None
    try:
        return token.expire_time.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument("BAD_TIME", f"expire_time is no time: {error}") from error


def _timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message
