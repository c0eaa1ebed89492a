"""Settings of the gateway: `BIOSEGMENT_GATEWAY__<FIELD>`."""

from __future__ import annotations

from biosegment.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway needs besides the settings of every service."""

    datastore_address: str
    """host:port or any gRPC target, `dns:///datastore:50051`."""
    sampler_address: str
    trainer_address: str
    http_listen: str = "127.0.0.1:0"
    """host:port of the web page, the JSON endpoints and OME-Zarr; port 0 takes a free one."""
    admin_token_file: str = ""
    """Where an API token of the administrator is written at first start, readable by its owner only; none when ''."""
    address_file: str = ""
    """Where the addresses that were really taken are written, as JSON `{"grpc": ..., "http": ...}`; none when ''."""
    max_requests: int = 2048
    """gRPC calls and streams at a time; more end with RESOURCE_EXHAUSTED."""
    max_http_requests: int = 256
    """HTTP connections and requests at a time; more are answered with 503."""
    allowed_origins: str = ""
    """Origins whose web pages may read OME-Zarr and the JSON endpoints, separated by commas; none when ''."""

    @property
    def origins(self) -> tuple[str, ...]:
        """`allowed_origins`, split."""
        return tuple(origin.strip() for origin in self.allowed_origins.split(",") if origin.strip())
