#!/usr/bin/env bash
# Ceph's S3 gateway refuses the entity tag that it has just given out.
#
# One would guess: `If-Match` with the ETag of the last answer, in its quotation marks as RFC 9110 wants it, is true while nobody
# changes the object, so a conditional PUT succeeds.
# What happens: the gateway compares the header as it stands with a tag that has no quotation marks. With them each PUT is 412, so
# a loop of compare-and-set never ends; without them the right tag is 200 and a wrong one 412.
# Debian 12: radosgw 16.2.15.
#
# Starts a monitor, a manager, one OSD in memory and the gateway on 127.0.0.1 in a temporary folder. Ends with 1 where it is otherwise.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

if ! command -v radosgw >/dev/null || ! command -v curl >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        radosgw ceph-mon ceph-mgr ceph-osd ceph-common ceph-base curl python3
fi
radosgw --version

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port) monitor=$(free_port) fsid=6c3f1d3e-58a5-4b5b-8d63-0d4b9e9d0f02 conf=$work/ceph.conf
mkdir "$work"/{mon,mgr,osd,run}
cat >"$conf" <<CONF
[global]
fsid = $fsid
run dir = $work/run
admin socket = $work/run/\$name.asok
pid file = $work/run/\$name.pid
log file = $work/\$name.log
public addr = 127.0.0.1
cluster addr = 127.0.0.1
mon host = [v2:127.0.0.1:$monitor]
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
mon allow pool size one = true
mon max pg per osd = 1000
mgr initial modules =
[mon.a]
mon data = $work/mon
[mgr.a]
mgr data = $work/mgr
[osd.0]
osd data = $work/osd
[client.rgw]
rgw data = $work/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
CONF
until_ok() { timeout 120 bash -c "until $1; do sleep 0.5; done" >/dev/null 2>&1; }
{
    monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor]" "$work/monmap"
    ceph-mon --mkfs -i a --monmap "$work/monmap" -c "$conf"
} >"$work/out" 2>&1
ceph-mon -f -i a -c "$conf" >>"$work/out" 2>&1 &
until_ok "ceph -c $conf --connect-timeout 5 mon stat"
ceph-mgr -f -i a -c "$conf" >>"$work/out" 2>&1 &
ceph -c "$conf" osd create >>"$work/out" 2>&1
ceph-osd -i 0 --mkfs -c "$conf" >>"$work/out" 2>&1
ceph-osd -f -i 0 -c "$conf" >>"$work/out" 2>&1 &
until_ok "ceph -c $conf osd stat | grep -q '1 up'"
radosgw-admin -c "$conf" user create --uid=u --display-name=u --access-key=key --secret-key=secret >>"$work/out" 2>&1
radosgw -f -n client.rgw -c "$conf" >>"$work/out" 2>&1 &
until_ok "curl --silent --output /dev/null http://127.0.0.1:$port/"

python3 - "127.0.0.1:$port" <<'PY'
import datetime, hashlib, hmac, http.client, sys

def send(path, body=b"", condition=None):
    """A PUT signed with version 4; returns its status and the ETag of the answer."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    digest, scope = hashlib.sha256(body).hexdigest(), f"{now[:8]}/us-east-1/s3/aws4_request"
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"PUT\n{path}\n\nhost:{sys.argv[1]}\nx-amz-content-sha256:{digest}\nx-amz-date:{now}\n\n{names}\n{digest}"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4secret"
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers = {"x-amz-date": now, "x-amz-content-sha256": digest, "authorization":
               f"AWS4-HMAC-SHA256 Credential=key/{scope}, SignedHeaders={names}, Signature={signature}"}
    if condition:
        headers["if-match"] = condition
    connection = http.client.HTTPConnection(sys.argv[1])
    connection.request("PUT", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers.get("etag")

send("/bucket")
_, etag = send("/bucket/object", b"one")
print("the ETag in the answer:", etag)
bare, seen = etag.strip('"'), []
for condition in [f'"{bare}"', bare, "0" * 32]:
    seen.append(send("/bucket/object", b"one", condition)[0])
    print(f"PUT with If-Match: {condition:<34} {seen[-1]}")
sys.exit(seen != [412, 200, 412])
PY
