"""Settings of the identity provider: `BIOSEGMENT_GATEWAY__OIDC_<FIELD>`."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class OidcSettings(BaseModel):
    """Any provider of OpenID Connect: Keycloak, Authentik, Dex, Entra, Google."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    oidc_issuer: str = ""
    """`https://keycloak.lab.org/realms/lab`, as its discovery document says it; no provider when ''."""
    oidc_name: str = "the lab's sign-in"
    """What the page calls it."""
    oidc_client_id: str = ""
    """Of the page; its redirect address is `{public_url}/auth/oidc/callback`."""
    oidc_client_secret: SecretStr = SecretStr("")
    """Better as a file (`_FILE`); '' for a public client."""
    oidc_device_client_id: str = ""
    """A public client with the device flow, for `biosegment login`; the page's when '' and that has no secret."""
    oidc_audience: str = ""
    """Audiences of access tokens that are taken, separated by commas, besides the client ids."""
    oidc_scopes: str = "openid profile email"
    oidc_device_scopes: str = "openid profile email offline_access"
    """Of `biosegment login`; `offline_access` is what many providers give refresh tokens for."""
    oidc_user_claim: str = "preferred_username"
    """Which claim a user's id is made from at the first sign-in, in lower case and with '-' for other characters."""
    oidc_admin_claim: str = ""
    """Dotted path of the claim that makes administrators, `realm_access.roles`; '' leaves that to the platform."""
    oidc_admin_value: str = ""
    """The value that it must have, or have among others."""
    oidc_create_users: bool = True
    """Make users at their first sign-in; otherwise an administrator makes them first."""
    oidc_password_grant: bool = False
    """Hand passwords from 3D Slicer's login dialog on to the provider, which must allow that (Keycloak: direct access
    grants)."""

    @field_validator("oidc_issuer")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not (
            parts.netloc
            and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))
        ):
            raise ValueError("must be an https:// address, or http:// on this machine")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("OIDC_ISSUER needs OIDC_CLIENT_ID")
        if self.oidc_issuer and "openid" not in self.oidc_scopes.split():
            raise ValueError("OIDC_SCOPES must have openid")
        if bool(self.oidc_admin_claim) != bool(self.oidc_admin_value):
            raise ValueError("OIDC_ADMIN_CLAIM and OIDC_ADMIN_VALUE go together")
        return self

    @property
    def oidc_device_client(self) -> str:
        """Client id of the device flow; '' when there is none."""
        return self.oidc_device_client_id or (
            "" if self.oidc_client_secret.get_secret_value() else self.oidc_client_id
        )

    @property
    def oidc_audiences(self) -> frozenset[str]:
        """For whom a token that is shown may be."""
        further = (each.strip() for each in self.oidc_audience.split(","))
        return frozenset({self.oidc_client_id, self.oidc_device_client, *further} - {""})
