"""Settings: one frozen object per process, read from the environment at start, refused when unknown or wrong.

A service `datastore` reads `BIOSEGMENT_DATASTORE__<FIELD>`. Settings that all services share (object storage, keys,
logging) may also be given once as `BIOSEGMENT_<FIELD>`; the service's own variable wins. A secret may be given as
`<VARIABLE>_FILE`, the path of a file that holds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from biosegment.errors import InvalidArgument


class ObjectStoreSettings(BaseModel):
    """Where voxels, annotation blocks and model bundles are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_store_url: str
    """`file:///absolute/folder` or `s3://bucket/optional/prefix`."""
    s3_endpoint_url: str = ""
    """For example `http://minio:9000`; needed with `s3://`."""
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_timeout_s: float = Field(5.0, gt=0)
    """A request to S3 that brings no byte for so long is tried again, once or twice."""

    @field_validator("object_store_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(("file:///", "s3://")):
            raise ValueError("must start with file:/// or s3://")
        return value.rstrip("/")


class ServiceSettings(ObjectStoreSettings):
    """What every service needs."""

    listen: str = "127.0.0.1:0"
    """host:port of the gRPC server; port 0 takes a free one."""
    allow_insecure_listen: bool = False
    """Set in a cluster, where a NetworkPolicy guards the port; without it only loopback is accepted."""
    database_url: str
    """`sqlite+aiosqlite:////absolute/file` or `postgresql+psycopg://...`."""
    signing_key_file: Path
    public_keys_dir: Path
    mtls_certificate_file: Path | None = None
    """PEM of the certificate that names this service, and what leads to the authority of `mtls_ca_file`. With these
    three the services show each other certificates and encrypt what they say."""
    mtls_key_file: Path | None = None
    """Its key."""
    mtls_ca_file: Path | None = None
    """The authority that has signed the certificates of all services."""
    health_listen: str = ""
    """host:port that answers health checks alone and without TLS, for probes that know none; none when ''."""
    log_level: str = "INFO"
    log_format: str = "json"
    """`json` or `console`."""
    shutdown_grace_s: float = 10.0

    @field_validator("database_url")
    @classmethod
    def _async_driver(cls, value: str) -> str:
        # A plain PostgreSQL URL is what operators and secrets hold.
        for prefix in ("postgresql://", "postgres://"):
            if value.startswith(prefix):
                return "postgresql+psycopg://" + value.removeprefix(prefix)
        return value

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        files = (self.mtls_certificate_file, self.mtls_key_file, self.mtls_ca_file)
        if any(files) and not all(files):
            raise ValueError("MTLS_CERTIFICATE_FILE, MTLS_KEY_FILE and MTLS_CA_FILE must be set together")
        return self

    @classmethod
    def load(cls, service: str, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings of `service` from environment variables.

        Raises:
            InvalidArgument: BAD_SETTINGS, one line that names every unknown, missing or wrong variable.
        """
        environment = os.environ if environment is None else environment
        own_prefix = f"BIOSEGMENT_{service.upper()}__"
        values: dict[str, Any] = {}
        for name in ServiceSettings.model_fields:
            take_variable(environment, f"BIOSEGMENT_{name.upper()}", name, values)
        unknown = []
        for variable in environment:
            if variable.startswith(own_prefix):
                field = variable.removeprefix(own_prefix).removesuffix("_FILE").lower()
                whole = variable.removeprefix(own_prefix).lower()
                if field not in cls.model_fields and whole not in cls.model_fields:
                    unknown.append(variable)
        for name in cls.model_fields:
            take_variable(environment, own_prefix + name.upper(), name, values)
        if unknown:
            raise InvalidArgument(
                "BAD_SETTINGS", f"unknown settings of {service}: {', '.join(sorted(unknown))}"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = "; ".join(
                f"{own_prefix}{'__'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            )
            raise InvalidArgument("BAD_SETTINGS", f"settings of {service}: {wrong}") from error


def take_variable(environment: Mapping[str, str], variable: str, name: str, values: dict[str, Any]) -> None:
    """Put what `variable`, or the file that `<variable>_FILE` names, says into `values` under `name`.

    Raises:
        InvalidArgument: BAD_SETTINGS when the file cannot be read.
    """
    if variable in environment:
        values[name] = environment[variable]
    elif f"{variable}_FILE" in environment:
        path = Path(environment[f"{variable}_FILE"])
        try:
            values[name] = path.read_text().strip()
        except OSError as error:
            raise InvalidArgument("BAD_SETTINGS", f"{variable}_FILE: cannot read {path}: {error}") from error
