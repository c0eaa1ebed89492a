from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from biosegment.errors import InvalidArgument
from biosegment.settings import ServiceSettings

BASE = {
    "BIOSEGMENT_OBJECT_STORE_URL": "file:///data",
    "BIOSEGMENT_DATASTORE__DATABASE_URL": "sqlite+aiosqlite:////data/datastore.sqlite",
    "BIOSEGMENT_SIGNING_KEY_FILE": "/keys/datastore.key",
    "BIOSEGMENT_PUBLIC_KEYS_DIR": "/keys",
}


class DatastoreSettings(ServiceSettings):
    import_roots: int = 3


def _message(environment: dict[str, str]) -> str:
    with pytest.raises(InvalidArgument) as caught:
        DatastoreSettings.load("datastore", environment)
    assert caught.value.reason == "BAD_SETTINGS"
    assert "\n" not in caught.value.message
    return caught.value.message


def test_shared_and_own_variables_are_read_and_the_own_one_wins() -> None:
    settings = DatastoreSettings.load(
        "datastore", {**BASE, "BIOSEGMENT_LOG_LEVEL": "DEBUG", "BIOSEGMENT_DATASTORE__LOG_LEVEL": "ERROR"}
    )
    assert settings.log_level == "ERROR"
    assert settings.signing_key_file == Path("/keys/datastore.key")
    assert settings.import_roots == 3


def test_the_variables_of_other_services_and_programs_are_left_alone() -> None:
    DatastoreSettings.load("datastore", {**BASE, "BIOSEGMENT_TRAINER__NOTHING": "1", "HOME": "/root"})


def test_an_unknown_variable_is_named() -> None:
    assert "BIOSEGMENT_DATASTORE__DATABSE_URL" in _message({**BASE, "BIOSEGMENT_DATASTORE__DATABSE_URL": "x"})


def test_every_missing_variable_is_named() -> None:
    message = _message({})
    for field in ("OBJECT_STORE_URL", "DATABASE_URL", "SIGNING_KEY_FILE", "PUBLIC_KEYS_DIR"):
        assert f"BIOSEGMENT_DATASTORE__{field}" in message


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OBJECT_STORE_URL", "/data", "file:///"),
        ("OBJECT_STORE_URL", "http://minio", "s3://"),
        ("SHUTDOWN_GRACE_S", "soon", "number"),
        ("IMPORT_ROOTS", "many", "integer"),
        ("ALLOW_INSECURE_LISTEN", "perhaps", "boolean"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(variable: str, value: str, expected: str) -> None:
    message = _message({**BASE, f"BIOSEGMENT_DATASTORE__{variable}": value})
    assert f"BIOSEGMENT_DATASTORE__{variable}" in message
    assert expected in message


def test_a_wrong_secret_is_not_repeated() -> None:
    message = _message(
        {
            **BASE,
            "BIOSEGMENT_S3_SECRET_ACCESS_KEY": "swordfish",
            "BIOSEGMENT_OBJECT_STORE_URL": "ftp://a:sesame@b",
        }
    )
    assert "swordfish" not in message
    assert "sesame" not in message


def test_secrets_may_come_from_files_and_are_not_printed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("swordfish\n")
    settings = DatastoreSettings.load(
        "datastore", {**BASE, "BIOSEGMENT_S3_SECRET_ACCESS_KEY_FILE": str(secret)}
    )
    assert settings.s3_secret_access_key.get_secret_value() == "swordfish"
    assert "swordfish" not in repr(settings)


def test_a_field_may_itself_end_in_file(tmp_path: Path) -> None:
    settings = DatastoreSettings.load(
        "datastore", {**BASE, "BIOSEGMENT_DATASTORE__SIGNING_KEY_FILE": "/own/datastore.key"}
    )
    assert settings.signing_key_file == Path("/own/datastore.key")


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    message = _message(
        {**BASE, "BIOSEGMENT_DATASTORE__DATABASE_URL_FILE": "/x", "BIOSEGMENT_LOG_LEVEL_FILE": "/y"}
    )
    assert "BIOSEGMENT_LOG_LEVEL_FILE" in message


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_plain_postgresql_url_gets_the_driver(scheme: str) -> None:
    settings = DatastoreSettings.load(
        "datastore", {**BASE, "BIOSEGMENT_DATASTORE__DATABASE_URL": f"{scheme}://a@b/c"}
    )
    assert settings.database_url == "postgresql+psycopg://a@b/c"


def test_settings_do_not_change() -> None:
    settings = DatastoreSettings.load("datastore", BASE)
    with pytest.raises(ValidationError):
        settings.listen = "0.0.0.0:1"  # type: ignore[misc]
