from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from biosegment.settings import ObjectStoreSettings


@dataclass(frozen=True, slots=True)
class S3Server:
    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"

    def settings(self, bucket: str, prefix: str = "") -> ObjectStoreSettings:
        return ObjectStoreSettings(
            object_store_url=f"s3://{bucket}/{prefix}",
            s3_endpoint_url=self.endpoint_url,
            s3_region=self.region,
            s3_access_key_id=self.access_key_id,
            s3_secret_access_key=SecretStr(self.secret_access_key),
        )
