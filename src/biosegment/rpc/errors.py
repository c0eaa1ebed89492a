"""Errors on the wire: `google.rpc.Status` with `ErrorInfo`; `{code, reason, message, details}` over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from biosegment.errors import (
    BY_GRPC_CODE,
    BiosegmentError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)

DOMAIN: Final = "biosegment"
_DETAILS_KEY: Final = "grpc-status-details-bin"
# The message travels twice, percent-encoded and in the details; peers accept 8 KiB of trailers by default.
_MAX_MESSAGE: Final = 1000
_MAX_VALUE: Final = 200
_MAX_VALUES: Final = 8


def to_status(error: BiosegmentError) -> grpc.Status:
    """Return what `context.abort_with_status` wants; messages over 1000 characters are cut."""
    message = error.message if len(error.message) <= _MAX_MESSAGE else error.message[: _MAX_MESSAGE - 1] + "…"
    # A lone surrogate (from a file name, say) cannot be sent and must not hide the error.
    message = message.encode("utf-8", "replace").decode()
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={
            key: str(value)[:_MAX_VALUE].encode("utf-8", "replace").decode()
            for key, value in list(error.metadata.items())[:_MAX_VALUES]
        },
    )
    status = status_pb2.Status(code=code_pb2.Code.Value(error.grpc_code), message=message)
    status.details.add().Pack(info)
    return cast(grpc.Status, rpc_status.to_status(status))


def from_rpc_error(error: grpc.RpcError, address: str = "") -> BiosegmentError:
    """Rebuild the error that the server raised, or name what gRPC itself ran into.

    Args:
        error: From a synchronous or asynchronous call.
        address: Of the server, for the message when it cannot be reached.
    """
    call = cast(Any, error)
    code: grpc.StatusCode = call.code()
    details: str = call.details() or ""
    info = _error_info(call.trailing_metadata() or ())
    if info is not None:
        kind = BY_GRPC_CODE.get(code.name, Internal)
        return kind(info.reason, details, **dict(info.metadata))
    return _from_plain(code, details, address)


def to_json(error: BiosegmentError) -> dict[str, object]:
    """The body of an HTTP error response; its status is `error.http_status`."""
    return {
        "code": error.grpc_code,
        "reason": error.reason,
        "message": error.message,
        "details": dict(error.metadata),
    }


@contextmanager
def raising_biosegment_errors(address: str = "") -> Iterator[None]:
    """Turn `grpc.RpcError` into our errors, for calls over channels that `connect` did not make."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, address) from error


def _error_info(trailing_metadata: Any) -> error_details_pb2.ErrorInfo | None:
    for key, value in trailing_metadata:
        if key == _DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
                    return info
    return None


def _from_plain(code: grpc.StatusCode, details: str, address: str) -> BiosegmentError:
    """Errors that no BioSegment server wrote: connections, deadlines, limits, unknown methods."""
    where = f"the service at {address}" if address else "the service"
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            "SERVICE_UNAVAILABLE", f"{where} cannot be reached; is it running? ({details})", address=address
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(
            "DEADLINE_EXCEEDED", f"{where} did not answer in time; try again or allow more time"
        )
    if code is grpc.StatusCode.CANCELLED:
        return Unavailable("CALL_CANCELLED", f"{where} ended the call before it was complete; try again")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in details:
        return ResourceExhausted(
            "MESSAGE_TOO_LARGE", f"a message is too large for one call to {where}: {details}"
        )
    if code is grpc.StatusCode.OUT_OF_RANGE:
        return InvalidArgument("OUT_OF_RANGE", details)
    kind = BY_GRPC_CODE.get(code.name, Internal)
    reason = "RPC_FAILED" if kind is Internal else code.name
    return kind(reason, f"{where} answered {code.name}: {details}")
