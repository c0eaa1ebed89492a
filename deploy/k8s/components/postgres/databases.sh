#!/bin/bash
# Runs once, when the data folder is empty: a database and a user for each service, closed to the others.
set -euo pipefail
passwords="${POSTGRES_PASSWORDS_DIR:-/etc/postgres-passwords}"

for service in datastore sampler trainer gateway; do
  psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
    --set=service="$service" --set=password="$(<"${passwords}/${service}")" <<'SQL'
CREATE ROLE :"service" LOGIN PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done
