"""The script that sets up the PostgreSQL component, run against a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.deploy.manifest import SERVICES
from tests.servers.postgres import postgres

pytestmark = pytest.mark.system
PASSWORDS = {service: f"it's \"{service}\" $HOME \\ :'service'" for service in SERVICES}


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server's first database, after the script has run."""
    folder = tmp_path_factory.mktemp("passwords")
    for service, password in PASSWORDS.items():
        (folder / service).write_text(password)
    with postgres() as url:
        place = urlsplit(url)
        environment = {
            "PATH": os.environ["PATH"],
            "PGHOST": str(place.hostname),
            "PGPORT": str(place.port),
            "POSTGRES_USER": str(place.username),
            "POSTGRES_PASSWORDS_DIR": str(folder),
        }
        script = root / "deploy/k8s/components/postgres/databases.sh"
        done = subprocess.run(
            ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        yield url


def _connect(server: str, user: str, database: str) -> psycopg.Connection:
    place = urlsplit(server)
    return psycopg.connect(
        host=place.hostname, port=place.port, user=user, dbname=database, connect_timeout=5
    )


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_may_make_tables_in_its_own_database(server: str, service: str) -> None:
    with _connect(server, service, service) as connection:
        connection.execute("CREATE TABLE probe (id integer)")
        connection.execute("DROP TABLE probe")


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_may_open_the_database_of_another(server: str, service: str) -> None:
    for other in set(SERVICES) - {service}:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            _connect(server, service, other)


def test_each_user_has_the_password_of_its_file_and_no_other_rights(server: str) -> None:
    query = (
        "SELECT rolname, rolpassword, rolsuper OR rolcreatedb OR rolcreaterole FROM pg_authid "
        "WHERE rolname = ANY(%s)"
    )
    with psycopg.connect(server) as connection:
        rows = connection.execute(query, [list(SERVICES)]).fetchall()
    assert {name for name, _, _ in rows} == set(SERVICES)
    for name, secret, is_mighty in rows:
        assert not is_mighty
        assert _is_password(PASSWORDS[name], secret)
        assert not _is_password("it's another", secret)


def _is_password(password: str, secret: str) -> bool:
    """Whether a SCRAM-SHA-256 secret (RFC 5802) was made from a password."""
    mechanism, salting, keys = secret.split("$")
    assert mechanism == "SCRAM-SHA-256"
    iterations, salt = salting.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return base64.b64decode(keys.split(":")[0]) == stored
