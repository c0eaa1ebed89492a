#!/bin/bash
# Install the Debian packages that `make test-system` needs: a PostgreSQL server, Ceph radosgw as a real S3 server, and a
# browser for the pages.
# Does nothing when they are there; says what is missing, and succeeds, when it is not run as root.
set -euo pipefail

missing=()
[ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing+=(postgresql)
command -v radosgw >/dev/null || missing+=(radosgw)
command -v ceph-mon >/dev/null || missing+=(ceph-mon)
command -v ceph-osd >/dev/null || missing+=(ceph-osd)
command -v chromium >/dev/null || missing+=(chromium)

if [ ${#missing[@]} -eq 0 ]; then
    echo "Debian packages for the system tests: all there"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages: ${missing[*]}; the tests that need them will be skipped (install them as root)"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"
