#!/bin/bash
# One-host Ceph (monitor, store in memory, radosgw) on 127.0.0.1 as a real S3 server for tests.
# Usage: RGW_PORT=... MON_PORT=... radosgw.sh start|stop STATE_FOLDER
# Needs the Debian packages radosgw, ceph-mon and ceph-osd (scripts/apt-packages.sh).
set -euo pipefail
command=$1
state=${2:?a state folder}

if [ "$command" = stop ]; then
    pids=$(cat "$state"/run/*.pid 2>/dev/null || true)
    [ -z "$pids" ] && exit 0
    # shellcheck disable=SC2086
    kill $pids 2>/dev/null || true
    for _ in $(seq 50); do
        # shellcheck disable=SC2086
        kill -0 $pids 2>/dev/null || exit 0
        sleep 0.1
    done
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null || true
    exit 0
fi

export CEPH_CONF=$state/ceph.conf
mkdir -p "$state"/{mon,osd/0,run,log}
fsid=$(cat /proc/sys/kernel/random/uuid)
cat > "$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$MON_PORT/0
ms bind ipv4 = true
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
# Authentication stays on: with "none" radosgw hangs at its start.
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
mon allow pool size one = true
run dir = $state/run
admin socket = $state/run/\$name.asok
pid file = $state/run/\$name.pid
log file = $state/log/\$name.log
keyring = $state/keyring
mon data avail crit = 1
ms type = async+posix
[mon]
mon data = $state/mon/a
mon initial members = a
[osd]
osd data = $state/osd/0
osd objectstore = memstore
memstore device bytes = 4G
osd memory target = 1G
osd class load list = *
osd class default list = *
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$RGW_PORT
rgw thread pool size = 32
rgw dns name = 127.0.0.1
rgw enable usage log = false
rgw relaxed s3 bucket names = true
CONF

keys() { ceph-authtool "$state/keyring" "$@" >/dev/null; }
keys --create-keyring --gen-key -n mon. --cap mon 'allow *'
for name in client.admin client.rgw osd.0; do
    keys --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
done
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$MON_PORT]" "$state/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$state/monmap" --keyring "$state/keyring"
ceph-mon -i a
osd=$(cat /proc/sys/kernel/random/uuid)
ceph --connect-timeout 20 osd new "$osd" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$osd" 2>/dev/null
ceph-osd -i 0
for _ in $(seq 60); do
    ceph osd stat 2>/dev/null | grep -q '1 up' && break
    sleep 0.5
done
timeout 90 radosgw -n client.rgw
for _ in $(seq 120); do
    (echo > "/dev/tcp/127.0.0.1/$RGW_PORT") 2>/dev/null && break
    sleep 0.5
done
radosgw-admin user create --uid=test --display-name=test --access-key=test-key --secret=test-secret >/dev/null
