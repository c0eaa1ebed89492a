"""Errors on the wire: `google.rpc.Status` with `ErrorInfo`; `{code, reason, message, details}` over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, cast

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from biosegment.errors import (
    BY_GRPC_CODE,
    BiosegmentError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)

DOMAIN: Final = "biosegment"
RETRY_AFTER: Final = "retry_after_s"
"""Metadata of errors that are over after so many seconds."""
_LONGEST_PAUSE_S: Final = 86_400.0
_HUNG_UP: Final = re.compile("last error: .*Socket closed")
_TLS_REASONS: Final = {
    "CERTIFICATE_VERIFY_FAILED": "no authority that is known here has signed its certificate, or its time is over; "
    "name the file of the lab's own authority in BIOSEGMENT_CA_FILE",
    "Hostname Verification Check failed": "its certificate is that of another name; use the name that it was made for",
    "WRONG_VERSION_NUMBER": "it does not encrypt; write its address without https://",
}
SERVICE_UNAVAILABLE: Final = "SERVICE_UNAVAILABLE"
"""Nobody answers."""
CALL_CANCELLED: Final = "CALL_CANCELLED"
_DETAILS_KEY: Final = "grpc-status-details-bin"
# The message travels twice, percent-encoded and in the details, and the details in base 64. Of trailers beyond 8 KiB
# peers refuse some at random, unless they were told otherwise.
_MAX_MESSAGE: Final = 1000
_MAX_ENCODED_BYTES: Final = 3000
_MAX_VALUE_BYTES: Final = 200
_MAX_VALUES: Final = 8


def to_status(error: BiosegmentError) -> grpc.Status:
    """Return what `context.abort_with_status` wants; messages over 1000 characters, fewer of other scripts, are cut."""
    message = _cut(error.message)
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={
            key: str(value).encode("utf-8", "replace")[:_MAX_VALUE_BYTES].decode("utf-8", "ignore")
            for key, value in list(error.metadata.items())[:_MAX_VALUES]
        },
    )
    status = status_pb2.Status(code=code_pb2.Code.Value(error.grpc_code), message=message)
    status.details.add().Pack(info)
    if (pause_s := retry_after_s(error)) is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=pause_s))
        status.details.add().Pack(retry)
    return cast(grpc.Status, rpc_status.to_status(status))


def _cut(message: str) -> str:
    """As much of a message as is sent; of a script whose letters take 12 encoded bytes, 250."""
    # A lone surrogate (from a file name, say) cannot be sent and must not hide the error.
    text = message[: _MAX_MESSAGE + 1].encode("utf-8", "replace").decode()
    encoded_bytes = 0
    for place, letter in enumerate(text):
        is_plain = letter.isascii() and letter.isprintable() and letter != "%"
        encoded_bytes += 1 if is_plain else 3 * len(letter.encode())
        if place >= _MAX_MESSAGE or encoded_bytes > _MAX_ENCODED_BYTES:
            return text[: place - 1] + "…"
    return text


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


def retry_after_s(error: BiosegmentError) -> float | None:
    """How long to wait before trying again, as the server said it; None where it did not."""
    try:
        pause_s = float(error.metadata.get(RETRY_AFTER, "nan"))
    except ValueError:
        return None
    return pause_s if 0 <= pause_s <= _LONGEST_PAUSE_S else None


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
    if code is grpc.StatusCode.UNAVAILABLE and (reason := _tls_reason(details)):
        return FailedPrecondition("TLS_FAILED", f"{where} cannot be trusted: {reason} ({details[:300]})")
    if code is grpc.StatusCode.UNAVAILABLE:
        # What a port that wants TLS does with those who do not speak it; one that goes away does it as well.
        hint = " If it encrypts, its address begins with https://." if _HUNG_UP.search(details) else ""
        return Unavailable(
            SERVICE_UNAVAILABLE,
            f"{where} cannot be reached; is it running?{hint} ({details})",
            address=address,
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(
            "DEADLINE_EXCEEDED", f"{where} did not answer in time; try again or allow more time"
        )
    if code is grpc.StatusCode.CANCELLED:
        return Unavailable(CALL_CANCELLED, f"{where} ended the call before it was complete; try again")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in details:
        return ResourceExhausted(
            "MESSAGE_TOO_LARGE", f"a message is too large for one call to {where}: {details}"
        )
    if code is grpc.StatusCode.OUT_OF_RANGE:
        return InvalidArgument("OUT_OF_RANGE", details)
    kind = BY_GRPC_CODE.get(code.name, Internal)
    reason = "RPC_FAILED" if kind is Internal else code.name
    return kind(reason, f"{where} answered {code.name}: {details}")


def _tls_reason(details: str) -> str:
    """What is wrong between two ends that cannot agree on TLS; '' when it is something else."""
    return next((reason for sign, reason in _TLS_REASONS.items() if sign in details), "")
