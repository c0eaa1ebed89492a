"""Settings of the gateway: `BIOSEGMENT_GATEWAY__<FIELD>`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from biosegment.settings import ServiceSettings
from biosegment.volume import Index
from biosegment_gateway.accounts.oidc_settings import OidcSettings
from biosegment_gateway.peer import parse_networks

MAX_PART_VOXELS = 1 << 24
"""Of an image for MONAI Label clients: what one interactive segmentation takes."""


class GatewaySettings(OidcSettings, ServiceSettings):
    """What the gateway needs besides the settings of every service."""

    datastore_address: str
    """host:port or any gRPC target, `dns:///datastore:50051`."""
    sampler_address: str
    trainer_address: str
    http_listen: str = "127.0.0.1:0"
    """host:port of the web page, the JSON endpoints and OME-Zarr; port 0 takes a free one."""
    tls_certificate_file: Path | None = None
    """PEM of the certificate of both public ports, and what leads to its authority; nothing is encrypted without."""
    tls_key_file: Path | None = None
    """Its key. Both files are read again when they change."""
    admin_token_file: str = ""
    """Where an API token of the administrator is written at first start, readable by its owner only; none when ''."""
    address_file: str = ""
    """Where the addresses that were really taken are written, as JSON `{"grpc": ..., "http": ...}`; none when ''."""
    max_requests: int = 2048
    """gRPC calls and streams at a time; more end with RESOURCE_EXHAUSTED."""
    max_http_requests: int = Field(default=1024, ge=1)
    """HTTP requests at a time, streams of events among them; more are answered with 503."""
    max_http_connections: int = Field(default=4096, ge=16)
    """HTTP connections at a time; above it those that wait longest for a request are closed."""
    max_event_streams: int = Field(default=16, gt=0)
    """Streams of server-sent events of one user at a time; more are answered with 429."""
    allowed_origins: str = ""
    """Origins whose web pages may read OME-Zarr and the JSON endpoints, separated by commas; none when ''."""
    tile_cache_bytes: int = Field(default=64 << 20, ge=0)
    """Memory for image tiles that were drawn; the least recently used go first."""
    user_requests_per_s: float = Field(default=1000.0, ge=0)
    """Requests of one user over gRPC and HTTP, in the long run; more end with RATE_LIMITED. 0 for any number."""
    user_request_burst: int = Field(default=5000, ge=1)
    """Requests of one user that may come at once."""
    user_requests_at_once: int = Field(default=1024, ge=0)
    """Requests and streams of one user that may run at a time; more end with TOO_MANY_AT_ONCE. 0 for any number."""
    trusted_proxies: str = ""
    """Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count, separated by commas."""
    audit_keep_days: float = Field(default=0.0, ge=0)
    """Events of the audit log that are older are removed; 0 keeps all."""
    view_link_max_s: int = Field(default=7 * 86400, gt=0)
    """Longest life of a link for viewers; docs/viewers.md says what ends one before."""
    monailabel_project: str = ""
    """Id of the project that MONAI Label clients find at the root too, for those that know no path; none when ''."""
    monailabel_auth: Literal["on", "off"] = "on"
    """`off`: MONAI Label clients need not sign in and act as the administrator; only if `http_listen` is loopback."""
    monailabel_dir: str = ""
    """Folder of image files that were made and of sessions; in a cluster one that all replicas see. A folder that ends
    with the process when ''."""
    monailabel_cache_bytes: int = Field(default=10 << 30, gt=0)
    """Of image files that are kept; the least recently used go first."""
    monailabel_part: str = "64,512,512"
    """Largest voxels (z,y,x) of an image for MONAI Label clients, where the project does not say; larger volumes are
    offered in parts."""
    monailabel_unit: Literal["mm", "um", "nm"] = "mm"
    """What a number in the geometry of image files stands for. 3D Slicer takes all of them for mm."""
    monailabel_format: Literal["nrrd", "nii.gz"] = "nrrd"
    """Of image files."""
    monailabel_session_s: float = Field(default=3600.0, gt=0)
    """A session of an image that a client sent ends when nobody has used it for so long."""
    monailabel_max_body_bytes: int = Field(default=1 << 30, gt=0)
    """Largest body of a request to the MONAI Label API; more is answered with 413."""
    monailabel_link_s: float = Field(default=8 * 3600.0, gt=0)
    """How long the name of an image that was given to somebody fetches it without a token; see docs/monailabel.md."""

    public_url: str = ""
    """Where browsers find the HTTP port, `https://biosegment.lab.org`; as they ask for it when ''."""
    password_sign_in: Literal["on", "off"] = "on"
    """`off`: local users sign in with API tokens alone, or through the identity provider."""
    session_idle_s: float = Field(default=86_400.0, gt=0)
    """A session that was not used for so long is over."""
    session_lifetime_s: float = Field(default=14 * 86_400.0, gt=0)
    """So is one that is so old, however much it is used."""

    @field_validator("public_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (
            parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/")
        ):
            raise ValueError("must be http(s)://host[:port], without a path")
        return value.rstrip("/")

    @field_validator("monailabel_part")
    @classmethod
    def _three_sizes(cls, value: str) -> str:
        parse_part(value)
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERTIFICATE_FILE and TLS_KEY_FILE must be set together")
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def origins(self) -> tuple[str, ...]:
        """`allowed_origins`, split."""
        return tuple(origin.strip() for origin in self.allowed_origins.split(",") if origin.strip())


def parse_part(text: str) -> Index:
    """`z,y,x` of a part in voxels; ValueError says what is wrong."""
    sizes = [int(each) for each in text.split(",")] if text.replace(",", "").isdecimal() else []
    if len(sizes) != 3 or not all(16 <= size <= 4096 for size in sizes):
        raise ValueError(f"{text!r} must be three numbers z,y,x of 16 to 4096 voxels")
    if sizes[0] * sizes[1] * sizes[2] > MAX_PART_VOXELS:
        raise ValueError(f"{text!r} has more than {MAX_PART_VOXELS} voxels, which one label may have")
    return Index(*sizes)
