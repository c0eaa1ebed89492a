#!/bin/bash
# Install the npm packages that `make test-system` needs: a real OpenID Connect provider, for tests/system/test_oidc.py.
# Does nothing when they are there; says what is missing, and succeeds, when there is no npm and it is not run as root.
set -euo pipefail
cd "$(dirname "$0")/.."

place=tests/system/oidc
if [ "$place/node_modules/.package-lock.json" -nt "$place/package-lock.json" ]; then
    echo "npm packages for the system tests: all there"
    exit 0
fi
if ! command -v npm >/dev/null; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing: npm; the tests that need it will be skipped (install nodejs and npm)"
        exit 0
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends nodejs npm
fi
npm ci --prefix "$place" --no-audit --no-fund --loglevel error
