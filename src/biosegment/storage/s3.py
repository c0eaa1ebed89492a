"""Objects in a bucket of any S3 endpoint."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Self
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from biosegment.errors import BiosegmentError, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.folder import check_range
from biosegment.storage.key import check_key, check_prefix
from biosegment.storage.objects import Buffer
from biosegment.storage.s3_url import bucket_and_prefix

_ABSENT = ("NoSuchKey", "NoSuchObject")
_FULL = ("XMinioStorageFull", "InsufficientCapacity", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded")
_OURS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
_SMALLEST_PART = 5 << 20


class _Retries(urllib3.Retry):
    """Retries with backoff, but a server that is silent is asked only twice: an outage must reach the caller soon."""

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        error = kwargs.get("error")
        silent = urllib3.exceptions.ReadTimeoutError
        if isinstance(error, silent) and any(isinstance(past.error, silent) for past in self.history):
            raise urllib3.exceptions.MaxRetryError(kwargs["_pool"], "", error)
        return super().increment(*args, **kwargs)


_RETRIES = _Retries(
    total=3,
    backoff_factor=0.2,
    backoff_jitter=0.1,
    status_forcelist=(500, 502, 503, 504),
    # POST deletes several objects, which may be done twice.
    allowed_methods=("GET", "HEAD", "PUT", "DELETE", "POST"),
)
_WRITERS = 16
"""As many as there are connections."""


class S3Objects:
    """`BlockingObjects` in a bucket, which is made when it is absent."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._bucket, self._prefix = bucket_and_prefix(settings.object_store_url)
        endpoint = urlsplit(settings.s3_endpoint_url)
        if endpoint.scheme not in ("http", "https") or not endpoint.hostname or "@" in endpoint.netloc:
            raise InvalidArgument(
                "BAD_SETTINGS", "s3_endpoint_url must be http(s)://host:port, without credentials"
            )
        self._where = f"{endpoint.netloc}, bucket {self._bucket}"
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=settings.s3_timeout_s, read=settings.s3_timeout_s),
            maxsize=16,
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
            retries=_RETRIES,
        )
        self._client = Minio(
            endpoint.netloc,
            access_key=settings.s3_access_key_id,
            secret_key=settings.s3_secret_access_key.get_secret_value(),
            secure=endpoint.scheme == "https",
            region=settings.s3_region,
            http_client=self._http,
        )
        with self._mapped("bucket"):
            if not self._client.bucket_exists(self._bucket):
                try:
                    self._client.make_bucket(self._bucket)
                except S3Error as error:
                    if error.code not in _OURS:  # another process may have been first
                        raise

    def put(self, key: str, data: Buffer) -> None:
        with self._mapped(key):
            self._client.put_object(
                self._bucket,
                self._name(key),
                io.BytesIO(data),
                len(data),
                # In one request: an upload in parts that breaks off stays in the bucket, out of sight.
                part_size=max(len(data), _SMALLEST_PART),
            )

    def put_many(self, items: Sequence[tuple[str, Buffer]]) -> None:
        with ThreadPoolExecutor(min(_WRITERS, max(1, len(items)))) as pool:
            for _ in pool.map(lambda item: self.put(*item), items):
                pass

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        # The client cannot send If-None-Match. A signed link can carry it: only the host header is part of
        # the signature; the checksum header guards the body, which the link does not sign.
        headers = {
            "If-None-Match": "*",
            "Content-Type": "application/octet-stream",
            "Content-MD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        }
        with self._mapped(key):
            link = self._client.get_presigned_url("PUT", self._bucket, self._name(key), timedelta(minutes=5))
            for delay_s in (0.05, 0.2, 0.8, 0.0):
                # No retry by the pool: after a lost answer it would take our own object for somebody else's.
                response = self._http.request("PUT", link, body=bytes(data), headers=headers, retries=False)
                if response.status != 409:  # a racing writer is being served at this moment
                    break
                time.sleep(delay_s)
        if response.status == 412:
            return False
        if response.status != 200:
            raise self._failed(key, f"HTTP {response.status}")
        return True

    def get(self, key: str) -> bytes:
        return self._read(key, 0, 0)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        check_range(key, start, stop, self.size(key))
        return self._read(key, start, stop - start)

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def size(self, key: str) -> int:
        with self._mapped(key):
            return int(self._client.stat_object(self._bucket, self._name(key)).size or 0)

    def list(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        with self._mapped(prefix):
            found = self._client.list_objects(self._bucket, self._prefix + prefix, recursive=True)
            return sorted(str(item.object_name).removeprefix(self._prefix) for item in found)

    def copy(self, source: str, target: str) -> None:
        with self._mapped(source):
            self._client.copy_object(
                self._bucket, self._name(target), CopySource(self._bucket, self._name(source))
            )

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFound), self._mapped(key):
            self._client.remove_object(self._bucket, self._name(key))

    def delete_prefix(self, prefix: str) -> None:
        if not check_prefix(prefix):
            raise InvalidArgument("BAD_OBJECT_KEY", "refusing to delete the whole store: give a prefix")
        doomed = [DeleteObject(self._prefix + key) for key in self.list(prefix)]
        with self._mapped(prefix):
            for failure in self._client.remove_objects(self._bucket, doomed):
                raise self._failed(prefix, failure.code)

    def check(self) -> None:
        with self._mapped("bucket"):
            if not self._client.bucket_exists(self._bucket):
                raise self._failed("bucket", "the bucket does not exist")

    def close(self) -> None:
        self._http.clear()

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _read(self, key: str, offset: int, length: int) -> bytes:
        with self._mapped(key):
            response = self._client.get_object(self._bucket, self._name(key), offset, length)
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

    def _failed(self, key: str, why: str) -> Unavailable:
        return Unavailable(
            "OBJECT_STORE_UNAVAILABLE",
            f"object storage at {self._where} failed at {key!r}: {why}; try again later",
        )

    @contextlib.contextmanager
    def _mapped(self, key: str) -> Iterator[None]:
        # Of the server's answer only codes are passed on: no signature or key id may reach a log or a user.
        try:
            yield
        except BiosegmentError:
            raise
        except S3Error as error:
            if error.code in _ABSENT:
                raise NotFound("OBJECT_NOT_FOUND", f"object {key!r} does not exist") from None
            if error.code in _FULL:
                raise ResourceExhausted(
                    "DISK_FULL",
                    f"object storage at {self._where} is full ({error.code}); {key!r} was not written",
                ) from None
            raise self._failed(key, str(error.code)) from None
        except ServerError as error:
            raise self._failed(key, f"HTTP {error.status_code}") from None
        except (
            InvalidResponseError,
            MinioException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as error:
            raise self._failed(key, _why(error)) from None


def _why(error: Exception) -> str:
    """What happened, in words that hold no address with a signature in it."""
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        return f"{_why(error.reason)}, several times"
    match error:
        case urllib3.exceptions.ConnectTimeoutError() | urllib3.exceptions.NewConnectionError():
            return "it cannot be reached"
        case urllib3.exceptions.ReadTimeoutError():
            return "it does not answer"
        case urllib3.exceptions.ProtocolError():
            return "the connection broke off"
        case urllib3.exceptions.SSLError():
            return "its certificate is not valid"
        case urllib3.exceptions.ResponseError():
            return "it answers with errors (HTTP 5xx)"
    return type(error).__name__
